//! The operating-system calls that neither std nor rustix has a safe form of. The only module with `unsafe`.
#![allow(unsafe_code)]

use seccompiler::BpfProgram;
use std::io;

fn checked(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Tries a system call for the self-test; the error is the errno.
///
/// Only for calls that cannot touch this process's memory or break its state: the tables of this crate give null or
/// impossible pointers, impossible descriptors, or (socket calls) plain numbers.
pub(crate) fn attempt(number: i64, args: [usize; 6]) -> Result<usize, i32> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: see above; all callers are in this crate's tables of attempts, which run in a throw-away child.
    checked(unsafe { libc::syscall(number, a, b, c, d, e, f) })
        .map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Tries `clone` without new memory, like fork, with these flags; a child that comes of it ends at once.
pub(crate) fn attempt_clone(flags: i32) -> Result<usize, i32> {
    // SAFETY: without CLONE_VM and with no stack given, the child has its own copy of everything, and only exits.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    if result == 0 {
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) }
    }
    checked(result).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Tries to send on a socket by `sendmsg` with these flags.
pub(crate) fn attempt_sendmsg(socket: i32, flags: i32) -> Result<usize, i32> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all-zero is a valid msghdr; its only pointer is to `part`, which outlives the call.
    let result = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        libc::sendmsg(socket, &raw const message, flags)
    };
    checked(result as libc::c_long).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Tries to read eight bytes of another process, which this one was forked from or with, at the address of `of`.
pub(crate) fn attempt_read_memory(process: i32, of: &u64) -> Result<u64, i32> {
    let mut bytes = [0u8; 8];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: std::ptr::from_ref(of).cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `local` is a writable buffer of that length; `remote` is only read, and in the other process.
    let result = unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
    checked(result as libc::c_long)
        .map(|_| u64::from_ne_bytes(bytes))
        .map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Calls `writev` of the x86-64 table through the i386 gate, where the number means `getpid`. In a child of its own:
/// the kernel may kill the caller.
#[cfg(target_arch = "x86_64")]
pub(crate) fn attempt_i386_getpid() -> i32 {
    let result: i32;
    // SAFETY: i386's getpid takes nothing and touches no memory; the clobbered registers are named.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20 => result, out("r8") _, out("r9") _, out("r10") _,
            out("r11") _, options(nostack));
    }
    result
}

/// Runs `child` in a forked process, which ends with what it returns, and gives its id. This process must have one
/// thread only.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: callers are single-threaded (the jail starts no thread), so the child's memory is consistent.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
        // SAFETY: ends the child without running the parent's destructors and exit handlers.
        unsafe { libc::_exit(code) }
    }
    checked(pid.into()).map(|_| pid)
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
}

/// Waits for a child of this process.
pub(crate) fn wait(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            let killed = libc::WIFSIGNALED(status);
            return Ok(if killed {
                Ended::Killed(libc::WTERMSIG(status))
            } else {
                Ended::Exited(libc::WEXITSTATUS(status))
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Waits until a descriptor can be read or its other end is closed; false when the time is over.
pub(crate) fn readable(descriptor: i32, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, and its count.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) == 1 }
}

/// A pipe that stays open over exec: what [`close_at_exec`] has to deal with.
pub(crate) fn inheritable_pipe() -> io::Result<[i32; 2]> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    checked(unsafe { libc::pipe2(ends.as_mut_ptr(), 0) }.into()).map(|_| ends)
}

/// Lets every descriptor from 3 on close at exec.
pub(crate) fn close_at_exec() -> io::Result<()> {
    // SAFETY: with this flag nothing is closed now.
    checked(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes a descriptor that another owner will not close: in a child that ends by [`fork`] without destructors.
pub(crate) fn close(descriptor: i32) {
    // SAFETY: the child's own copy; nothing in the child uses it afterwards.
    unsafe { libc::close(descriptor) };
}

/// Whether a descriptor closes at exec; an error when it is not open.
pub(crate) fn closes_at_exec(descriptor: i32) -> io::Result<bool> {
    // SAFETY: F_GETFD only reads a flag.
    let flags = checked(unsafe { libc::fcntl(descriptor, libc::F_GETFD) }.into())?;
    Ok(flags & libc::FD_CLOEXEC as usize != 0)
}

/// The family of a socket; none when the descriptor is not one or not open.
pub(crate) fn socket_family(descriptor: i32) -> Option<i32> {
    let mut family = 0;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `family` has the length that `length` says.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut family).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(family)
}

/// Sets `no_new_privs`, for good.
pub(crate) fn no_new_privs() -> io::Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Whether `no_new_privs` is set.
pub(crate) fn has_no_new_privs() -> io::Result<bool> {
    // SAFETY: no pointers.
    checked(unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }.into()).map(|set| set == 1)
}

/// Lets any process of this user trace this one, also where Yama says no: for the bait of the self-test.
pub(crate) fn allow_tracers() {
    // SAFETY: no pointers. Fails where there is no Yama, and then it is not needed.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
}

/// Sends a signal; 0 only asks whether it could be sent.
pub(crate) fn kill(process: i32, signal: i32) -> Result<(), i32> {
    // SAFETY: no pointers.
    let result = unsafe { libc::kill(process, signal) };
    checked(result.into()).map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// The Landlock ABI of the kernel; an error when it has none or it is off.
pub(crate) fn landlock_abi() -> io::Result<i32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the null pointer and zero size are what the call asks for.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    checked(result).map(|abi| abi as i32)
}

/// Installs a seccomp program for this thread and all that come of it.
pub(crate) fn install_filter(program: &BpfProgram) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: seccompiler's sock_filter has the layout of the kernel's; the kernel copies the program.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0usize, &raw const program)
    };
    checked(result).map(drop)
}
