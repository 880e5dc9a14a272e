//! The attempts. Each runs inside the jail and says what came of it; none does harm should it get through.

use crate::checks::Outcome;
use crate::denied;
use crate::fence;
use crate::filter::{self, ABSENT, REFUSED};
use crate::outside::{Before, Outside};
use crate::rules::Rule;
use crate::sys;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

mod sockets;
pub(crate) use sockets::*;

/// An attempt with its name in the report.
type Tried = (String, Result<usize, i32>);

fn text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn refused(how: impl Into<String>) -> Outcome {
    Outcome::Refused { by_jail: true, how: how.into() }
}

fn open(how: impl Into<String>) -> Outcome {
    Outcome::Open { how: how.into() }
}

/// All must be refused with this errno.
fn all_with(errno: i32, tried: impl IntoIterator<Item = Tried>) -> Outcome {
    let mut count = 0;
    for (name, result) in tried {
        match result {
            Err(found) if found == errno => count += 1,
            Err(found) => return open(format!("{name}: {}, which is not the jail's answer", text(found))),
            Ok(_) => return open(format!("{name} got through")),
        }
    }
    match count {
        0 => open("nothing was tried"),
        1 => refused(text(errno)),
        _ => refused(format!("{} ({count} attempts)", text(errno))),
    }
}

/// One must be refused with this errno; `before` says what it did without the jail.
fn one_with<T>(errno: i32, before: Before, result: io::Result<T>) -> Outcome {
    match (before, result.map_err(|error| error.raw_os_error().unwrap_or(0))) {
        (_, Ok(_)) => open("got through"),
        (None, Err(found)) if found == errno => refused(text(found)),
        (None, Err(found)) => open(format!("{}, which is not the jail's answer", text(found))),
        (Some(_), Err(found)) => {
            Outcome::Refused { by_jail: false, how: format!("{}, closed without the jail too", text(found)) }
        }
    }
}

/// Tries something with a connected unix stream socket, which the jail allows.
fn on_stream(trial: impl FnOnce(i32) -> Vec<Tried>) -> Outcome {
    match UnixStream::pair() {
        Ok((one, _other)) => all_with(REFUSED, trial(one.as_raw_fd())),
        Err(error) => open(format!("could not be tried, there is no unix socket: {error}")),
    }
}

pub(crate) fn group(rule: Rule) -> Outcome {
    all_with(
        REFUSED,
        denied::calls(rule).iter().map(|call| (call.name.into(), sys::attempt(call.number, call.args))),
    )
}

pub(crate) fn files(before: Option<Before>, now: impl FnOnce() -> Before) -> Outcome {
    match before {
        None => Outcome::Unavailable { why: "allowed by the arguments".into() },
        Some(before) => {
            one_with(libc::EACCES, before, now().map_or(Ok(()), |e| Err(io::Error::from_raw_os_error(e))))
        }
    }
}

// Under Landlock only.

pub(crate) fn tcp_bind(_: &Outside) -> Outcome {
    one_with(libc::EACCES, None, TcpListener::bind("127.0.0.1:0"))
}

pub(crate) fn tcp_connect(_: &Outside) -> Outcome {
    one_with(libc::EACCES, None, TcpStream::connect("127.0.0.1:1"))
}

pub(crate) fn signal_scope(outside: &Outside) -> Outcome {
    scoped(outside, || {
        let result = sys::kill(outside.bait, 0).map_err(io::Error::from_raw_os_error);
        one_with(libc::EPERM, outside.signal_before, result)
    })
}

pub(crate) fn memory_scope(outside: &Outside) -> Outcome {
    let result =
        sys::attempt_read_memory(outside.bait, &outside.number).map_err(io::Error::from_raw_os_error);
    one_with(libc::EPERM, outside.memory_before, result)
}

fn scoped(outside: &Outside, trial: impl FnOnce() -> Outcome) -> Outcome {
    if outside.landlock_abi >= fence::SCOPES_ABI {
        return trial();
    }
    let why = format!(
        "Landlock ABI {} of this kernel has no scopes ({} has)",
        outside.landlock_abi,
        fence::SCOPES_ABI
    );
    Outcome::Unavailable { why }
}

// The process itself.

pub(crate) fn no_new_privs(_: &Outside) -> Outcome {
    match sys::has_no_new_privs() {
        Ok(true) => refused("no_new_privs is set"),
        Ok(false) => open("no_new_privs is not set"),
        Err(error) => open(error.to_string()),
    }
}

pub(crate) fn core_dump(outside: &Outside) -> Outcome {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    if limit.current == Some(0) && limit.maximum == Some(0) {
        return Outcome::Refused {
            by_jail: outside.cores_before,
            how: "the limit is 0, soft and hard".into(),
        };
    }
    open(format!("the limits are {:?} and {:?}", limit.current, limit.maximum))
}

pub(crate) fn descriptors(outside: &Outside) -> Outcome {
    match sys::closes_at_exec(outside.inherited) {
        Ok(true) => refused("closes at exec"),
        Ok(false) => open("an inherited descriptor stays open over exec"),
        Err(error) => open(error.to_string()),
    }
}

pub(crate) fn abstract_socket(outside: &Outside) -> Outcome {
    scoped(outside, || {
        let address = SocketAddr::from_abstract_name(&outside.abstract_name);
        one_with(
            libc::EPERM,
            outside.abstract_before,
            address.and_then(|address| UnixStream::connect_addr(&address)),
        )
    })
}

pub(crate) fn memory_file(outside: &Outside) -> Outcome {
    let opened = std::fs::File::open(format!("/proc/{}/mem", outside.bait));
    one_with(libc::EACCES, outside.memory_before, opened)
}

pub(crate) fn execute_other(_: &Outside) -> Outcome {
    let tried = || -> io::Result<Vec<u8>> {
        let (mut answer, mut tell) = io::pipe()?;
        let child = sys::fork(|| {
            let error =
                Command::new("/proc/self/exe").arg("--version").stdout(std::process::Stdio::null()).exec();
            i32::from(tell.write_all(&error.raw_os_error().unwrap_or(0).to_ne_bytes()).is_err())
        })?;
        drop(tell);
        let mut said = Vec::new();
        answer.by_ref().take(4).read_to_end(&mut said)?;
        sys::wait(child)?;
        Ok(said)
    };
    match tried().map(|said| <[u8; 4]>::try_from(said).map(i32::from_ne_bytes)) {
        Ok(Ok(errno)) => one_with::<()>(libc::EACCES, None, Err(io::Error::from_raw_os_error(errno))),
        Ok(Err(_)) => open("got through"),
        Err(error) => open(format!("could not be tried: {error}")),
    }
}

pub(crate) fn kernel(outside: &Outside) -> Outcome {
    let abi = outside.landlock_abi;
    let scopes = if abi >= fence::SCOPES_ABI { "with" } else { "without" };
    Outcome::Refused {
        by_jail: false,
        how: format!("Landlock ABI {abi}, {scopes} scopes for signals and sockets"),
    }
}

// Processes.

pub(crate) fn clone_namespaces(_: &Outside) -> Outcome {
    let kinds = [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    let tried =
        kinds.map(|(name, flag)| (format!("{name} namespace"), sys::attempt_clone(flag | libc::SIGCHLD)));
    all_with(REFUSED, tried)
}

pub(crate) fn clone3(_: &Outside) -> Outcome {
    all_with(ABSENT, [("clone3".to_owned(), sys::attempt(libc::SYS_clone3, [0; 6]))])
}

pub(crate) fn memfd(_: &Outside) -> Outcome {
    let args = [0, usize::MAX, 0, 0, 0, 0];
    all_with(ABSENT, [("memfd_create".to_owned(), sys::attempt(libc::SYS_memfd_create, args))])
}

pub(crate) fn signal_thread(outside: &Outside) -> Outcome {
    let bait = outside.bait as usize;
    all_with(REFUSED, [("tgkill".to_owned(), sys::attempt(libc::SYS_tgkill, [bait, bait, 0, 0, 0, 0]))])
}

pub(crate) fn prctl_options(_: &Outside) -> Outcome {
    let mut tried: Vec<Tried> = [
        ("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 1),
        ("PR_SET_KEEPCAPS", libc::PR_SET_KEEPCAPS, 0),
        ("PR_SET_SECCOMP", libc::PR_SET_SECCOMP, 0),
        ("PR_CAP_AMBIENT", libc::PR_CAP_AMBIENT, usize::MAX),
        ("PR_SET_PTRACER", libc::PR_SET_PTRACER, 0),
        ("PR_SET_MM", libc::PR_SET_MM, 0),
    ]
    .into_iter()
    .map(|(name, option, value)| {
        (name.to_owned(), sys::attempt(libc::SYS_prctl, [option as usize, value, 0, 0, 0, 0]))
    })
    .collect();
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_GET_CPUID: usize = 0x1011;
        tried.push((
            "ARCH_GET_CPUID".into(),
            sys::attempt(libc::SYS_arch_prctl, [ARCH_GET_CPUID, 0, 0, 0, 0, 0]),
        ));
    }
    all_with(REFUSED, tried.drain(..))
}

pub(crate) fn ioctl_commands(_: &Outside) -> Outcome {
    const TIOCLINUX: usize = 0x541c;
    on_stream(|socket| {
        [("TIOCSTI", libc::TIOCSTI as usize), ("TIOCLINUX", TIOCLINUX)]
            .map(|(name, command)| {
                (name.to_owned(), sys::attempt(libc::SYS_ioctl, [socket as usize, command, 0, 0, 0, 0]))
            })
            .into()
    })
}

pub(crate) fn fcntl_commands(_: &Outside) -> Outcome {
    const F_SETSIG: i32 = 10;
    on_stream(|socket| {
        [("F_SETOWN", libc::F_SETOWN), ("F_SETSIG", F_SETSIG)]
            .map(|(name, command)| {
                let args = [socket as usize, command as usize, 0, 0, 0, 0];
                (name.to_owned(), sys::attempt(libc::SYS_fcntl, args))
            })
            .into()
    })
}

pub(crate) fn limits(outside: &Outside) -> Outcome {
    let core = libc::RLIMIT_CORE as usize;
    let set = sys::attempt(libc::SYS_prlimit64, [0, core, 1, 0, 0, 0]);
    let others = sys::attempt(libc::SYS_prlimit64, [outside.bait as usize, core, 0, 0, 0, 0]);
    all_with(REFUSED, [("set a limit".to_owned(), set), ("another process".to_owned(), others)])
}

// The system-call interface.

#[cfg(target_arch = "x86_64")]
pub(crate) fn i386(_: &Outside) -> Outcome {
    use sys::Ended;
    match sys::fork(|| i32::from(sys::attempt_i386_getpid() <= 0)).and_then(sys::wait) {
        Ok(Ended::Killed(libc::SIGSYS)) => refused("killed by SIGSYS"),
        Ok(Ended::Killed(libc::SIGSEGV)) => {
            Outcome::Refused { by_jail: false, how: "killed by SIGSEGV: the kernel has no i386 calls".into() }
        }
        Ok(Ended::Killed(signal)) => {
            open(format!("killed by signal {signal}, which is not the jail's answer"))
        }
        Ok(Ended::Exited(0)) => open("got through"),
        Ok(Ended::Exited(_)) => open("an error, where the jail kills"),
        Err(error) => open(format!("could not be tried: {error}")),
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn x32(_: &Outside) -> Outcome {
    let getpid = i64::from(filter::X32_BIT) | libc::SYS_getpid;
    all_with(REFUSED, [("getpid".to_owned(), sys::attempt(getpid, [0; 6]))])
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn i386(_: &Outside) -> Outcome {
    Outcome::Unavailable { why: "there is no such interface on this architecture".into() }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn x32(outside: &Outside) -> Outcome {
    i386(outside)
}

pub(crate) fn unlisted(_: &Outside) -> Outcome {
    const NOWHERE: [usize; 6] = [usize::MAX; 6];
    all_with(
        REFUSED,
        filter::unlisted(0)
            .into_iter()
            .map(|number| (format!("call {number}"), sys::attempt(number, NOWHERE))),
    )
}

// At the end.

pub(crate) fn new_process(_: &Outside) -> Outcome {
    all_with(REFUSED, [("clone".to_owned(), sys::attempt_clone(libc::SIGCHLD))])
}

pub(crate) fn new_filter(_: &Outside) -> Outcome {
    let args = [libc::SECCOMP_SET_MODE_FILTER as usize, 0, 0, 0, 0, 0];
    all_with(REFUSED, [("seccomp".to_owned(), sys::attempt(libc::SYS_seccomp, args))])
}
