//! The binary as the pod starts it, before a stand-in for the sidecar.

use crate::rig::{Directory, as_agent, sidecar};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The jail with the probe as its command.
fn jailed(directory: &Directory, command: &mut Command, verdict: &Path) -> Output {
    let neighbour = Directory::new();
    let file = neighbour.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    command.arg("--verdict").arg(verdict).arg("--allow-write").arg(directory.path());
    command.arg("--allow-write").arg(&file).arg("--").arg(directory.program("tokio_probe"));
    command.arg(directory.path()).arg(verdict).arg(&file).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The report is one line of JSON on standard error, and the command did not run.
fn refused(output: &Output) -> serde_json::Value {
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(1), String::new()),
        "{}",
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[test]
fn a_tokio_program_runs_and_gets_no_way_out() {
    let directory = Directory::new();
    let socket = directory.path().join("egress.sock");
    let verdict = sidecar(&socket, "200 OK");
    // A shell leaves descriptor 9 open, as a careless parent would.
    let mut command = as_agent(Path::new("/bin/sh"));
    command.args(["-c", "exec 9</etc/passwd; exec \"$@\"", "sh"]).arg(directory.program("redoubt-jail"));
    let output = jailed(&directory, &mut command, &socket);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 16, "{said}");
    let verdict = verdict.join().unwrap();
    assert_eq!(verdict["nonce"], "n-1");
    assert_eq!(verdict["passed"], true);
    let checks = verdict["checks"].as_array().unwrap();
    assert!(checks.len() > 60 && checks.iter().all(|check| check["passed"] == true), "{checks:?}");
}

#[test]
fn no_start_when_the_sidecar_does_not_take_the_verdict() {
    let directory = Directory::new();
    let socket = directory.path().join("egress.sock");
    let verdict = sidecar(&socket, "409 Conflict");
    let output = jailed(&directory, &mut as_agent(&directory.program("redoubt-jail")), &socket);
    let report = refused(&output);
    assert_eq!((&report["reason"], &report["object"]), (&"VerdictNotTaken".into(), &"Pod".into()));
    verdict.join().unwrap();
}

#[test]
fn no_start_when_an_attempt_ends_otherwise_than_it_should() {
    let directory = Directory::new();
    let socket = directory.path().join("egress.sock");
    let verdict = sidecar(&socket, "200 OK");
    let mut under = as_agent(&directory.program("under"));
    let output =
        jailed(&directory, under.arg("kill-unshare").arg(directory.program("redoubt-jail")), &socket);
    let report = refused(&output);
    assert_eq!((&report["reason"], &report["field"]), (&"SelfTestFailed".into(), &"namespaces".into()));
    let verdict = verdict.join().unwrap();
    assert_eq!(verdict["passed"], false);
    let named = |name: &str| {
        verdict["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
    };
    assert_eq!(named("namespaces")["passed"], false);
    assert_eq!(named("socket-inet")["passed"], true);
}

#[test]
fn no_start_without_landlock() {
    let directory = Directory::new();
    let mut under = as_agent(&directory.program("under"));
    let output = jailed(
        &directory,
        under.arg("no-landlock").arg(directory.program("redoubt-jail")),
        Path::new("/none"),
    );
    let report = refused(&output);
    assert_eq!((&report["reason"], &report["field"]), (&"JailUnsupported".into(), &"landlock".into()));
}

#[test]
fn no_start_with_an_internet_socket_at_hand() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let directory = Directory::new();
    let mut command = as_agent(&directory.program("redoubt-jail"));
    let output = jailed(
        &directory,
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(stream))),
        Path::new("/none"),
    );
    assert_eq!(refused(&output)["reason"], "JailFailed");
}

#[test]
fn no_start_with_paths_that_open_everything_or_nothing() {
    let check = |path: &str| {
        let directory = Directory::new();
        let mut command = as_agent(&directory.program("redoubt-jail"));
        let report = refused(&jailed(&directory, command.args(["--allow-read", path]), Path::new("/none")));
        assert_eq!((&report["reason"], &report["field"]), (&"JailFailed".into(), &path.into()));
    };
    check("/");
    check("/proc/..");
    check("relative");
    check("/does/not/exist");
}

#[test]
fn a_filter_of_the_container_runtime_does_not_hide_the_jails() {
    let directory = Directory::new();
    let mut under = as_agent(&directory.program("under"));
    let output = under
        .arg("not-permitted")
        .arg(directory.program("redoubt-jail"))
        .arg("--self-test")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn no_start_with_arguments_that_are_not_understood() {
    let directory = Directory::new();
    let mut command = as_agent(&directory.program("redoubt-jail"));
    let report = refused(&command.args(["--allow-everything", "--", "/bin/true"]).output().unwrap());
    assert_eq!((&report["reason"], &report["field"]), (&"JailFailed".into(), &"arguments".into()));
    assert_eq!(report["message"], "error: unexpected argument '--allow-everything' found");
}

#[test]
fn no_start_of_another_file_than_a_static_program() {
    let directory = Directory::new();
    let socket = directory.path().join("egress.sock");
    let verdict = sidecar(&socket, "200 OK");
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = as_agent(&directory.program("redoubt-jail"));
    command.arg("--verdict").arg(&socket).arg("--").arg(script);
    let output = command.output().unwrap();
    assert_eq!(refused(&output)["reason"], "CommandNotStarted");
    verdict.join().unwrap();
}

#[test]
fn the_table_for_people() {
    let directory = Directory::new();
    let output = as_agent(&directory.program("redoubt-jail")).arg("--self-test").output().unwrap();
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}");
    assert!(table.contains("refused  socket-mptcp") && table.trim_end().ends_with(" 0 open"), "{table}");
    let mut under = as_agent(&directory.program("under"));
    let output =
        under.arg("kill-unshare").arg(directory.program("redoubt-jail")).arg("--self-test").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("OPEN     namespaces"), "{}", text(&output.stdout));
}
