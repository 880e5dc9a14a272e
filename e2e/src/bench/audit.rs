//! What one account asked of the API server, read from its audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::Deserialize;

/// Requests of one account.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// By verb and resource, those that change something.
    pub writes: BTreeMap<String, u64>,
    /// Those that change nothing, without watches.
    pub reads: u64,
    /// By status code, what was not granted; without 404 for reads.
    pub refused: BTreeMap<u16, u64>,
}

impl Requests {
    /// All writes.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.writes.values().sum()
    }

    fn count(&mut self, line: &Line) {
        let code = line.response_status.as_ref().and_then(|status| status.code).unwrap_or_default();
        let object = line.object_ref.as_ref();
        let resource = object.and_then(|object| object.resource.as_deref()).unwrap_or("-");
        let below = object
            .and_then(|object| object.subresource.as_deref())
            .map_or(String::new(), |s| format!("/{s}"));
        let write =
            matches!(line.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        if write {
            *self.writes.entry(format!("{} {resource}{below}", line.verb)).or_default() += 1;
        } else if line.verb != "watch" {
            self.reads += 1;
        }
        if code >= 400 && (write || code != 404) {
            *self.refused.entry(code).or_default() += 1;
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    object_ref: Option<Object>,
    response_status: Option<Code>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Code {
    code: Option<u16>,
}

/// Follows the audit log through its rotations.
pub struct AuditLog {
    path: PathBuf,
    open: BufReader<File>,
    rest: Vec<u8>,
}

impl AuditLog {
    /// From the log's beginning.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: PathBuf) -> std::io::Result<Self> {
        let open = BufReader::new(File::open(&path)?);
        Ok(Self { path, open, rest: Vec::new() })
    }

    /// The requests by account since the last call.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn since(&mut self) -> std::io::Result<BTreeMap<String, Requests>> {
        let mut counted = BTreeMap::<String, Requests>::new();
        loop {
            while self.open.read_until(b'\n', &mut self.rest)? > 0 {
                if self.rest.last() != Some(&b'\n') {
                    break;
                }
                if let Ok(line) = serde_json::from_slice::<Line>(&self.rest) {
                    let name = line.user.username.rsplit(':').next().unwrap_or_default().to_owned();
                    counted.entry(name).or_default().count(&line);
                }
                self.rest.clear();
            }
            // Renamed when it is full; all of the old one has been read by then.
            if self.open.get_ref().metadata()?.ino() == std::fs::metadata(&self.path)?.ino() {
                return Ok(counted);
            }
            self.open = BufReader::new(File::open(&self.path)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn requests_are_counted_by_account_and_through_a_rotation() {
        let folder = std::env::temp_dir().join(format!("redoubt-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("audit.log");
        let line = |user: &str, verb: &str, code: u16| {
            format!(
                "{}\n",
                serde_json::json!({ "verb": verb, "user": { "username": format!("system:serviceaccount:n:{user}") },
                    "objectRef": { "resource": "pods", "subresource": "status" }, "responseStatus": { "code": code } })
            )
        };
        std::fs::write(&path, line("a", "create", 201) + &line("b", "get", 404)).unwrap();
        let mut log = AuditLog::open(path.clone()).unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        let later = line("a", "patch", 409);
        let (first, second) = later.split_at(20);
        write!(file, "{first}").unwrap();
        let counted = log.since().unwrap();
        assert_eq!(counted["a"].writes, BTreeMap::from([("create pods/status".to_owned(), 1)]));
        assert_eq!((counted["b"].reads, counted["b"].written(), counted["b"].refused.len()), (1, 0, 0));
        write!(file, "{second}").unwrap();
        std::fs::rename(&path, folder.join("audit-1.log")).unwrap();
        std::fs::write(&path, line("a", "watch", 200) + &line("a", "delete", 200)).unwrap();
        let counted = log.since().unwrap();
        assert_eq!((counted["a"].written(), counted["a"].reads), (2, 0));
        assert_eq!(counted["a"].refused, BTreeMap::from([(409, 1)]));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
