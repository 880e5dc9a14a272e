//! Lines of a log from pieces of any size, each of a bounded length.

/// Longest line that is kept, in bytes. The sidecar's records are shorter; what an agent writes may be longer.
const LONGEST: usize = 256 * 1024;
/// What stands at the end of a line that was cut.
const CUT: &str = " (cut)";

/// The beginning of a line that is not whole yet.
#[derive(Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    cut: bool,
}

impl Lines {
    /// The lines that are whole with this piece, without their line feeds. Nothing at all is the end: what is left is a line.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        if piece.is_empty() && !self.begun.is_empty() {
            whole.push(self.take());
        }
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LONGEST.saturating_sub(self.begun.len());
            self.cut |= text.len() > room;
            self.begun.extend(text.iter().take(room));
            if ended {
                whole.push(self.take());
            }
        }
        whole
    }

    fn take(&mut self) -> String {
        let mut line = String::from_utf8_lossy(&self.begun).into_owned();
        if std::mem::take(&mut self.cut) {
            line.push_str(CUT);
        }
        self.begun.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_from_pieces() {
        let text = "one\n\ntw\u{f6}\nthree";
        for size in [1, 2, 3, 100] {
            let mut lines = Lines::default();
            let mut got: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|piece| lines.feed(piece)).collect();
            got.extend(lines.feed(&[]));
            assert_eq!(got, ["one", "", "tw\u{f6}", "three"], "{size}");
            assert!(lines.feed(&[]).is_empty());
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_than_its_bound() {
        let mut lines = Lines::default();
        for _ in 0..64 {
            assert!(lines.feed(&[b'a'; 16 * 1024]).is_empty());
        }
        assert_eq!(lines.begun.len(), LONGEST);
        let got = lines.feed(b"b\nnext\n");
        assert!(got[0].ends_with("a (cut)") && got[1] == "next");
    }
}
