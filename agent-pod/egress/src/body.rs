//! Bodies on their way through: looked into, bounded in time, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use redoubt_scan::{Gate, Redactor};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, Sleep, sleep};

use crate::audit::Entry;
use crate::credentials::{Credentials, Watchlist};
use crate::fault::{self, Ended, Fault};
use crate::pool::Lease;
use crate::refuse::Refused;

/// Most times that values may be replaced during one answer. It is ended then.
const REDACTORS_MAX: usize = 32;

/// A body that is answered with.
pub(crate) type Body = UnsyncBoxBody<Bytes, Ended>;

/// How far the body of a request is.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    sent: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Progress {
    /// Bytes given to the upstream connection.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the whole body was given to it.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// The body of a request: nothing of it goes on that may be the beginning of a credential. Trailers are dropped.
pub(crate) struct RequestBody {
    inner: Incoming,
    gate: Option<Gate>,
    watchlist: Arc<Watchlist>,
    held: u64,
    fault: Fault,
    progress: Progress,
    idle: Idle,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, watchlist: Arc<Watchlist>, idle: Duration, fault: Fault) -> Self {
        let progress = Progress::default();
        progress.done.store(inner.is_end_stream(), Ordering::Release);
        let gate = Some(Gate::new(Arc::clone(&watchlist.needles)));
        Self { inner, gate, watchlist, held: 0, fault, progress, idle: Idle::new(idle) }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn count(&self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        self.progress.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let this = self.get_mut();
        loop {
            if let Some(fault) = this.fault.get() {
                return Poll::Ready(Some(Err(this.fault.set(fault))));
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending if this.idle.is_over(cx) => {
                    this.fault.set(fault::body_silent());
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(_))) => {
                    this.fault.set(fault::body_malformed());
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.idle.restart();
                    let (Ok(data), Some(gate)) = (frame.into_data(), &mut this.gate) else { continue };
                    let read = data.len() as u64;
                    match gate.push(data) {
                        Ok(safe) => {
                            this.held = (this.held + read).saturating_sub(safe.len() as u64);
                            if !safe.is_empty() {
                                return this.count(safe);
                            }
                        }
                        Err(found) => {
                            let binding = this.watchlist.binding(found.needle);
                            this.fault.set(fault::credential_in_request("body", binding));
                        }
                    }
                }
                Poll::Ready(None) => {
                    this.progress.done.store(true, Ordering::Release);
                    let rest = this.gate.take().map(Gate::finish).unwrap_or_default();
                    this.held = 0;
                    return if rest.is_empty() { Poll::Ready(None) } else { this.count(rest) };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.held == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.inner.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.held),
            None => SizeHint::default(),
        }
    }
}

/// The body of an answer: credentials in it are overwritten, byte by byte, so that lengths stay true. Trailers are dropped.
pub(crate) struct ResponseBody {
    inner: Incoming,
    credentials: Arc<Credentials>,
    /// The first looks for the values at the beginning; whenever values are replaced, one more looks for the new ones
    /// in what the one before lets through. No value can be in an answer before it is there.
    redactors: Vec<(Redactor, Arc<Watchlist>)>,
    held: u64,
    received: u64,
    header_hits: u64,
    fault: Fault,
    idle: Idle,
    revoked: Option<oneshot::Receiver<Refused>>,
    progress: Progress,
    lease: Option<Lease>,
    entry: Entry,
    /// A place for the record of a redaction.
    redaction: Option<Entry>,
    _place: OwnedSemaphorePermit,
}

/// What a [`ResponseBody`] needs to know of its exchange.
pub(crate) struct Exchange {
    /// Among the requests under way.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) watchlist: Arc<Watchlist>,
    pub(crate) idle: Duration,
    pub(crate) fault: Fault,
    pub(crate) revoked: oneshot::Receiver<Refused>,
    pub(crate) progress: Progress,
    pub(crate) lease: Lease,
    pub(crate) entry: Entry,
    pub(crate) redaction: Entry,
}

impl ResponseBody {
    /// `header_hits` credentials were already overwritten in the head.
    pub(crate) fn new(inner: Incoming, exchange: Exchange, header_hits: u64) -> Self {
        let Exchange {
            place,
            credentials,
            watchlist,
            idle,
            fault,
            revoked,
            progress,
            lease,
            entry,
            redaction,
        } = exchange;
        Self {
            inner,
            credentials,
            redactors: vec![(Redactor::new(Arc::clone(&watchlist.needles)), watchlist)],
            held: 0,
            received: 0,
            header_hits,
            fault,
            idle: Idle::new(idle),
            revoked: Some(revoked),
            progress,
            lease: Some(lease),
            entry,
            redaction: Some(redaction),
            _place: place,
        }
    }

    /// What can go on of these bytes, with every value overwritten that is held by now or was at any time since the
    /// beginning.
    fn redact(&mut self, data: Bytes) -> Result<Bytes, Refused> {
        let now = self.credentials.watchlist()?;
        if self.redactors.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &now)) {
            if self.redactors.len() == REDACTORS_MAX {
                return Err(fault::credentials_changed());
            }
            self.redactors.push((Redactor::new(Arc::clone(&now.needles)), now));
        }
        Ok(self.redactors.iter_mut().fold(data, |data, (redactor, _)| redactor.push(data)))
    }

    /// What the redactors still hold, at the end.
    fn rest(&mut self) -> Bytes {
        self.redactors.iter_mut().fold(Bytes::new(), |before, (redactor, _)| {
            let mut safe = redactor.push(before).to_vec();
            safe.extend_from_slice(&redactor.finish());
            safe.into()
        })
    }

    fn finish(&mut self) {
        // A connection that still carries the request cannot carry another.
        if let Some(lease) = self.lease.take()
            && self.progress.is_done()
        {
            lease.give_back();
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let this = self.get_mut();
        loop {
            if let Some(Poll::Ready(revoked)) = this.revoked.as_mut().map(|it| it.poll_unpin(cx)) {
                this.revoked = None;
                if let Ok(refused) = revoked {
                    this.fault.set(refused);
                }
            }
            if let Some(fault) = this.fault.get() {
                this.lease = None;
                return Poll::Ready(Some(Err(this.fault.set(fault))));
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending if this.idle.is_over(cx) => {
                    this.fault.set(fault::upstream_silent());
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(_))) => {
                    this.fault.set(fault::upstream_malformed("it ended early or is framed wrongly"));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.idle.restart();
                    let Ok(data) = frame.into_data() else { continue };
                    let read = data.len() as u64;
                    this.received += read;
                    let safe = match this.redact(data) {
                        Ok(safe) => safe,
                        Err(refused) => {
                            this.fault.set(refused);
                            continue;
                        }
                    };
                    this.held = (this.held + read).saturating_sub(safe.len() as u64);
                    if !safe.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(safe))));
                    }
                }
                Poll::Ready(None) => {
                    this.finish();
                    this.held = 0;
                    let rest = this.rest();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.held == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.inner.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.held),
            None => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.finish();
        }
        let record = &mut self.entry.record;
        record.bytes_sent = Some(self.progress.sent());
        record.bytes_received = Some(self.received);
        if let Some(fault) = self.fault.get() {
            let status = record.status;
            record.refuse(&fault);
            // The status that was sent before the fault.
            record.status = status;
        } else if self.lease.is_some() {
            record.detail = Some("ended by the client".to_owned());
        }
        let Some(mut redaction) = self.redaction.take() else { return };
        let hits = self.header_hits + self.redactors.iter().map(|(it, _)| it.hits()).sum::<u64>();
        if hits == 0 {
            redaction.cancel();
            return;
        }
        let of_body = self
            .redactors
            .iter()
            .find_map(|(redactor, watchlist)| redactor.found().find_map(|index| watchlist.binding(index)));
        if let Some(binding) = of_body {
            redaction.record.binding = Some(binding.to_owned());
        }
        redaction.record.redactions = Some(hits);
    }
}

/// How long a body may be silent. The timer is made when it is first needed.
struct Idle {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        self.timer.get_or_insert_with(|| Box::pin(sleep(limit))).poll_unpin(cx).is_ready()
    }

    fn restart(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + self.limit);
        }
    }
}
