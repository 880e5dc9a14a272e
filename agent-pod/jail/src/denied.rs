//! Calls that are refused, by the rule that stands for them. They are refused because they are not on the list of
//! [`crate::allowed`], not because they are here: this table gives them names, so that the self-test can try each and
//! a test can let a group through.

use crate::rules::Rule;

/// One attempt: a system call with arguments that do no harm should it get through.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The call's name in the manual.
    pub name: &'static str,
    /// Its number on this architecture.
    pub number: i64,
    /// Its arguments: null pointers and impossible descriptors, so that nothing is read or written.
    pub args: [usize; 6],
}

/// No descriptor and no process has this number.
const NONE: usize = usize::MAX;

macro_rules! call {
    ($name:ident $(, $arg:expr)*) => {
        Call { name: stringify!($name), number: number::$name, args: padded(&[$($arg as usize),*]) }
    };
}

/// The arguments given, then zeros.
#[allow(clippy::indexing_slicing)] // evaluated by the compiler only
const fn padded(given: &[usize]) -> [usize; 6] {
    let mut args = [0; 6];
    let mut at = 0;
    while at < given.len() {
        args[at] = given[at];
        at += 1;
    }
    args
}

/// System-call numbers by plain name; those that libc does not know yet are the same on both architectures.
#[allow(non_upper_case_globals, unreachable_pub, missing_docs)]
mod number {
    macro_rules! from_libc { ($($name:ident = $sys:ident,)+) => { $(pub const $name: i64 = libc::$sys;)+ } }
    from_libc! {
        acct = SYS_acct, add_key = SYS_add_key, bpf = SYS_bpf, capset = SYS_capset, chroot = SYS_chroot,
        delete_module = SYS_delete_module, execveat = SYS_execveat, fanotify_init = SYS_fanotify_init,
        finit_module = SYS_finit_module, fsconfig = SYS_fsconfig, fsmount = SYS_fsmount, fsopen = SYS_fsopen,
        fspick = SYS_fspick, init_module = SYS_init_module, io_uring_enter = SYS_io_uring_enter,
        io_uring_register = SYS_io_uring_register, io_uring_setup = SYS_io_uring_setup, kcmp = SYS_kcmp,
        kexec_load = SYS_kexec_load, keyctl = SYS_keyctl, kill = SYS_kill, memfd_secret = SYS_memfd_secret,
        mount = SYS_mount, mount_setattr = SYS_mount_setattr, move_mount = SYS_move_mount,
        name_to_handle_at = SYS_name_to_handle_at, open_by_handle_at = SYS_open_by_handle_at,
        open_tree = SYS_open_tree, perf_event_open = SYS_perf_event_open, personality = SYS_personality,
        pidfd_getfd = SYS_pidfd_getfd, pidfd_open = SYS_pidfd_open,
        pidfd_send_signal = SYS_pidfd_send_signal, pivot_root = SYS_pivot_root,
        process_madvise = SYS_process_madvise, process_vm_readv = SYS_process_vm_readv,
        process_vm_writev = SYS_process_vm_writev, ptrace = SYS_ptrace, reboot = SYS_reboot,
        request_key = SYS_request_key, rt_sigqueueinfo = SYS_rt_sigqueueinfo,
        rt_tgsigqueueinfo = SYS_rt_tgsigqueueinfo, setfsgid = SYS_setfsgid, setfsuid = SYS_setfsuid,
        setgid = SYS_setgid, setgroups = SYS_setgroups, setns = SYS_setns, setregid = SYS_setregid,
        setresgid = SYS_setresgid, setresuid = SYS_setresuid, setreuid = SYS_setreuid, setuid = SYS_setuid,
        swapon = SYS_swapon, syslog = SYS_syslog, tkill = SYS_tkill, umount2 = SYS_umount2,
        unshare = SYS_unshare, userfaultfd = SYS_userfaultfd,
    }
    pub const kexec_file_load: i64 = if cfg!(target_arch = "aarch64") { 294 } else { 320 };
}

/// The groups. Each rule here is nothing but its calls.
pub const GROUPS: &[(Rule, &[Call])] = &[
    (
        Rule::IoUring,
        &[call!(io_uring_setup, 1, 0), call!(io_uring_enter, NONE), call!(io_uring_register, NONE, 0, 0, 0)],
    ),
    (
        Rule::OthersMemory,
        &[
            call!(ptrace, libc::PTRACE_ATTACH, i32::MAX),
            call!(process_vm_readv, NONE),
            call!(process_vm_writev, NONE),
            call!(process_madvise, NONE),
            call!(pidfd_open, NONE),
            call!(pidfd_getfd, NONE),
            call!(kcmp, NONE, NONE),
        ],
    ),
    (Rule::Namespaces, &[call!(unshare, libc::CLONE_NEWUSER), call!(setns, NONE, 0)]),
    (
        Rule::Mounts,
        &[
            call!(mount),
            call!(umount2),
            call!(fsopen),
            call!(fsconfig, NONE),
            call!(fsmount, NONE),
            call!(fspick, NONE),
            call!(open_tree, NONE),
            call!(move_mount, NONE),
            call!(mount_setattr, NONE),
            call!(pivot_root),
            call!(chroot),
        ],
    ),
    (
        Rule::Identity,
        &[
            call!(setuid, 0),
            call!(setgid, 0),
            call!(setreuid, 0, 0),
            call!(setregid, 0, 0),
            call!(setresuid, 0, 0, 0),
            call!(setresgid, 0, 0, 0),
            call!(setgroups, 0, 0),
            call!(setfsuid, 0),
            call!(setfsgid, 0),
            call!(capset),
        ],
    ),
    (Rule::Keyring, &[call!(add_key), call!(request_key), call!(keyctl, 0, NONE)]),
    (
        Rule::KernelDoors,
        &[
            call!(bpf),
            call!(perf_event_open, 0, 0, NONE, NONE, 0),
            call!(userfaultfd, NONE),
            call!(kexec_load, 0, 1, 0),
            call!(kexec_file_load, NONE),
            call!(init_module),
            call!(finit_module, NONE),
            call!(delete_module),
            call!(open_by_handle_at, NONE),
            call!(name_to_handle_at, NONE),
            call!(fanotify_init, NONE),
            call!(personality, 0xffff_ffffusize),
            call!(syslog, NONE),
            call!(acct, 1),
            call!(swapon),
            call!(reboot),
        ],
    ),
    (
        Rule::Signals,
        &[
            call!(kill, i32::MAX, 0),
            call!(tkill, i32::MAX, 0),
            call!(rt_sigqueueinfo, i32::MAX, 0),
            call!(rt_tgsigqueueinfo, i32::MAX, i32::MAX, 0),
            call!(pidfd_send_signal, NONE),
        ],
    ),
    (Rule::MemoryFiles, &[call!(memfd_secret, NONE), call!(execveat, NONE)]),
];

/// The calls of one rule; none when the rule is not a group of calls.
pub fn calls(rule: Rule) -> &'static [Call] {
    GROUPS.iter().find(|(of, _)| *of == rule).map_or(&[], |(_, calls)| calls)
}
