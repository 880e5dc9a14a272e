//! Programs that end with the test, however it ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A program of the local cluster.
pub(crate) fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("REDOUBT_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("REDOUBT_CACHE").map(PathBuf::from);
        cache
            .unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/redoubt"))
            .join("bin")
    });
    let file = folder.join(name);
    assert!(
        file.is_file(),
        "{} is missing. Build it with `e2e/cluster/build vault etcd kubernetes`, or set REDOUBT_BIN to the folder it is in.",
        file.display()
    );
    file
}

/// A folder that goes with the value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("redoubt-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A program in the background. A shell watches over it: when this process ends, its end of the pipe closes, and the
/// shell ends the program and all that it started (they share a process group).
pub(crate) struct Background(Child);

impl Background {
    pub(crate) fn start(command: &Path, args: &[String], log: &Path) -> Self {
        let out = std::fs::File::create(log).unwrap();
        let child = Command::new("sh")
            .args(["-c", r#"setsid "$@" & program=$!; read -r _; kill -9 -- -$program; wait"#, "sh"])
            .arg(command)
            .args(args)
            .env("HOME", log.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _status = self.0.wait();
    }
}

/// A port that was free just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Waits until something holds; shows the log where it does not.
pub(crate) fn wait_for(what: &str, log: &Path, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > Duration::from_secs(90) {
            panic!("{what} did not come up:\n{}", std::fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
