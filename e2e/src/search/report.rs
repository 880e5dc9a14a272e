//! What a search found, and where it could not look.

use std::collections::BTreeMap;

use serde::Serialize;

/// So many findings are kept one by one; all are counted.
const KEPT_FINDINGS: usize = 200;

/// One place of the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `memory`, `environ`, `cmdline`, `descriptor`, `file`, `file name`, `link` or `stream`.
    pub kind: &'static str,
    /// The process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Mapping, path or name of the stream.
    pub name: String,
    /// Address in memory, or offset in bytes.
    pub offset: u64,
    /// The form of the value.
    pub form: &'static str,
}

/// A place that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The place.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What follows from a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Everything was read, and the value is nowhere.
    NotFound,
    /// The value is somewhere.
    Found,
    /// The value was not found, but not everything could be read.
    CouldNotLook,
}

/// The result of a search. Several searches can go into one.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The first findings.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub found: u64,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// What was looked at, and what was left out for a reason, by name: for instance `bytes read`.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Report {
    /// The verdict. Nothing read at all counts as not looked.
    pub fn verdict(&self) -> Verdict {
        if self.found > 0 {
            Verdict::Found
        } else if !self.unread.is_empty() || self.counts.get(BYTES).is_none_or(|bytes| *bytes == 0) {
            Verdict::CouldNotLook
        } else {
            Verdict::NotFound
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < KEPT_FINDINGS {
            self.findings.push(finding);
        }
    }

    pub(super) fn unread(&mut self, name: impl Into<String>, why: impl ToString) {
        self.unread.push(Unread { name: name.into(), why: why.to_string() });
    }

    pub(super) fn count(&mut self, what: &'static str, number: u64) {
        *self.counts.entry(what).or_default() += number;
    }
}

/// Name of the count of bytes that were searched.
pub(super) const BYTES: &str = "bytes read";

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for finding in &self.findings {
            write!(f, "FOUND {}", finding.kind)?;
            if let Some(pid) = finding.pid {
                write!(f, " of process {pid}")?;
            }
            writeln!(f, ": {} at {:#x}, {}", finding.name, finding.offset, finding.form)?;
        }
        let kept = self.findings.len() as u64;
        if self.found > kept {
            writeln!(f, "FOUND {} more times", self.found - kept)?;
        }
        for unread in &self.unread {
            writeln!(f, "NOT READ {}: {}", unread.name, unread.why)?;
        }
        for (what, number) in &self.counts {
            writeln!(f, "{what}: {number}")?;
        }
        match self.verdict() {
            Verdict::NotFound => writeln!(f, "not found"),
            Verdict::Found => writeln!(f, "found {} times", self.found),
            Verdict::CouldNotLook => {
                writeln!(f, "NOT EVERYTHING COULD BE READ ({} places)", self.unread.len())
            }
        }
    }
}
