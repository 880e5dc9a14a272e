//! Executes a command under a seccomp filter of its own, as a strange kernel or container runtime would look like to
//! the jail. For the tests: `under no-landlock|kill-unshare|not-permitted COMMAND ARGS…`.
#![allow(clippy::print_stderr)]

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const NO_LANDLOCK: &[i64] = &[libc::SYS_landlock_create_ruleset];
const UNSHARE: &[i64] = &[libc::SYS_unshare];
const NOT_PERMITTED: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_memfd_create,
    libc::SYS_mount,
    libc::SYS_open_tree,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [filter, command, rest @ ..] = args.as_slice() else { return ExitCode::FAILURE };
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let (calls, action) = match filter.as_str() {
            "no-landlock" => (NO_LANDLOCK, SeccompAction::Errno(libc::EOPNOTSUPP as u32)),
            "kill-unshare" => (UNSHARE, SeccompAction::KillProcess),
            // As container runtimes do it by default.
            "not-permitted" => (NOT_PERMITTED, SeccompAction::Errno(libc::EPERM as u32)),
            _ => return Err("no such filter".into()),
        };
        let calls = calls.iter().map(|call| (*call, vec![])).collect();
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
