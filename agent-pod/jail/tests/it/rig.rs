//! What the tests share: programs, users, directories and a stand-in for the sidecar.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

/// The uid of the agent's container.
pub(crate) const AGENT: u32 = 65003;

/// Whether the tests run as root, and so can run programs as others.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A new directory that belongs to the agent's user and goes with the value.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Temporary {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("redoubt-jail-it-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            chown(&path, Some(AGENT), Some(AGENT)).unwrap();
        }
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A writable directory of one test, and copies of the programs where every user can reach them.
///
/// The copies are shared and made before any test that holds them starts a process: a process that is forked while
/// another thread writes a program keeps that program busy for a moment.
pub(crate) struct Directory {
    own: Temporary,
    programs: Arc<Temporary>,
}

impl Directory {
    pub(crate) fn new() -> Directory {
        static PROGRAMS: Mutex<Weak<Temporary>> = Mutex::new(Weak::new());
        let mut programs = PROGRAMS.lock().unwrap();
        let shared = programs.upgrade().unwrap_or_else(|| Arc::new(copies()));
        *programs = Arc::downgrade(&shared);
        Directory { own: Temporary::new(), programs: shared }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.own.0
    }

    /// A program of this crate: the binary or an example.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.0.join(name)
    }
}

fn copies() -> Temporary {
    let directory = Temporary::new();
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    let built = ["variant", "under", "tokio_probe"].map(|name| examples.join(name));
    for program in built.iter().chain([&PathBuf::from(env!("CARGO_BIN_EXE_redoubt-jail"))]) {
        let copy = directory.0.join(program.file_name().unwrap());
        let copied = fs::copy(program, &copy);
        copied.unwrap_or_else(|error| panic!("{program:?}: {error}; cargo test --workspace builds it"));
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// A command that runs as the agent's user, where that can be arranged.
pub(crate) fn as_agent(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(AGENT).gid(AGENT);
    }
    command
}

/// A sidecar that gives one nonce and answers the verdict with a status; it hands over the verdict.
pub(crate) fn sidecar(socket: &Path, status: &'static str) -> JoinHandle<serde_json::Value> {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        let (first, _) = exchange(&listener, "200 OK", "{\"nonce\":\"n-1\"}");
        assert_eq!(first, "GET /v1/jail/nonce HTTP/1.1");
        let (second, body) = exchange(&listener, status, "{}");
        assert_eq!(second, "POST /v1/jail/verdict HTTP/1.1");
        // The command may connect, too.
        std::thread::spawn(move || while listener.accept().is_ok() {});
        serde_json::from_slice(&body).unwrap()
    })
}

/// Takes one request and answers it: the request line and the body.
fn exchange(listener: &UnixListener, status: &str, answer: &str) -> (String, Vec<u8>) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    reader.get_mut().write_all(response.as_bytes()).unwrap();
    (head.first().unwrap().trim().to_owned(), body)
}
