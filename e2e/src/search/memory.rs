//! The memory of a running process, its environment, its arguments, and files that only it can still reach.
//!
//! Every mapping is read through `/proc/PID/mem`, those without read permission too. The process goes on while it is
//! read: what it maps after its list of mappings was taken, or moves from an unread page to a read one, is missed. Look
//! more than once.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::files::search_read;
use super::forms::Needles;
use super::maps::{self, Mapping};
use super::report::{BYTES, Finding, Report};
use super::scanner::Scanner;

/// Pages read at once.
const PAGES: usize = 64;

/// Searches a process. The searcher's own is left out and counted: it holds the value by nature.
pub fn search_process(needles: &Needles, pid: u32, report: &mut Report) {
    if pid == std::process::id() {
        return report.count("own process left out", 1);
    }
    let process = Process { pid, folder: PathBuf::from(format!("/proc/{pid}")), needles };
    process.texts(report);
    process.descriptors(report);
    process.memory(report);
    report.count("processes", 1);
}

struct Process<'n> {
    pid: u32,
    folder: PathBuf,
    needles: &'n Needles,
}

impl Process<'_> {
    fn name(&self, part: &str) -> String {
        format!("process {}, {part}", self.pid)
    }

    fn texts(&self, report: &mut Report) {
        for kind in ["environ", "cmdline"] {
            match File::open(self.folder.join(kind)) {
                Ok(mut file) => search_read(self.needles, kind, Some(self.pid), kind, &mut file, report),
                Err(error) => report.unread(self.name(kind), error),
            }
        }
    }

    /// Open files that have no name any more or never had one (memfd).
    fn descriptors(&self, report: &mut Report) {
        let entries = match fs::read_dir(self.folder.join("fd")) {
            Ok(entries) => entries,
            Err(error) => return report.unread(self.name("fd"), error),
        };
        for entry in entries {
            let read = entry.and_then(|entry| Ok((entry.path(), fs::read_link(entry.path())?)));
            let (path, target) = match read {
                Ok(read) => read,
                // Closed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    report.unread(self.name("fd"), error);
                    continue;
                }
            };
            let nameless = target.to_string_lossy().ends_with(" (deleted)");
            if nameless && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                let name = format!("{} ({})", path.display(), target.display());
                match File::open(&path) {
                    Ok(mut file) => {
                        search_read(self.needles, "descriptor", Some(self.pid), &name, &mut file, report);
                    }
                    Err(error) => report.unread(self.needles.printable(&name), error),
                }
            }
        }
    }

    fn mappings(&self) -> io::Result<Vec<Mapping>> {
        let text = fs::read(self.folder.join("maps"))?;
        maps::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "a line is not as proc_pid_maps(5) says")
        })
    }

    fn memory(&self, report: &mut Report) {
        let opened = self.mappings().and_then(|maps| Ok((maps, File::open(self.folder.join("mem"))?)));
        let (mappings, memory) = match opened {
            Ok(opened) => opened,
            Err(error) => return report.unread(self.name("memory"), error),
        };
        if mappings.is_empty() {
            return report.unread(self.name("memory"), "it has none: it has ended, or belongs to the kernel");
        }
        let pagemap = File::open(self.folder.join("pagemap")).ok();
        for mapping in &mappings {
            if mapping.is_kernels() {
                report.count("mappings of the kernel left out", 1);
            } else {
                report.count("mappings", 1);
                self.mapping(mapping, &memory, pagemap.as_ref(), report);
            }
        }
    }

    fn mapping(&self, mapping: &Mapping, memory: &File, pagemap: Option<&File>, report: &mut Report) {
        let page = rustix::param::page_size() as u64;
        let name = self.needles.printable(&mapping.label());
        let mut scanner = Scanner::new(self.needles, mapping.start);
        let mut part = vec![0; PAGES * page as usize];
        let mut failed = 0;
        let mut last_error = None;
        let mut address = mapping.start;
        while address < mapping.end {
            let pages = ((mapping.end - address) / page).min(PAGES as u64) as usize;
            let anonymous = mapping.inode == 0;
            let touched = pagemap
                .filter(|_| anonymous)
                .and_then(|pagemap| maps::touched(pagemap, address, pages, page))
                .unwrap_or_else(|| vec![true; pages]);
            // Runs of touched pages at once; a run that fails, page by page.
            let mut index = 0;
            while index < pages {
                let run = touched.iter().skip(index).take_while(|touched| **touched).count();
                if run == 0 {
                    report.count("pages never touched, left out", 1);
                    index += 1;
                    continue;
                }
                let from = address + index as u64 * page;
                let buffer = part.get_mut(..run * page as usize).unwrap_or_default();
                let mut feed = |at: u64, bytes: &[u8], report: &mut Report| {
                    report.count(BYTES, bytes.len() as u64);
                    scanner.jump(at);
                    scanner.feed(bytes, |offset, form| {
                        report.add(Finding {
                            kind: "memory",
                            pid: Some(self.pid),
                            name: name.clone(),
                            offset,
                            form,
                        });
                    });
                };
                if memory.read_exact_at(buffer, from).is_ok() {
                    feed(from, buffer, report);
                } else {
                    for number in 0..run as u64 {
                        let at = from + number * page;
                        let buffer = part.get_mut(..page as usize).unwrap_or_default();
                        match memory.read_exact_at(buffer, at) {
                            Ok(()) => feed(at, buffer, report),
                            Err(_) if self.is_gone(at) => {
                                report.count("pages unmapped before they were read", 1)
                            }
                            Err(error) => {
                                failed += 1;
                                last_error = Some(error);
                            }
                        }
                    }
                }
                index += run;
            }
            address += pages as u64 * page;
        }
        if let Some(error) = last_error {
            report.unread(self.name(&name), format!("{failed} pages: {error}"));
        }
    }

    /// Whether a process that still has memory no longer maps an address.
    fn is_gone(&self, address: u64) -> bool {
        self.mappings().is_ok_and(|maps| {
            !maps.is_empty() && !maps.iter().any(|map| (map.start..map.end).contains(&address))
        })
    }
}
