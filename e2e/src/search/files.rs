//! Files, folders with everything below them, and streams.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::forms::Needles;
use super::report::{BYTES, Finding, Report};
use super::scanner::Scanner;

/// Bytes read at once.
const PART: usize = 256 << 10;

/// File systems made up by the kernel: proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs.
const MADE_UP: [i64; 7] =
    [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673];

/// Searches a stream to its end.
pub fn search_stream(needles: &Needles, name: &str, source: &mut impl Read, report: &mut Report) {
    search_read(needles, "stream", None, name, source, report);
}

pub(super) fn search_read(
    needles: &Needles,
    kind: &'static str,
    pid: Option<u32>,
    name: &str,
    source: &mut impl Read,
    report: &mut Report,
) {
    let name = needles.printable(name);
    let mut scanner = Scanner::new(needles, 0);
    let mut part = vec![0; PART];
    loop {
        match source.read(&mut part) {
            Ok(0) => return,
            Ok(count) => {
                report.count(BYTES, count as u64);
                scanner.feed(part.get(..count).unwrap_or_default(), |offset, form| {
                    report.add(Finding { kind, pid, name: name.clone(), offset, form });
                });
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return report.unread(format!("{kind} {name}"), error),
        }
    }
}

/// Searches a file, or a folder with everything below it; names of files and targets of links, too.
///
/// Links are not followed. Sockets, pipes and devices hold nothing that stays and are counted. File systems that the
/// kernel makes up are entered only where `path` itself lies in one; otherwise they are counted.
pub fn search_path(needles: &Needles, path: &Path, report: &mut Report) {
    let mut left: Vec<(PathBuf, Option<u64>)> = vec![(path.to_owned(), None)];
    while let Some((path, parent_device)) = left.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // What was listed a moment ago may be gone; what was asked for may not.
            Err(error) if error.kind() == ErrorKind::NotFound && parent_device.is_some() => {
                report.count("files gone before they were read", 1);
                continue;
            }
            Err(error) => {
                report.unread(needles.printable(&path.to_string_lossy()), error);
                continue;
            }
        };
        if metadata.is_dir() {
            if parent_device.is_some_and(|device| device != metadata.dev()) && made_up(&path) {
                report.count("file systems of the kernel left out", 1);
                continue;
            }
            match fs::read_dir(&path) {
                Err(error) => report.unread(needles.printable(&path.to_string_lossy()), error),
                Ok(entries) => {
                    report.count("folders", 1);
                    for entry in entries {
                        match entry {
                            Ok(entry) => {
                                bytes(needles, "file name", &path, entry.file_name().as_bytes(), report);
                                left.push((entry.path(), Some(metadata.dev())));
                            }
                            Err(error) => report.unread(needles.printable(&path.to_string_lossy()), error),
                        }
                    }
                }
            }
        } else {
            search_one(needles, &path, &metadata, parent_device.is_some(), report);
        }
    }
}

fn search_one(needles: &Needles, path: &Path, metadata: &Metadata, listed: bool, report: &mut Report) {
    let name = path.to_string_lossy();
    let kind = metadata.file_type();
    if kind.is_symlink() {
        report.count("links not followed", 1);
        match fs::read_link(path) {
            Ok(target) => bytes(needles, "link", path, target.as_os_str().as_bytes(), report),
            Err(error) => report.unread(needles.printable(&name), error),
        }
    } else if kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        if listed {
            report.count("sockets, pipes and devices left out", 1);
        } else {
            report.unread(needles.printable(&name), "neither a file nor a folder");
        }
    } else {
        match File::open(path) {
            Ok(mut file) => {
                report.count("files", 1);
                search_read(needles, "file", None, &name, &mut file, report);
            }
            Err(error) if error.kind() == ErrorKind::NotFound && listed => {
                report.count("files gone before they were read", 1);
            }
            Err(error) => report.unread(needles.printable(&name), error),
        }
    }
}

fn bytes(needles: &Needles, kind: &'static str, place: &Path, text: &[u8], report: &mut Report) {
    let name = needles.printable(&place.to_string_lossy());
    for (start, _, form) in needles.find(text) {
        report.add(Finding { kind, pid: None, name: name.clone(), offset: start as u64, form });
    }
}

fn made_up(path: &Path) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "the width of f_type differs between architectures")]
    rustix::fs::statfs(path).is_ok_and(|found| MADE_UP.contains(&(found.f_type as i64)))
}
