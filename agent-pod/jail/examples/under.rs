//! Executes a command under a seccomp filter of its own, as a strange kernel or container runtime would look like to
//! the jail. For the tests: `under no-landlock|kill-unshare COMMAND ARGS…`.
#![allow(clippy::print_stderr)]

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [filter, command, rest @ ..] = args.as_slice() else { return ExitCode::FAILURE };
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let (call, action) = match filter.as_str() {
            "no-landlock" => {
                (libc::SYS_landlock_create_ruleset, SeccompAction::Errno(libc::EOPNOTSUPP as u32))
            }
            "kill-unshare" => (libc::SYS_unshare, SeccompAction::KillProcess),
            _ => return Err("no such filter".into()),
        };
        let calls = [(call, vec![])].into_iter().collect();
        let filter =
            SeccompFilter::new(calls, SeccompAction::Allow, action, std::env::consts::ARCH.try_into()?)?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)?;
        Err(Command::new(command).args(rest).exec().into())
    };
    if let Err(error) = run() {
        eprintln!("{error}");
    }
    ExitCode::FAILURE
}
