//! `/proc/PID/maps` (proc_pid_maps(5)) and which of its pages exist (`/proc/PID/pagemap`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    /// First address.
    pub(super) start: u64,
    /// Address after the last.
    pub(super) end: u64,
    /// Such as `rw-p`.
    pub(super) permissions: String,
    /// 0 for anonymous memory.
    pub(super) inode: u64,
    /// Path or name in brackets; may be empty.
    pub(super) name: String,
}

impl Mapping {
    /// Pages of the kernel that are the same for all processes; they cannot be read this way.
    pub(super) fn is_kernels(&self) -> bool {
        self.name.starts_with("[vvar") || self.name == "[vsyscall]"
    }

    /// For people.
    pub(super) fn label(&self) -> String {
        let name = if self.name.is_empty() { "anonymous" } else { &self.name };
        format!("{:x}-{:x} {} {name}", self.start, self.end, self.permissions)
    }
}

/// Parses the file; `None` when a line is not as the manual says.
pub(super) fn parse(text: &str) -> Option<Vec<Mapping>> {
    text.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut words = rest.splitn(5, ' ');
    let permissions = words.next()?.to_owned();
    let inode = words.nth(2)?.parse().ok()?;
    let name = words.next().unwrap_or_default().trim_start().to_owned();
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    (start < end).then_some(Mapping { start, end, permissions, inode, name })
}

/// For the pages from `address` on, whether each was ever touched: it is in memory or swapped out.
///
/// Anonymous pages that never were hold only zeros, and there may be terabytes of them.
pub(super) fn touched(pagemap: &File, address: u64, pages: usize, page: u64) -> Option<Vec<bool>> {
    let mut entries = vec![0; pages * 8];
    pagemap.read_exact_at(&mut entries, address / page * 8).ok()?;
    let entries = entries.chunks_exact(8).map(|entry| entry.try_into().map(u64::from_le_bytes));
    // Bits 63 and 62 (Documentation/admin-guide/mm/pagemap.rst).
    entries.map(|entry| entry.map(|entry| entry >> 62 != 0).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |line: &str, expected: Option<(u64, u64, u64, &str)>| {
            let got = parse_line(line);
            let got = got.as_ref().map(|map| (map.start, map.end, map.inode, map.name.as_str()));
            assert_eq!(got, expected, "{line}");
        };
        check(
            "1000-3000 r-xp 00000000 08:01 42                 /a b (deleted)",
            Some((0x1000, 0x3000, 42, "/a b (deleted)")),
        );
        check("7ff0-7ff8 rw-p 00000000 00:00 0 ", Some((0x7ff0, 0x7ff8, 0, "")));
        check("7ff0-7ff8 ---p 00000000 00:00 0", Some((0x7ff0, 0x7ff8, 0, "")));
        check(
            "7ff0-7ff8 rw-p 00000000 00:00 0                  [stack]",
            Some((0x7ff0, 0x7ff8, 0, "[stack]")),
        );
        check("7ff0-7ff0 rw-p 00000000 00:00 0", None);
        check("rubbish", None);
        assert_eq!(parse("1-2 r--p 0 0:0 0\nrubbish\n"), None);
    }
}
