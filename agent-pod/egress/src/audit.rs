//! The record of everything that was asked: one JSON object per line, written by one thread.
//!
//! A record's place is reserved before the thing it records is done. So when the sink is stuck, things are refused rather
//! than done unrecorded.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use serde::Serialize;
use tokio::sync::mpsc::{self, OwnedPermit};

use crate::clock::rfc3339;
use crate::metrics::Metrics;
use crate::refuse::Refused;

/// Records that may wait to be written.
const QUEUE: usize = 4096;
/// How long a place in the queue is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// One record. It never holds a credential's value, a header's value or a query.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) time: String,
    /// `request`, `connect`, `lease`, `redaction`, `inbound`, `tool-call`, `verdict`, `policy`.
    pub(crate) event: &'static str,
    /// `allow` or `refuse`.
    pub(crate) decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<String>,
    /// Of the tool, as the brain called it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function: Option<String>,
    /// The brain's own name of a tool call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// Canonical, without the query. Absent if the request held a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// The address that was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u64>,
    /// Name of the SecretBinding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binding: Option<String>,
    /// How many occurrences of credentials were overwritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redactions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    /// `Kind/NAME FIELD` of a ceiling or deny in mode `Audit` that would refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) would_refuse: Option<String>,
    /// What decided: the grant of a request that was allowed, or what refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl Record {
    pub(crate) fn new(event: &'static str) -> Self {
        Self { event, decision: "allow", ..Self::default() }
    }

    /// Turns it into the record of a refusal.
    pub(crate) fn refuse(&mut self, refused: &Refused) {
        self.decision = "refuse";
        self.status = Some(refused.status.as_u16());
        self.reason = Some(refused.refusal.reason.clone());
        self.object = Some(refused.refusal.object.clone());
        self.field = Some(refused.refusal.field.clone());
    }
}

/// The audit log.
#[derive(Clone)]
pub(crate) struct Audit {
    queue: mpsc::Sender<Record>,
    metrics: Arc<Metrics>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Audit {
    /// Starts the writing thread. Every record is counted in `metrics`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(mut sink: Box<dyn Write + Send>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (queue, mut records) = mpsc::channel::<Record>(QUEUE);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            while let Some(record) = records.blocking_recv() {
                // When it cannot be written the thread ends, and with it the queue: nothing is granted any more.
                let Ok(mut line) = serde_json::to_vec(&record) else { return };
                line.push(b'\n');
                if sink.write_all(&line).and_then(|()| sink.flush()).is_err() {
                    tracing::error!("the audit log cannot be written; every request is refused from now on");
                    return;
                }
            }
        })?;
        Ok(Self { queue, metrics, writer: Arc::new(Mutex::new(Some(writer))) })
    }

    /// Whether records can be written.
    pub(crate) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Begins a record. It is written when it is dropped, at the latest.
    pub(crate) async fn begin(&self, record: Record) -> Result<Entry, Refused> {
        let reserved = tokio::time::timeout(PATIENCE, self.queue.clone().reserve_owned()).await;
        let Ok(Ok(place)) = reserved else {
            return Err(Refused::by_pod(
                StatusCode::SERVICE_UNAVAILABLE,
                "AuditUnavailable",
                "the audit log cannot be written, so nothing is done",
                "Look at what reads the standard output of the egress container.",
            ));
        };
        let metrics = Arc::clone(&self.metrics);
        Ok(Entry { place: Some(place), record, metrics, started: Instant::now() })
    }

    /// Writes a record at once.
    pub(crate) async fn write(&self, record: Record) -> Result<(), Refused> {
        self.begin(record).await.map(drop)
    }

    /// Waits until what is recorded is written. All other handles must be gone.
    pub(crate) fn close(self) {
        let Self { queue, metrics: _, writer } = self;
        drop(queue);
        let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ended = writer.join();
        }
    }
}

/// A record that is being made.
pub(crate) struct Entry {
    place: Option<OwnedPermit<Record>>,
    pub(crate) record: Record,
    metrics: Arc<Metrics>,
    started: Instant,
}

impl Entry {
    /// Nothing happened that is worth a record.
    pub(crate) fn cancel(mut self) {
        self.place = None;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let mut record = std::mem::take(&mut self.record);
            record.time = rfc3339(SystemTime::now());
            let took = self.started.elapsed();
            record.duration_ms = u64::try_from(took.as_millis()).ok();
            self.metrics.recorded(&record, took);
            place.send(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_line_per_record_whatever_is_in_it() {
        let memory = Memory::default();
        let audit = Audit::start(Box::new(memory.clone()), Metrics::new().0).unwrap();
        let nasty = "a\r\n{\"event\":\"fake\"}\u{1b}[2J\0\u{2028}";
        let record = Record { path: Some(nasty.to_owned()), ..Record::new("request") };
        audit.write(record.clone()).await.unwrap();
        drop(audit.begin(record).await.unwrap());
        audit.close();
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line["path"] == nasty && line["event"] == "request"));
        assert!(!text.contains('\u{1b}'));
    }

    #[tokio::test]
    async fn nothing_is_done_when_nothing_can_be_recorded() {
        let audit = Audit::start(Box::new(Broken), Metrics::new().0).unwrap();
        audit.write(Record::new("request")).await.unwrap();
        while audit.is_open() {
            tokio::task::yield_now().await;
        }
        let refused = audit.write(Record::new("request")).await.unwrap_err();
        assert_eq!(refused.refusal.reason, "AuditUnavailable");
    }
}
