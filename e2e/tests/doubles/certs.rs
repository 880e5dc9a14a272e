//! `redoubt-certs`, as the quickstart uses it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use redoubt_e2e::serve::tls_from_files;

use crate::folder;

#[test]
fn certificates_are_made_once() {
    let folder = folder("certs");
    let run = |servers: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt-certs"));
        command.arg("--out").arg(&folder);
        for server in servers {
            command.args(["--server", server]);
        }
        command.output().unwrap().status.success()
    };
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    assert!(run(&["model=model.doubles.svc,localhost", "echo=echo.doubles.svc"]));
    let (ca, model) = (read("ca.pem"), read("model.pem"));
    tls_from_files(Some(&folder.join("model.pem")), Some(&folder.join("model.key")), &[]).unwrap();
    assert!(tls_from_files(Some(&folder.join("model.pem")), Some(&folder.join("echo.key")), &[]).is_err());
    let mode = std::fs::metadata(folder.join("echo.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(run(&["model=model.doubles.svc,localhost", "echo=echo.doubles.svc"]));
    assert_eq!((read("ca.pem"), read("model.pem")), (ca.clone(), model), "the same command changes nothing");
    assert!(run(&["model=other.svc"]));
    assert_ne!(read("ca.pem"), ca, "other names need other certificates");
    assert!(!run(&["../model=a"]));
    assert!(!run(&["model"]));
    std::fs::remove_dir_all(folder).unwrap();
}
