//! The list of everything the self-test tries: the specification of the jail.
//!
//! A check passes when the attempt was refused in the way that shows that the jail did it. It fails when all the rules
//! it names are taken out; a test shows it for each.

use crate::denied;
use crate::outside::{self, Outside};
use crate::rules::Rule;
use crate::trials;
use serde::{Deserialize, Serialize};

/// When a check runs. Each ring of the jail is tried by itself, so that one cannot hide a hole in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Under Landlock, before seccomp: what seccomp would hide.
    Landlock,
    /// Under Landlock and seccomp.
    Seccomp,
    /// After the last rules, in the process that becomes the command.
    Closing,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was refused.
    Refused {
        /// True when it can only have been the jail; false when it was closed without the jail too.
        by_jail: bool,
        /// How it was refused, for people.
        how: String,
    },
    /// It got through, or was refused for a reason that is not the jail's.
    Open {
        /// What happened, for people.
        how: String,
    },
    /// It cannot be tried here; the reason, for people. Such a check is not part of the verdict.
    Unavailable {
        /// Why not.
        why: String,
    },
}

/// How an attempt is made.
#[derive(Clone, Copy, Debug)]
pub enum Trial {
    /// All calls of a group of [`denied::GROUPS`].
    Group(Rule),
    /// Writing to a path.
    Write(&'static str),
    /// Reading a path.
    Read(&'static str),
    /// Something of its own.
    Own(fn(&Outside) -> Outcome),
}

/// One entry of the self-test.
#[derive(Clone, Debug)]
pub struct Check {
    /// Stable name, as it stands in the verdict.
    pub name: String,
    /// What it tries, for people.
    pub tries: String,
    /// What the refusal must look like, for people.
    pub expected: &'static str,
    /// When it runs.
    pub ring: Ring,
    /// It fails when all of these are taken out.
    pub rules: Vec<Rule>,
    /// How it is tried.
    pub trial: Trial,
}

impl Check {
    /// Makes the attempt.
    pub fn run(&self, outside: &Outside) -> Outcome {
        match self.trial {
            Trial::Group(rule) => trials::group(rule),
            Trial::Write(path) => trials::files(outside.write_before(path), || outside::try_write(path)),
            Trial::Read(path) => trials::files(outside.read_before(path), || outside::try_read(path)),
            Trial::Own(trial) => trial(outside),
        }
    }
}

const FILTERED: &str = "EBADRQC";
const ABSENT: &str = "ENOSYS";
const ACCESS: &str = "EACCES";
const NOT_PERMITTED: &str = "EPERM";
const SET: &str = "is set";

type Row = (&'static str, &'static str, &'static str, &'static [Rule], fn(&Outside) -> Outcome);

/// Under Landlock only.
const UNDER_LANDLOCK: &[Row] = &[
    ("tcp-bind", "bind a TCP socket, here to a loopback port", ACCESS, &[Rule::TcpBind], trials::tcp_bind),
    (
        "tcp-connect",
        "connect a TCP socket, here to loopback",
        ACCESS,
        &[Rule::TcpConnect],
        trials::tcp_connect,
    ),
    ("signal-scope", "signal a process outside", NOT_PERMITTED, &[Rule::ScopeSignal], trials::signal_scope),
    (
        "memory-scope",
        "read the memory of a process outside",
        NOT_PERMITTED,
        &[Rule::Domain],
        trials::memory_scope,
    ),
];

/// Under both, other than groups of calls and paths.
const UNDER_BOTH: &[Row] = &[
    ("no-new-privileges", "gain rights by executing a file", SET, &[Rule::NoNewPrivs], trials::no_new_privs),
    ("core-dump", "leave memory in a core file", "limit is 0", &[Rule::CoreDumps], trials::core_dump),
    (
        "inherited-descriptors",
        "keep an inherited descriptor",
        "closes at exec",
        &[Rule::Descriptors],
        trials::descriptors,
    ),
    (
        "abstract-socket",
        "connect to an abstract unix socket outside",
        NOT_PERMITTED,
        &[Rule::ScopeAbstract],
        trials::abstract_socket,
    ),
    (
        "others-memory-file",
        "open /proc/PID/mem of a process outside",
        ACCESS,
        &[Rule::FsRead, Rule::Domain],
        trials::memory_file,
    ),
    (
        "execute-other",
        "execute a file that is not the command",
        ACCESS,
        &[Rule::FsExecute],
        trials::execute_other,
    ),
    ("socket-inet", "make an IPv4 socket of any type", FILTERED, &[Rule::SocketFamily], trials::inet),
    ("socket-inet6", "make an IPv6 socket of any type", FILTERED, &[Rule::SocketFamily], trials::inet6),
    ("socket-netlink", "make a netlink socket", FILTERED, &[Rule::SocketFamily], trials::netlink),
    ("socket-packet", "make a packet socket", FILTERED, &[Rule::SocketFamily], trials::packet),
    ("socket-vsock", "make a socket to the hypervisor", FILTERED, &[Rule::SocketFamily], trials::vsock),
    (
        "socket-other-families",
        "make a socket of any other family, 0 to 63",
        FILTERED,
        &[Rule::SocketFamily],
        trials::other_families,
    ),
    (
        "socket-mptcp",
        "make a multipath TCP socket",
        FILTERED,
        &[Rule::SocketFamily, Rule::SocketProtocol],
        trials::mptcp,
    ),
    (
        "socket-udp",
        "make a UDP socket and send a DNS query",
        FILTERED,
        &[Rule::SocketFamily, Rule::SocketType],
        trials::udp,
    ),
    (
        "socket-raw",
        "make a raw socket",
        FILTERED,
        &[Rule::SocketFamily, Rule::SocketType, Rule::SocketProtocol],
        trials::raw,
    ),
    ("tcp-listen", "listen on a TCP port, without bind", FILTERED, &[Rule::SocketFamily], trials::listen),
    (
        "unix-other-types",
        "make a unix socket that is not a stream",
        FILTERED,
        &[Rule::SocketType],
        trials::unix_types,
    ),
    (
        "unix-protocol",
        "make a unix socket with a protocol",
        FILTERED,
        &[Rule::SocketProtocol],
        trials::unix_protocol,
    ),
    (
        "socketpair-families",
        "make a socket pair that is not unix",
        FILTERED,
        &[Rule::SocketFamily],
        trials::pair_families,
    ),
    (
        "socketpair-types",
        "make a pair of unix datagram sockets",
        FILTERED,
        &[Rule::SocketType],
        trials::pair_types,
    ),
    (
        "fast-open-send",
        "send with MSG_FASTOPEN by sendto and sendmsg",
        FILTERED,
        &[Rule::SendFlags],
        trials::fast_open_send,
    ),
    (
        "fast-open-option",
        "set TCP_FASTOPEN and TCP_FASTOPEN_CONNECT",
        FILTERED,
        &[Rule::SocketOptions],
        trials::fast_open_option,
    ),
    ("send-address", "send to an address, as UDP does", FILTERED, &[Rule::SendAddress], trials::send_address),
    ("send-flags", "send out-of-band data", FILTERED, &[Rule::SendFlags], trials::send_flags),
    ("receive-flags", "receive out-of-band data", FILTERED, &[Rule::ReceiveFlags], trials::receive_flags),
    (
        "socket-options",
        "attach a filter to a socket, take a pidfd of the peer",
        FILTERED,
        &[Rule::SocketOptions],
        trials::socket_options,
    ),
    (
        "clone-namespaces",
        "make a process in a new namespace of each kind",
        FILTERED,
        &[Rule::CloneFlags],
        trials::clone_namespaces,
    ),
    ("clone3", "make a process by clone3", ABSENT, &[Rule::Clone3], trials::clone3),
    ("memfd", "make a file in memory, to execute it", ABSENT, &[Rule::MemoryFiles], trials::memfd),
    (
        "signal-thread",
        "signal a thread of another process",
        FILTERED,
        &[Rule::SignalSelf],
        trials::signal_thread,
    ),
    (
        "prctl-options",
        "use options of prctl that give or take rights",
        FILTERED,
        &[Rule::PrctlOptions],
        trials::prctl_options,
    ),
    (
        "ioctl-commands",
        "push input into a terminal",
        FILTERED,
        &[Rule::IoctlCommands],
        trials::ioctl_commands,
    ),
    (
        "fcntl-commands",
        "have the kernel signal another process",
        FILTERED,
        &[Rule::FcntlCommands],
        trials::fcntl_commands,
    ),
    ("limits", "change resource limits, or see those of others", FILTERED, &[Rule::Limits], trials::limits),
    ("foreign-abi-i386", "make an i386 system call", "killed by SIGSYS", &[Rule::ForeignAbi], trials::i386),
    ("foreign-abi-x32", "make an x32 system call", FILTERED, &[Rule::ForeignAbi], trials::x32),
    (
        "unlisted-calls",
        "make every system call up to 1023 that is on no list",
        FILTERED,
        &[Rule::Unlisted],
        trials::unlisted,
    ),
    ("kernel", "ask the kernel for its Landlock ABI", "4 or newer", &[], trials::kernel),
];

/// In the process that becomes the command.
const AT_THE_END: &[Row] = &[
    ("new-process", "make a new process, not a thread", FILTERED, &[Rule::NoChildren], trials::new_process),
    ("new-filter", "install another seccomp filter", FILTERED, &[Rule::NoFilters], trials::new_filter),
];

/// Names and descriptions of the groups of calls.
const GROUPS: &[(&str, Rule)] = &[
    ("io-uring", Rule::IoUring),
    ("others-memory", Rule::OthersMemory),
    ("namespaces", Rule::Namespaces),
    ("mounts", Rule::Mounts),
    ("identity", Rule::Identity),
    ("keyring", Rule::Keyring),
    ("kernel-doors", Rule::KernelDoors),
    ("signals", Rule::Signals),
    ("memory-files", Rule::MemoryFiles),
];

/// Every check, in the order in which they run.
pub fn all() -> Vec<Check> {
    let rows = |ring, rows: &'static [Row]| {
        rows.iter().map(move |(name, tries, expected, rules, trial)| Check {
            name: (*name).to_owned(),
            tries: (*tries).to_owned(),
            expected,
            ring,
            rules: rules.to_vec(),
            trial: Trial::Own(*trial),
        })
    };
    let groups = GROUPS.iter().map(|(name, rule)| {
        let calls: Vec<&str> = denied::calls(*rule).iter().map(|call| call.name).collect();
        check(name, calls.join(", "), FILTERED, *rule, Trial::Group(*rule))
    });
    let writes = outside::WRITE.iter().map(|path| {
        check(&format!("write:{path}"), format!("write to {path}"), ACCESS, Rule::FsWrite, Trial::Write(path))
    });
    let reads = outside::READ.iter().map(|path| {
        check(&format!("read:{path}"), format!("read {path}"), ACCESS, Rule::FsRead, Trial::Read(path))
    });
    rows(Ring::Landlock, UNDER_LANDLOCK)
        .chain(rows(Ring::Seccomp, UNDER_BOTH))
        .chain(groups)
        .chain(writes)
        .chain(reads)
        .chain(rows(Ring::Closing, AT_THE_END))
        .collect()
}

fn check(name: &str, tries: String, expected: &'static str, rule: Rule, trial: Trial) -> Check {
    Check { name: name.to_owned(), tries, expected, ring: Ring::Seccomp, rules: vec![rule], trial }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_has_a_check_and_every_name_is_used_once() {
        let named: BTreeSet<Rule> = all().into_iter().flat_map(|check| check.rules).collect();
        let missing: Vec<&Rule> = Rule::LIST.iter().filter(|rule| !named.contains(rule)).collect();
        assert_eq!(missing, Vec::<&Rule>::new());
        let names: BTreeSet<String> = all().into_iter().map(|check| check.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn every_group_is_tried() {
        let tried: BTreeSet<Rule> = GROUPS.iter().map(|(_, rule)| *rule).collect();
        let groups: BTreeSet<Rule> = denied::GROUPS.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(tried, groups);
    }
}
