//! What the self-test aims at, made before the restrictions: a bait process, an abstract socket, an inherited
//! descriptor, and a note of what was open without the jail, so that a refusal can be ascribed to the jail.

use crate::fence::{self, Paths};
use crate::sys;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

/// Where writing is tried. A directory: a new file in it; a file: opened for writing, not written to.
pub const WRITE: &[&str] = &[
    "/",
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/dev/mqueue",
    "/etc",
    "/run",
    "/usr",
    "/var/lib",
    "/proc/self/comm",
    "/proc/self/mem",
    "/proc/self/oom_score_adj",
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/dev/termination-log",
];

/// Where reading is tried. A directory is listed.
pub const READ: &[&str] = &[
    "/",
    "/proc",
    "/proc/1/environ",
    "/proc/self/environ",
    "/proc/self/maps",
    "/etc",
    "/etc/passwd",
    "/sys",
    "/dev/shm",
    "/var/run/secrets",
];

/// What a try says without the jail: `None` when it worked, else the errno.
pub type Before = Option<i32>;

/// What the checks aim at.
#[derive(Debug)]
pub struct Outside {
    /// A process of the same user that waits outside. Ends when this is dropped.
    pub bait: i32,
    /// The number that is in the bait's memory, at the same address as here.
    pub number: Box<u64>,
    /// Name of an abstract socket that is listened on outside.
    pub abstract_name: String,
    /// A descriptor that was open before and would have survived exec.
    pub inherited: i32,
    /// Landlock ABI of the kernel.
    pub landlock_abi: i32,
    /// The paths that are allowed, where trying proves nothing.
    pub paths: Paths,
    /// Whether the bait's memory could be read without the jail.
    pub memory_before: Before,
    /// Whether the bait could be signalled without the jail.
    pub signal_before: Before,
    /// Whether the abstract socket could be connected to without the jail.
    pub abstract_before: Before,
    /// Whether core dumps were possible without the jail.
    pub cores_before: bool,
    write_before: Vec<(&'static str, Before)>,
    read_before: Vec<(&'static str, Before)>,
    _listener: UnixListener,
    bait_lives_while_open: PipeWriter,
}

impl Outside {
    /// Makes everything. This process must have one thread only.
    pub fn prepare(landlock_abi: i32, paths: Paths) -> io::Result<Outside> {
        let number = Box::new(0x5265_646f_7562_7421);
        let (mut end, alive) = io::pipe()?;
        let (mut ready, tell) = io::pipe()?;
        let bait = sys::fork(|| {
            // Its own copy of the writing end would keep the bait waiting for itself.
            sys::close(alive.as_raw_fd());
            sys::allow_tracers();
            drop(tell);
            let _ = end.read(&mut [0]);
            0
        })?;
        let _ = ready.read(&mut [0]);
        let abstract_name = format!("redoubt-jail-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name)?;
        let listener = UnixListener::bind_addr(&address)?;
        let [inherited, _] = sys::inheritable_pipe()?;
        let cores = rustix::process::getrlimit(rustix::process::Resource::Core);
        Ok(Outside {
            bait,
            memory_before: sys::attempt_read_memory(bait, &number).err(),
            number,
            abstract_name,
            abstract_before: errno(UnixStream::connect_addr(&address)),
            inherited,
            landlock_abi,
            paths,
            signal_before: sys::kill(bait, 0).err(),
            cores_before: cores.maximum != Some(0),
            write_before: WRITE.iter().map(|path| (*path, try_write(path))).collect(),
            read_before: READ.iter().map(|path| (*path, try_read(path))).collect(),
            _listener: listener,
            bait_lives_while_open: alive,
        })
    }

    /// What writing there said without the jail; nothing when it is allowed.
    pub fn write_before(&self, path: &str) -> Option<Before> {
        let allowed = fence::is_writable(&self.paths, Path::new(path));
        (!allowed).then(|| find(&self.write_before, path)).flatten()
    }

    /// What reading there said without the jail; nothing when it is allowed.
    pub fn read_before(&self, path: &str) -> Option<Before> {
        let allowed = fence::is_readable(&self.paths, Path::new(path));
        (!allowed).then(|| find(&self.read_before, path)).flatten()
    }

    /// In a forked child: lets go of what keeps the bait alive, so that a child that hangs cannot keep it.
    pub(crate) fn forked(&self) {
        sys::close(self.bait_lives_while_open.as_raw_fd());
    }

    /// Lets the bait end and collects it.
    pub fn finish(self) {
        let bait = self.bait;
        drop(self);
        let _ = sys::wait(bait);
    }
}

fn find(list: &[(&'static str, Before)], path: &str) -> Option<Before> {
    list.iter().find(|(of, _)| *of == path).map(|(_, before)| *before)
}

/// Tries to write there: a file of a new name is made in a directory, and taken away again.
pub fn try_write(path: &str) -> Before {
    let path = Path::new(path);
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    let opened = if is_directory(path) {
        let file = path.join(format!(".redoubt-jail-{}", std::process::id()));
        let made = options.create_new(true).open(&file);
        if made.is_ok() {
            let _ = fs::remove_file(&file);
        }
        made
    } else {
        options.open(path)
    };
    errno(opened)
}

/// Tries to read or list there, and takes nothing.
pub fn try_read(path: &str) -> Before {
    if is_directory(Path::new(path)) { errno(fs::read_dir(path)) } else { errno(File::open(path)) }
}

fn is_directory(path: &Path) -> bool {
    // Asking what is there is not reading it: Landlock lets it pass.
    path.is_dir()
}

fn errno<T>(result: io::Result<T>) -> Before {
    result.err().map(|error| error.raw_os_error().unwrap_or(0))
}
