//! Server-sent events (WHATWG HTML, "Server-sent events"): bytes to events and back. No IO.
//!
//! An event is given only when the blank line that ends it arrived, so whatever a broken connection cut off is never seen.
//! `id` and `retry` are ignored: nobody here reconnects in the middle of a stream.

use bytes::Bytes;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Value of the `event` field, empty where there was none.
    pub kind: String,
    /// Lines of the `data` fields, joined by line feeds.
    pub data: String,
}

/// Why a stream cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line or an event is larger than the reader's bound.
    #[error("an event of the stream is too large")]
    TooLarge,
    /// An event is not UTF-8.
    #[error("an event of the stream is not UTF-8")]
    NotUtf8,
}

/// Turns bytes, cut anywhere, into events.
pub struct Reader {
    /// The line under way, without its end.
    line: Vec<u8>,
    kind: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return: a line feed right after it belongs to the same line end.
    after_return: bool,
    /// No line was read yet: a byte order mark may lead.
    first: bool,
    max: usize,
}

impl Reader {
    /// A reader that holds at most `max` bytes of one line and of one event.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            line: Vec::new(),
            kind: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_return: false,
            first: true,
            max,
        }
    }

    /// Takes the next bytes and gives the events that they complete.
    ///
    /// # Errors
    /// When an event is too large or not UTF-8; the stream is then of no further use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, SseError> {
        let mut events = Vec::new();
        for &byte in bytes {
            let ends_line = match byte {
                b'\n' if self.after_return => {
                    self.after_return = false;
                    continue;
                }
                b'\n' | b'\r' => true,
                _ => false,
            };
            self.after_return = byte == b'\r';
            if ends_line {
                events.extend(self.end_of_line()?);
            } else if self.line.len() < self.max {
                self.line.push(byte);
            } else {
                return Err(SseError::TooLarge);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, SseError> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            return self.end_of_event();
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.kind = value.to_vec(),
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            // A comment has an empty name.
            _ => {}
        }
        if self.data.len() + self.kind.len() > self.max {
            return Err(SseError::TooLarge);
        }
        // The buffer is kept, so that a long stream does not allocate for every line.
        line.clear();
        self.line = line;
        Ok(None)
    }

    fn end_of_event(&mut self) -> Result<Option<Event>, SseError> {
        let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        if !std::mem::take(&mut self.has_data) {
            return Ok(None);
        }
        let text = |bytes| String::from_utf8(bytes).map_err(|_| SseError::NotUtf8);
        Ok(Some(Event { kind: text(kind)?, data: text(data)? }))
    }
}

/// The bytes of an event without a name.
#[must_use]
pub fn encode(data: &str) -> Bytes {
    let mut out = String::with_capacity(data.len() + 8);
    for line in data.split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    Bytes::from(out)
}

/// A comment, which keeps an idle stream open and no client sees.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": still working\n\n");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]], max: usize) -> Result<Vec<(String, String)>, SseError> {
        let mut reader = Reader::new(max);
        let mut events = Vec::new();
        for chunk in chunks {
            events.extend(reader.push(chunk)?.into_iter().map(|event| (event.kind, event.data)));
        }
        Ok(events)
    }

    fn check(stream: &[u8], expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(kind, data)| ((*kind).to_owned(), (*data).to_owned())).collect();
        assert_eq!(read(&[stream], 64).unwrap(), expected, "{stream:?}");
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&single, 64).unwrap(), expected, "byte by byte: {stream:?}");
    }

    #[test]
    fn grammar() {
        check(b"data: a\n\n", &[("", "a")]);
        check(b"data:a\r\n\r\ndata: b\r\rdata:  c\n\n", &[("", "a"), ("", "b"), ("", " c")]);
        check(b"event: error\ndata: x\n\n", &[("error", "x")]);
        check(b"data: a\ndata: b\n\n", &[("", "a\nb")]);
        check(b"data\n\n", &[("", "")]);
        check(b": comment\nid: 7\nretry: 9\nunknown: y\n\n", &[]);
        check(b"event: lost\n\ndata: a\n\n", &[("", "a")]);
        check(b"\xef\xbb\xbfdata: a\n\n", &[("", "a")]);
        check("data: é\n\n".as_bytes(), &[("", "é")]);
        // Not ended by a blank line: cut off, so never seen.
        check(b"data: a\n\ndata: b\n", &[("", "a")]);
        check(b"data: a\n\ndata: \xc3", &[("", "a")]);
    }

    #[test]
    fn bounds() {
        assert_eq!(read(&[b"data: 1234567890\n\n"], 10), Err(SseError::TooLarge), "line");
        assert_eq!(read(&[b"data: 123\ndata: 456\ndata: 789\n\n"], 10), Err(SseError::TooLarge), "event");
        assert_eq!(read(&[b"data: \xc3\n\n"], 10), Err(SseError::NotUtf8));
    }

    proptest! {
        /// However a stream is cut, the same events come out, in every line-end style.
        #[test]
        fn chunking(
            data in proptest::collection::vec("[^\\r\\n]{0,12}(\\n[^\\r\\n]{0,12})?", 0..6),
            end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            cuts in proptest::collection::vec(0usize..400, 0..12),
        ) {
            let stream: String = data
                .iter()
                .map(|text| format!("{}{end}", text.split('\n').map(|l| format!("data: {l}{end}")).collect::<String>()))
                .collect();
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let got: Vec<_> = read(&chunks, 4096).unwrap().into_iter().map(|(_, data)| data).collect();
            prop_assert_eq!(got, data);
        }

        /// No bytes make the reader panic, and it never holds more than its bound.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut reader = Reader::new(32);
            if let Ok(events) = reader.push(&bytes) {
                prop_assert!(events.iter().all(|event| event.data.len() <= 32));
            }
            prop_assert!(reader.line.len() <= 32);
        }

        /// What is encoded is read back.
        #[test]
        fn round_trip(data in "[^\\r]{0,60}") {
            let got = read(&[&encode(&data)], 4096).unwrap();
            prop_assert_eq!(got, vec![(String::new(), data)]);
        }
    }
}
