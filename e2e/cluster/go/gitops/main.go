// Command gitops tells what pipelines make of objects: Argo CD by a Lua health script, run in its interpreter and with the
// libraries that it gives one, and Flux by its own kstatus.
//
//	gitops SCRIPT... <objects.json
//
// Standard input is a JSON array of objects. Each script is tried on all of them. Printed is a JSON array with, for each
// object, "argo" (a list, one for each script) and "kstatus", each with status and message.
package main

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/json"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type told struct {
	Argo    []verdict `json:"argo"`
	Kstatus verdict   `json:"kstatus"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}

func run(files []string, in io.Reader, out io.Writer) error {
	var scripts []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		scripts = append(scripts, string(text))
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	// Whole numbers stay whole, as in what the API server gives.
	var objects []map[string]any
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &objects); err != nil {
		return err
	}
	all := []told{}
	for _, object := range objects {
		one := told{Argo: []verdict{}}
		for _, script := range scripts {
			said, err := argo(script, object)
			if err != nil {
				return err
			}
			one.Argo = append(one.Argo, said)
		}
		result, err := status.Compute(&unstructured.Unstructured{Object: object})
		if err != nil {
			return err
		}
		one.Kstatus = verdict{Status: string(result.Status), Message: result.Message}
		all = append(all, one)
	}
	return stdjson.NewEncoder(out).Encode(all)
}

// argo runs a script with what Argo CD gives one that is not its own: base and table, no string, and one second.
func argo(script string, object map[string]any) (verdict, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return verdict{}, err
		}
	}
	within, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(within)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return verdict{}, errors.New("the script gives no table")
	}
	said := verdict{Status: lua.LVAsString(table.RawGetString("status")), Message: lua.LVAsString(table.RawGetString("message"))}
	switch said.Status {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
		return said, nil
	}
	return verdict{}, fmt.Errorf("%q is no health of Argo CD's", said.Status)
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	case string:
		return lua.LString(from)
	case []any:
		table := state.CreateTable(len(from), 0)
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(from))
		for key, item := range from {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
