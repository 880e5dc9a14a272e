// Command probe is what the cluster's selftest runs in pods: a web server, and one-line questions asked from inside.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: probe serve ADDRESS | wait | lookup NAME | get URL | vault ADDRESS CA TOKEN-FILE ROLE PATH")
	}
	switch {
	case args[0] == "serve" && len(args) == 2:
		return http.ListenAndServe(args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _ := os.Hostname()
			fmt.Fprintf(w, "hello from %s\n", host)
		}))
	case args[0] == "wait":
		fmt.Println("waiting")
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
		<-end
		return nil
	case args[0] == "lookup" && len(args) == 2:
		addresses, err := net.LookupHost(args[1])
		if err != nil {
			return err
		}
		fmt.Println(strings.Join(addresses, " "))
		return nil
	case args[0] == "get" && len(args) == 2:
		return show((&http.Client{Timeout: 5 * time.Second}).Get(args[1]))
	case args[0] == "vault" && len(args) == 6:
		return vault(args[1], args[2], args[3], args[4], args[5])
	}
	return fmt.Errorf("unknown command %q", args)
}

// vault logs in with the pod's token and prints what it may read at path.
func vault(address, ca, tokenFile, role, path string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	jwt, err := os.ReadFile(tokenFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + ca)
	}
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	body, err := json.Marshal(map[string]string{"role": role, "jwt": string(jwt)})
	if err != nil {
		return err
	}
	response, err := client.Post(address+"/v1/auth/kubernetes/login", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var login struct {
		Errors []string
		Auth   struct {
			ClientToken string `json:"client_token"`
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&login); err != nil {
		return err
	}
	if login.Auth.ClientToken == "" {
		return fmt.Errorf("login refused: %d %v", response.StatusCode, login.Errors)
	}
	request, err := http.NewRequest(http.MethodGet, address+"/v1/"+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Vault-Token", login.Auth.ClientToken)
	return show(client.Do(request))
}

func show(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}
