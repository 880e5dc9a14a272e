//! The searcher, as a program, on live processes and real files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::folder;

const VALUE: &str = "zK9/quite+unlikely=value";

/// A live process that holds `text` in its memory only: it reads it, keeps it and waits.
struct Holder(Child);

impl Holder {
    fn start(text: &[u8], environment: &[(&str, &str)], script: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(&[text, b"\n"].concat()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const KEEP: &str =
    "import sys\nkept = sys.stdin.buffer.readline()\nprint('ready', flush=True)\nsys.stdin.read()";

fn search(secret: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_redoubt-search"))
        .arg("--secret-file")
        .arg(secret)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    outcome(&output)
}

fn outcome(output: &Output) -> (i32, String) {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(VALUE), "the value was printed");
    (output.status.code().unwrap(), text)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn every_form_is_found_in_the_memory_of_a_live_process() {
    let folder = folder("memory");
    let secret = folder.join("secret");
    std::fs::write(&secret, format!("{VALUE}\n")).unwrap();
    use base64::Engine as _;
    let base64 =
        |before: &str| base64::engine::general_purpose::STANDARD.encode(format!("{before}{VALUE} and more"));
    for (text, form) in [
        (VALUE.to_owned(), "plain"),
        (base64(""), "base64 (+0)"),
        (base64("x"), "base64 (+1)"),
        (base64("xy"), "base64 (+2)"),
        (hex(VALUE), "hex (lower case)"),
        (hex(VALUE).to_uppercase(), "hex (upper case)"),
        (percent(VALUE), "percent, every byte (upper case)"),
        (percent(VALUE).to_lowercase(), "percent, every byte (lower case)"),
        (VALUE.chars().rev().collect(), "reversed"),
    ] {
        let holder = Holder::start(text.as_bytes(), &[], KEEP);
        let (code, said) = search(&secret, &["--pid", &holder.pid()]);
        assert_eq!(code, 1, "{form}: {said}");
        assert!(
            said.contains(form) && said.contains(&format!("memory of process {}", holder.pid())),
            "{said}"
        );
    }
    let other = Holder::start(b"zK9/quite+unlikely=valve", &[], KEEP);
    let (code, said) = search(&secret, &["--pid", &other.pid()]);
    assert_eq!(code, 0, "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn hidden_places_of_a_live_process() {
    let folder = folder("hidden");
    let secret = folder.join("secret");
    std::fs::write(&secret, VALUE).unwrap();

    let holder = Holder::start(b"", &[("TOKEN", VALUE)], KEEP);
    let (code, said) = search(&secret, &["--pid", &holder.pid()]);
    assert!(code == 1 && said.contains("environ of process"), "{said}");

    // A page whose permissions were taken away, and nothing else: the text is put together there, byte by byte.
    let script = "
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, mmap.PAGESIZE, 3, 0x22, -1, 0)
place = (ctypes.c_char * mmap.PAGESIZE).from_address(page)
for index, number in enumerate(sys.stdin.buffer.readline().split()):
    place[100 + index] = int(number)
assert libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 0) == 0
print('ready', flush=True)
sys.stdin.read()";
    let numbers: Vec<String> = VALUE.bytes().map(|byte| byte.to_string()).collect();
    let holder = Holder::start(numbers.join(" ").as_bytes(), &[], script);
    let (code, said) = search(&secret, &["--pid", &holder.pid()]);
    assert!(code == 1 && said.contains("---p anonymous"), "{said}");

    // A file without a name.
    let script = "
import os, sys
file = os.memfd_create('hidden')
for number in sys.stdin.buffer.readline().split():
    os.write(file, bytes([int(number)]))
print('ready', flush=True)
sys.stdin.read()";
    let holder = Holder::start(numbers.join(" ").as_bytes(), &[], script);
    let (code, said) = search(&secret, &["--pid", &holder.pid()]);
    assert!(code == 1 && said.contains("descriptor of process"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_links_and_names() {
    let folder = folder("files");
    let secret = folder.join("secret");
    std::fs::write(&secret, "plain-enough-value\n").unwrap();
    let place = folder.join("place");
    let below = place.join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(below.join("empty"), "").unwrap();
    std::fs::write(below.join("other"), "nothing of interest").unwrap();
    let look = || search(&secret, &["--path", place.to_str().unwrap()]);
    assert_eq!(look().0, 0);

    // Across the border of two reads.
    let mut big = vec![b'.'; 1 << 20];
    big[(256 << 10) - 5..][..18].copy_from_slice(b"plain-enough-value");
    std::fs::write(below.join("big"), &big).unwrap();
    let (code, said) = look();
    assert!(code == 1 && said.contains("place/a/b/big at 0x3fffb, plain"), "{said}");
    std::fs::remove_file(below.join("big")).unwrap();

    std::fs::write(below.join("plain-enough-value"), "x").unwrap();
    let (code, said) = look();
    assert!(code == 1 && said.contains("FOUND file name") && !said.contains("plain-enough"), "{said}");
    std::fs::remove_file(below.join("plain-enough-value")).unwrap();

    std::os::unix::fs::symlink("/nowhere/plain-enough-value", below.join("link")).unwrap();
    let (code, said) = look();
    assert!(code == 1 && said.contains("FOUND link"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_could_not_be_looked_at_is_never_clean() {
    let folder = folder("unread");
    let secret = folder.join("secret");
    std::fs::write(&secret, VALUE).unwrap();
    let short = folder.join("short");
    std::fs::write(&short, "short").unwrap();
    let empty = folder.join("empty");
    std::fs::write(&empty, "").unwrap();
    let mut ended = Command::new("true").spawn().unwrap();
    let check = |secret: &Path, arguments: &[&str], part: &str| {
        let (code, said) = search(secret, arguments);
        assert!(code == 2 && said.contains(part), "{arguments:?}: {code}: {said}");
    };
    check(&secret, &[], "nowhere to look");
    check(&secret, &["--path", "/nonexistent/place"], "NOT READ /nonexistent/place");
    check(&secret, &["--pid", "4000000"], "NOT READ process 4000000, memory");
    check(&secret, &["--path", empty.to_str().unwrap()], "NOT EVERYTHING");
    check(&secret, &["--container", &"ab".repeat(32)], "no process of this PID namespace");
    check(&short, &["--path", "/etc/hostname"], "8 to");
    check(&folder.join("missing"), &["--path", "/etc/hostname"], "cannot read the value");
    // Ended: first not waited for, then gone.
    let pid = ended.id().to_string();
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    check(&secret, &["--pid", &pid], &format!("NOT READ process {pid}, memory"));
    ended.wait().unwrap();
    check(&secret, &["--pid", &pid], &format!("NOT READ process {pid}, memory"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn streams_and_the_value_from_standard_input() {
    let folder = folder("stream");
    let secret = folder.join("secret");
    std::fs::write(&secret, VALUE).unwrap();
    let run = |arguments: &[&std::ffi::OsStr], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_redoubt-search"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        outcome(&child.wait_with_output().unwrap())
    };
    let log = ["--secret-file".as_ref(), secret.as_os_str(), "--stdin".as_ref(), "--json".as_ref()];
    assert_eq!(run(&log, "a log line\n").0, 0);
    let (code, said) = run(&log, &format!("a log line with {}\n", hex(VALUE)));
    assert!(code == 1 && said.contains(r#""kind":"stream","name":"standard input","offset":16"#), "{said}");
    let file = ["--secret-stdin".as_ref(), "--path".as_ref(), secret.as_os_str()];
    assert_eq!(run(&file, VALUE).0, 1);
    assert_eq!(run(&file, "another value").0, 0);
    std::fs::remove_dir_all(folder).unwrap();
}
