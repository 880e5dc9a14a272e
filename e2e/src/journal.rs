//! What arrived at a double, in order. Header values are kept as they came: that is what the doubles are for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

/// So many requests are kept; older ones are dropped and counted.
pub const KEPT_REQUESTS: usize = 4096;

/// One request as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// 1 for the first request since the start or the last deletion.
    pub number: u64,
    /// Milliseconds since the double started.
    pub at_ms: u64,
    /// Method, as sent.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark; empty without one.
    pub query: String,
    /// Names (as sent) and values, in order, repeated ones kept.
    pub headers: Vec<(String, String)>,
    /// Body as text, or in base64 when it is not UTF-8 (see `bodyEncoding`).
    pub body: String,
    /// `utf8` or `base64`.
    pub body_encoding: String,
    /// The credential the double asks for was there and right.
    pub authorised: bool,
    /// Status the double answered with; 0 when it never sent one.
    pub status: u16,
    /// What the double decided: the step of a script, the misbehaviour, or why it refused.
    pub note: String,
}

impl Recorded {
    /// Puts the body in, as text where it is text.
    pub fn set_body(&mut self, body: &[u8]) {
        (self.body, self.body_encoding) = match std::str::from_utf8(body) {
            Ok(text) => (text.to_owned(), "utf8".to_owned()),
            Err(_) => (base64::engine::general_purpose::STANDARD.encode(body), "base64".to_owned()),
        };
    }
}

/// All that is kept, as `GET /control/requests` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// Requests in order of arrival.
    pub requests: Vec<Recorded>,
    /// How many older ones are no longer kept.
    pub dropped: u64,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Recorded>,
    next: u64,
    dropped: u64,
}

/// The requests of one double.
pub struct Journal {
    started: Instant,
    kept: Mutex<Kept>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { started: Instant::now(), kept: Mutex::default() }
    }
}

impl Journal {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request; number and time are set here.
    pub fn add(&self, mut request: Recorded) {
        request.at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut kept = self.kept();
        kept.next += 1;
        request.number = kept.next;
        if kept.requests.len() == KEPT_REQUESTS {
            kept.requests.pop_front();
            kept.dropped += 1;
        }
        kept.requests.push_back(request);
    }

    /// All that is kept.
    pub fn page(&self) -> Page {
        let kept = self.kept();
        Page { requests: kept.requests.iter().cloned().collect(), dropped: kept.dropped }
    }

    /// Forgets everything; numbers begin at 1 again.
    pub fn clear(&self) {
        *self.kept() = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_requests_are_dropped_and_counted() {
        let journal = Journal::default();
        for _ in 0..KEPT_REQUESTS + 3 {
            journal.add(Recorded::default());
        }
        let page = journal.page();
        assert_eq!((page.requests.len(), page.dropped, page.requests[0].number), (KEPT_REQUESTS, 3, 4));
        journal.clear();
        assert!(journal.page().requests.is_empty());
    }

    #[test]
    fn body_that_is_not_text_is_kept_in_base64() {
        let mut request = Recorded::default();
        request.set_body(&[0xff, 0xfe]);
        assert_eq!((request.body.as_str(), request.body_encoding.as_str()), ("//4=", "base64"));
    }
}
