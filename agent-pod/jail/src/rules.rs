//! The rules by name. Production applies [`Rules::ALL`]; a set without some of them exists so that tests can show
//! which check notices that a rule is gone. The binary offers no way to choose.

use serde::{Deserialize, Serialize};

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One thing the jail forbids.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        impl Rule {
            /// Every rule, in the order of declaration.
            pub const LIST: &'static [Rule] = &[$(Rule::$name,)+];
        }
    };
}

rules! {
    /// Every descriptor but 0, 1 and 2 closes at exec.
    Descriptors,
    /// `RLIMIT_CORE` is 0, soft and hard.
    CoreDumps,
    /// `no_new_privs` is set.
    NoNewPrivs,
    /// A Landlock domain at all. It alone keeps ptrace and process memory inside. The other Landlock rules need it.
    Domain,
    /// Landlock: files outside the named paths cannot be read or listed.
    FsRead,
    /// Landlock: nothing can be written, made, removed or truncated outside the writable paths.
    FsWrite,
    /// Landlock: no file can be executed but the command's own.
    FsExecute,
    /// Landlock: no TCP bind.
    TcpBind,
    /// Landlock: no TCP connect.
    TcpConnect,
    /// Landlock: no connection to an abstract unix socket made outside.
    ScopeAbstract,
    /// Landlock: no signal to a process outside.
    ScopeSignal,
    /// No calls through another system-call interface (i386, x32).
    ForeignAbi,
    /// `socket` and `socketpair`: family unix only.
    SocketFamily,
    /// `socket` and `socketpair`: type stream only.
    SocketType,
    /// `socket` and `socketpair`: protocol 0 only.
    SocketProtocol,
    /// Sending: only harmless flags, so neither `MSG_FASTOPEN` nor `MSG_OOB`.
    SendFlags,
    /// `sendto` takes no address.
    SendAddress,
    /// Receiving: only harmless flags, so not `MSG_OOB`.
    ReceiveFlags,
    /// `setsockopt`, `getsockopt`: a list of `SOL_SOCKET` options.
    SocketOptions,
    /// `clone` with a list of flags that has no namespace in it.
    CloneFlags,
    /// `tgkill` reaches only the own process.
    SignalSelf,
    /// No other way to send a signal.
    Signals,
    /// `prctl` and `arch_prctl`: a list of options.
    PrctlOptions,
    /// `ioctl`: a list of commands, so no `TIOCSTI`.
    IoctlCommands,
    /// `fcntl`: a list of commands, so no `F_SETOWN`.
    FcntlCommands,
    /// `prlimit64` only reads, and only the own process.
    Limits,
    /// No io_uring, which runs calls past seccomp.
    IoUring,
    /// No ptrace, `process_vm_readv`, `process_vm_writev`, `pidfd_getfd` and the like.
    OthersMemory,
    /// No `unshare`, no `setns`.
    Namespaces,
    /// No `clone3`, whose flags seccomp cannot see; it is said not to exist, so that the C library uses `clone`.
    Clone3,
    /// No mount calls, old or new, no `pivot_root`, no `chroot`.
    Mounts,
    /// No change of user, group or capabilities.
    Identity,
    /// No kernel keyring.
    Keyring,
    /// No bpf, perf, userfaultfd, kexec, modules and other doors into the kernel.
    KernelDoors,
    /// No files in memory that could be executed, no `execveat`; `memfd_create` is said not to exist.
    MemoryFiles,
    /// Everything that is on no list.
    Unlisted,
    /// After the self-test: no new processes, only threads.
    NoChildren,
    /// After the self-test: no more seccomp filters.
    NoFilters,
}

/// The rules that a set without `Domain` cannot keep.
const OF_DOMAIN: &[Rule] = &[
    Rule::FsRead,
    Rule::FsWrite,
    Rule::FsExecute,
    Rule::TcpBind,
    Rule::TcpConnect,
    Rule::ScopeAbstract,
    Rule::ScopeSignal,
];

/// A set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules(u64);

impl Rules {
    /// Every rule: what production applies.
    pub const ALL: Rules = Rules(u64::MAX);

    /// All rules but these, and but those that cannot hold without them. For tests only.
    pub fn without(gone: &[Rule]) -> Rules {
        let mut bits = u64::MAX;
        for rule in gone {
            bits &= !bit(*rule);
            if *rule == Rule::Domain {
                bits = OF_DOMAIN.iter().fold(bits, |bits, rule| bits & !bit(*rule));
            }
        }
        Rules(bits)
    }

    /// Whether the rule is in the set.
    pub fn has(self, rule: Rule) -> bool {
        self.0 & bit(rule) != 0
    }
}

fn bit(rule: Rule) -> u64 {
    1 << (rule as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_some() {
        let lost = |gone: &[Rule]| -> Vec<Rule> {
            Rule::LIST.iter().copied().filter(|rule| !Rules::without(gone).has(*rule)).collect()
        };
        assert_eq!(lost(&[]), vec![]);
        assert_eq!(lost(&[Rule::Clone3]), vec![Rule::Clone3]);
        assert_eq!(lost(&[Rule::Domain]), [&[Rule::Domain], OF_DOMAIN].concat());
        assert_eq!(lost(Rule::LIST), Rule::LIST);
    }
}
