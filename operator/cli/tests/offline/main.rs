//! `check`, `diff` and `explain` as processes, on files: verdicts, output and exit statuses. No cluster is there.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong fails the test"
)]

mod live;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn files(name: &str) -> String {
    format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-redoubt"));
    command.args(arguments).env("KUBECONFIG", "/nonexistent").output().unwrap()
}

/// Exit status and the JSON of standard output.
fn json(arguments: &[&str]) -> (i32, Value) {
    let output = run(&[arguments, &["-o", "json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?} {said:?}"));
    (output.status.code().unwrap(), value)
}

/// A copy of the good files, to be altered.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let to = std::env::temp_dir().join(format!("redoubt-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&to);
        copy(Path::new(&files("good")), &to);
        Self(to)
    }

    fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        self
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn good_files_pass() {
    let (status, report) =
        json(&["check", "-f", &files("good"), "--against", &files("platform/snapshot.yaml")]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["passed"], true);
    assert_eq!((&report["checked"], &report["ignored"]), (&4.into(), &1.into()));
    let agent = &report["agents"][0];
    assert_eq!(
        agent["selectedBy"],
        serde_json::json!(["ClusterAgentPolicy/no-admin", "EgressPolicy/helper"])
    );
    assert_eq!(agent["effective"].as_array().unwrap().len(), 2, "{agent:#}");
    let refused = &agent["refused"][0];
    assert_eq!(refused["decidedBy"], "ClusterAgentPolicy/no-admin spec.denies[0]", "{agent:#}");
    // The platform's own files pass too.
    assert_eq!(json(&["check", "-f", &files("platform")]).0, 0);
}

#[test]
fn each_fault_is_named_by_object_and_field() {
    let egress = "EgressPolicy/helper";
    for (file, from, to, object, field, reason) in [
        // Forms: what the definitions say.
        (
            "policy.json",
            "\"paths\": [\"/**\"]",
            "\"path\": [\"/**\"]",
            egress,
            "spec.allow[1].path",
            "Invalid",
        ),
        (
            "policy.json",
            "\"matchLabels\"",
            "\"matchLabel\"",
            egress,
            "spec.agentSelector.matchLabel",
            "Invalid",
        ),
        ("agent.yaml", "kind: Agent\n", "kind: Agent\nspecs: {}\n", "Agent/helper", "specs", "Invalid"),
        (
            "tools/notes.yaml",
            "effect: Read",
            "effect: Reed",
            "Tool/notes",
            "spec.http.functions[0].effect",
            "Invalid",
        ),
        (
            "tools/notes.yaml",
            "name: get_note",
            "name: Get",
            "Tool/notes",
            "spec.http.functions[0].name",
            "Invalid",
        ),
        ("agent.yaml", "redoubt.dev/v1alpha1", "redoubt.dev/v1", "Agent/helper", "apiVersion", "Invalid"),
        ("agent.yaml", "kind: Agent", "kind: Agnet", "Agnet/helper", "kind", "Invalid"),
        // Meanings: what the operator says.
        ("policy.json", "\"/**\"", "\"/x/**/y\"", egress, "spec.allow[1].paths[0]", "Invalid"),
        (
            "policy.json",
            "\"notes.example.com\"",
            "\"**.example.com\"",
            egress,
            "spec.allow[1].hosts[0]",
            "Invalid",
        ),
        (
            "policy.json",
            "\"models\"",
            "\"nobody\"",
            egress,
            "spec.allow[0].hostSets[0].name",
            "ReferenceNotFound",
        ),
        (
            "agent.yaml",
            "{name: notes}",
            "{name: nots}",
            "Agent/helper",
            "spec.tools[0].name",
            "ReferenceNotFound",
        ),
        (
            "tools/notes.yaml",
            "path: team/notes",
            "path: other/notes",
            "SecretBinding/notes-token",
            "spec.vault.kv2.path",
            "VaultPathNotGranted",
        ),
        (
            "agent.yaml",
            "spec:\n",
            "spec:\n  isolationClassName: gone\n",
            "Agent/helper",
            "spec.isolationClassName",
            "ReferenceNotFound",
        ),
    ] {
        let copy = Copy::new("faults");
        copy.replace(file, from, to);
        let (status, report) =
            json(&["check", "-f", copy.path(), "--against", &files("platform/snapshot.yaml")]);
        assert_eq!(status, 1, "{to}: {report:#}");
        let problems = report["problems"].as_array().unwrap();
        let found = problems.iter().find(|problem| {
            problem["object"] == object && problem["field"] == field && problem["reason"] == reason
        });
        let found = found.unwrap_or_else(|| panic!("{to}: no {reason} of {object} {field} in {report:#}"));
        assert!(found["file"].as_str().unwrap().ends_with(file), "{found:#}");
        assert!(!found["help"].as_str().unwrap().is_empty(), "{found:#}");
    }
}

#[test]
fn what_cannot_be_judged_is_neither_good_nor_bad() {
    let good = files("good");
    let empty = std::env::temp_dir().join(format!("redoubt-cli-{}-empty", std::process::id()));
    std::fs::create_dir_all(&empty).unwrap();
    for arguments in [
        &["check", "-f", "/nonexistent"][..],
        &["check", "-f", empty.to_str().unwrap()],
        &["check", "-f", &good, "--against", "/nonexistent"],
        &["explain", "nobody", "-n", "team", "-f", &good],
        &["explain", "helper", "GET", "ftp://x", "-n", "team", "-f", &good],
        &["snapshot"],
        &["explain", "helper"],
        &["why", "helper"],
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
    }
    std::fs::remove_dir_all(&empty).unwrap();
    // Without the platform's objects the references dangle, and the note says why.
    let (status, report) = json(&["check", "-f", &good]);
    assert_eq!(status, 1);
    assert!(report["notes"][0].as_str().unwrap().contains("--against"), "{report:#}");
    // A file that is no YAML is a fault of the files.
    let copy = Copy::new("syntax");
    copy.replace("agent.yaml", "kind: Agent", "kind: [Agent");
    assert_eq!(json(&["check", "-f", copy.path()]).0, 1);
    // The same object twice is one too many.
    std::fs::copy(Path::new(&good).join("policy.json"), copy.0.join("again.json")).unwrap();
    let (_, report) = json(&["check", "-f", copy.path()]);
    assert!(report.to_string().contains("again.json too"), "{report:#}");
}

#[test]
fn diff_tells_widening_from_narrowing() {
    let good = files("good");
    let snapshot = files("platform/snapshot.yaml");
    let diff = |a: &str, b: &str| json(&["diff", a, b, "--against", &snapshot, "--fail-on-widening"]);
    let (status, report) = diff(&good, &good);
    assert_eq!((status, &report["widened"], &report["narrowed"]), (0, &false.into(), &false.into()));

    for (file, from, to, added) in [
        // A request.
        (
            "tools/notes.yaml",
            "method: DELETE\n      path: /admin/notes",
            "method: DELETE\n      path: /notes",
            "DELETE https://notes.example.com/notes",
        ),
        // Addresses of a private range.
        (
            "policy.json",
            "\"paths\": [\"/**\"]",
            "\"paths\": [\"/**\"], \"privateCIDRs\": [\"10.0.0.0/8\"]",
            "at addresses in 10.0.0.0/8",
        ),
        // Another credential.
        ("tools/notes.yaml", "key: token", "key: root", "key root of secret/team/notes"),
        // Another caller.
        ("agent.yaml", "{name: alice}", "{name: mallory}", "called by system:serviceaccount:team:mallory"),
    ] {
        let copy = Copy::new("diff");
        copy.replace(file, from, to);
        let (status, report) = diff(&good, copy.path());
        assert_eq!(status, 1, "{to}: {report:#}");
        let lines = report["agents"][0]["added"].as_array().unwrap();
        let found = lines.iter().any(|line| line["what"].as_str().unwrap().contains(added));
        assert!(found, "{added}: {report:#}");
    }

    // A narrower grant is no widening, and the way back is one.
    let copy = Copy::new("narrow");
    copy.replace("policy.json", "\"/**\"", "\"/notes/7\"");
    let (status, report) = diff(&good, copy.path());
    assert_eq!(
        (status, &report["widened"], &report["narrowed"]),
        (0, &false.into(), &true.into()),
        "{report:#}"
    );
    assert_eq!(diff(copy.path(), &good).0, 1);

    // Of what cannot be compiled nothing is said.
    copy.replace("policy.json", "\"models\"", "\"nobody\"");
    assert_eq!(diff(&good, copy.path()).0, 2);
}

#[test]
fn a_deny_that_goes_is_a_widening() {
    let good = files("good");
    let copy = Copy::new("deny");
    copy.replace(
        "policy.json",
        "\"allow\"",
        "\"deny\": [{\"hosts\": [\"*\"], \"paths\": [\"/notes/9\"]}], \"allow\"",
    );
    let snapshot = files("platform/snapshot.yaml");
    let diff = |a: &str, b: &str| json(&["diff", a, b, "--against", &snapshot, "--fail-on-widening"]);
    assert_eq!(diff(&good, copy.path()).0, 0);
    let (status, report) = diff(copy.path(), &good);
    assert_eq!(status, 1, "{report:#}");
    let what = report["agents"][0]["added"][0]["what"].as_str().unwrap();
    assert!(what.contains("/notes/9") && what.contains("EgressPolicy/helper spec.deny[0]"), "{report:#}");
}

#[test]
fn explain_names_who_decides() {
    let (good, snapshot) = (files("good"), files("platform/snapshot.yaml"));
    let explain = |method: &str, url: &str, from: &[&str]| {
        let head = ["explain", "helper", method, url, "-n", "team", "--against", &snapshot, "-f", &good];
        json(&[&head, from].concat())
    };
    let (status, report) = explain("GET", "https://notes.example.com/notes/7?x=1", &["--from", "notes"]);
    let decision = &report["decision"];
    assert_eq!((status, &decision["allowed"]), (0, &true.into()), "{report:#}");
    assert_eq!(decision["grantedBy"], "EgressPolicy/helper spec.allow[1]");
    assert_eq!(decision["neededBy"], "Tool/notes spec.http.functions[0]");
    assert!(decision["credential"].as_str().unwrap().starts_with("SecretBinding/notes-token"));

    for (method, url, from, reason, object) in [
        (
            "DELETE",
            "https://notes.example.com/admin/notes",
            &["--from", "notes"][..],
            "Denied",
            "ClusterAgentPolicy/no-admin",
        ),
        ("PUT", "https://notes.example.com/notes/7", &["--from", "notes"], "MethodNotAllowed", "Tool/notes"),
        ("GET", "https://notes.example.com/notes/7", &[], "NotDeclared", "Agent/helper"),
    ] {
        let (status, report) = explain(method, url, from);
        assert_eq!(status, 1, "{report:#}");
        let refusal = &report["decision"]["refusal"];
        assert_eq!((&refusal["reason"], &refusal["object"]), (&reason.into(), &object.into()), "{report:#}");
    }
    let (status, report) = json(&["explain", "helper", "-n", "team", "--against", &snapshot, "-f", &good]);
    assert_eq!((status, report["policy"]["effective"].as_array().unwrap().len()), (0, 2), "{report:#}");
}

#[test]
fn what_a_file_says_cannot_repaint_a_terminal() {
    let copy = Copy::new("paint");
    copy.replace("agent.yaml", "{name: notes}", "{name: \"n\\e[2J\"}");
    let output = run(&["check", "-f", copy.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.contains(&0x1b), "{}", String::from_utf8_lossy(&output.stdout));
}
