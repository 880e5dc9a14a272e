//! Looking through bytes that come in parts: what lies across two parts is found, and found once.

use super::forms::Needles;

/// The state between two parts.
pub(super) struct Scanner<'n> {
    needles: &'n Needles,
    /// The end of what came before, too short for a whole needle, and the next part after it.
    window: Vec<u8>,
    /// Offset of the window's first byte.
    start: u64,
}

impl<'n> Scanner<'n> {
    /// Begins at an offset.
    pub(super) fn new(needles: &'n Needles, offset: u64) -> Self {
        Self { needles, window: Vec::new(), start: offset }
    }

    /// Goes on at another offset, with nothing in between.
    pub(super) fn jump(&mut self, offset: u64) {
        if offset != self.start + self.window.len() as u64 {
            self.window.clear();
            self.start = offset;
        }
    }

    /// Takes the next part; `found` gets offset and form.
    pub(super) fn feed(&mut self, part: &[u8], mut found: impl FnMut(u64, &'static str)) {
        let known = self.window.len();
        self.window.extend_from_slice(part);
        for (start, end, form) in self.needles.find(&self.window) {
            if end > known {
                found(self.start + start as u64, form);
            }
        }
        let keep = self.needles.longest().saturating_sub(1).min(self.window.len());
        let gone = self.window.len() - keep;
        self.window.drain(..gone);
        self.start += gone as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::Secret;
    use super::*;

    #[test]
    fn found_once_wherever_the_parts_are_cut() {
        let needles = Needles::new(&Secret::new(b"0123456789".to_vec()).unwrap()).unwrap();
        let text = b"....0123456789....0123456789";
        for size in 1..=text.len() {
            let mut scanner = Scanner::new(&needles, 100);
            let mut places = Vec::new();
            for part in text.chunks(size) {
                scanner.feed(part, |offset, form| places.push((offset, form)));
            }
            assert_eq!(places, [(104, "plain"), (118, "plain")], "parts of {size}");
        }
    }

    #[test]
    fn nothing_is_found_across_a_gap() {
        let needles = Needles::new(&Secret::new(b"0123456789".to_vec()).unwrap()).unwrap();
        let mut scanner = Scanner::new(&needles, 0);
        let mut count = 0;
        scanner.feed(b"01234", |_, _| count += 1);
        scanner.jump(4096);
        scanner.feed(b"56789", |_, _| count += 1);
        assert_eq!(count, 0);
        scanner.jump(4101);
        scanner.feed(b"0123456789", |offset, _| count += offset);
        assert_eq!(count, 4101);
    }
}
