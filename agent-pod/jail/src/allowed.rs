//! The allow-list: every system call a static tokio program needs, and the arguments it may give.
//!
//! A call is here because something needs it: the Rust runtime and the C library, tokio (epoll, eventfd, timers,
//! threads), unix stream sockets, files below the allowed paths (which of them is Landlock's decision), the self-test
//! (`wait4`, `clone` without threads, `seccomp`; the last two are taken away again by [`closing`]) and the one `execve`.

use crate::rules::{Rule, Rules};

/// A test of one argument. Kernel arguments of type `int` are compared in 32 bits, as the kernel reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The 32-bit argument is the value.
    Is(u8, u32),
    /// The 64-bit argument (a pointer or a long) is the value.
    IsLong(u8, u64),
    /// The 32-bit argument, without the bits of the mask, is the value.
    IsBut(u8, u32, u32),
}

/// When a call is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// With any arguments.
    Always,
    /// When all tests hold; each belongs to the rule that it keeps.
    All(Vec<(Rule, Test)>),
    /// When one of the lists of tests holds; all of it belongs to one rule.
    OneOf(Rule, Vec<Vec<Test>>),
}

/// One line of the allow-list: a system-call number and when it is allowed.
pub type Allow = (i64, When);

/// The same number everywhere; libc has it for some architectures only.
const FCHMODAT2: i64 = 452;

/// Calls that need no look at their arguments, on every architecture.
const PLAIN: &[i64] = &[
    // Memory
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Descriptors
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    // Files: which of them, Landlock decides
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_flock,
    // Waiting
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Stream sockets, once they exist
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Threads and signals within the process
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    // Time, randomness, who am I
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // The one exec; of which file, Landlock decides
    libc::SYS_execve,
];

/// Older names of the same calls, which exist on x86-64 only.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_getrlimit,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// `clone` flags of a new thread (glibc's pthread_create) and of `fork`; the low byte is the signal at its end.
const CLONE_FLAGS: u32 = 0xff
    | (libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::CLONE_CHILD_SETTID) as u32;

const SEND_FLAGS: u32 = (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_MORE) as u32;
const RECEIVE_FLAGS: u32 = (libc::MSG_NOSIGNAL
    | libc::MSG_DONTWAIT
    | libc::MSG_PEEK
    | libc::MSG_TRUNC
    | libc::MSG_WAITALL
    | libc::MSG_CMSG_CLOEXEC) as u32;

/// `SOL_SOCKET` options: no filters, no pidfd of the peer, nothing of another level.
const SOCKET_OPTIONS: &[i32] = &[
    libc::SO_TYPE,
    libc::SO_ERROR,
    libc::SO_REUSEADDR,
    libc::SO_SNDBUF,
    libc::SO_RCVBUF,
    libc::SO_LINGER,
    libc::SO_PEERCRED,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_ACCEPTCONN,
    libc::SO_DOMAIN,
    libc::SO_PROTOCOL,
];

const FCNTL_COMMANDS: &[i32] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

const IOCTL_COMMANDS: &[u32] = &[
    libc::FIONBIO as u32,
    libc::FIOCLEX as u32,
    libc::FIONREAD as u32,
    libc::TCGETS as u32,
    libc::TIOCGWINSZ as u32,
];

/// `ARCH_SET_FS` and `ARCH_GET_FS` of asm/prctl.h: thread-local storage.
#[cfg(target_arch = "x86_64")]
const ARCH_PRCTL_OPTIONS: &[u32] = &[0x1002, 0x1003];

/// The allow-list under a set of rules, for a process of this id.
pub fn list(process: u32) -> Vec<Allow> {
    use Test::{Is, IsBut, IsLong};
    let plain = PLAIN.iter().chain(OLDER).map(|number| (*number, When::Always));
    let unix_stream = || {
        let with_flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32;
        When::All(vec![
            (Rule::SocketFamily, Is(0, libc::AF_UNIX as u32)),
            (Rule::SocketType, IsBut(1, with_flags, libc::SOCK_STREAM as u32)),
            (Rule::SocketProtocol, Is(2, 0)),
        ])
    };
    let option = || {
        let options = SOCKET_OPTIONS.iter();
        let tests = options.map(|option| vec![Is(1, libc::SOL_SOCKET as u32), Is(2, *option as u32)]);
        When::OneOf(Rule::SocketOptions, tests.collect())
    };
    let only = |rule, arg, values: &[u32]| {
        When::OneOf(rule, values.iter().map(|value| vec![Is(arg, *value)]).collect())
    };
    let fcntl: Vec<u32> = FCNTL_COMMANDS.iter().map(|command| *command as u32).collect();
    let mut looked_at = vec![
        (libc::SYS_socket, unix_stream()),
        (libc::SYS_socketpair, unix_stream()),
        (
            libc::SYS_sendto,
            When::All(vec![(Rule::SendFlags, IsBut(3, SEND_FLAGS, 0)), (Rule::SendAddress, IsLong(4, 0))]),
        ),
        (libc::SYS_sendmsg, When::All(vec![(Rule::SendFlags, IsBut(2, SEND_FLAGS, 0))])),
        (libc::SYS_recvfrom, When::All(vec![(Rule::ReceiveFlags, IsBut(3, RECEIVE_FLAGS, 0))])),
        (libc::SYS_recvmsg, When::All(vec![(Rule::ReceiveFlags, IsBut(2, RECEIVE_FLAGS, 0))])),
        (libc::SYS_setsockopt, option()),
        (libc::SYS_getsockopt, option()),
        (libc::SYS_clone, When::All(vec![(Rule::CloneFlags, IsBut(0, CLONE_FLAGS, 0))])),
        (libc::SYS_tgkill, When::All(vec![(Rule::SignalSelf, Is(0, process))])),
        (libc::SYS_fcntl, only(Rule::FcntlCommands, 1, &fcntl)),
        (libc::SYS_ioctl, only(Rule::IoctlCommands, 1, IOCTL_COMMANDS)),
        (
            libc::SYS_prctl,
            When::OneOf(
                Rule::PrctlOptions,
                vec![
                    vec![Is(0, libc::PR_SET_NAME as u32)],
                    vec![Is(0, libc::PR_GET_NAME as u32)],
                    vec![Is(0, libc::PR_GET_NO_NEW_PRIVS as u32)],
                    vec![Is(0, libc::PR_GET_DUMPABLE as u32)],
                    vec![Is(0, libc::PR_SET_DUMPABLE as u32), IsLong(1, 0)],
                ],
            ),
        ),
        (libc::SYS_prlimit64, When::All(vec![(Rule::Limits, Is(0, 0)), (Rule::Limits, IsLong(2, 0))])),
        (
            libc::SYS_seccomp,
            When::All(vec![
                (Rule::Unlisted, Is(0, libc::SECCOMP_SET_MODE_FILTER)),
                (Rule::Unlisted, Is(1, 0)),
            ]),
        ),
    ];
    #[cfg(target_arch = "x86_64")]
    looked_at.push((libc::SYS_arch_prctl, only(Rule::PrctlOptions, 0, ARCH_PRCTL_OPTIONS)));
    looked_at.extend(plain);
    looked_at
}

/// Calls said not to exist, because programs have a way without them when told so.
pub fn absent(rules: Rules) -> Vec<Allow> {
    let of = [(Rule::Clone3, libc::SYS_clone3), (Rule::MemoryFiles, libc::SYS_memfd_create)];
    of.iter().filter(|(rule, _)| rules.has(*rule)).map(|(_, number)| (*number, When::Always)).collect()
}

/// What is refused on top when the self-test, which needs both, is over: new processes and more filters.
pub fn closing(rules: Rules) -> Vec<Allow> {
    let thread = libc::CLONE_THREAD as u32;
    let mut list = Vec::new();
    if rules.has(Rule::NoChildren) {
        list.push((libc::SYS_clone, When::All(vec![(Rule::NoChildren, Test::IsBut(0, !thread, 0))])));
    }
    if rules.has(Rule::NoFilters) {
        list.push((libc::SYS_seccomp, When::Always));
    }
    list
}
