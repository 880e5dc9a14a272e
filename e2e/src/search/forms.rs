//! The forms a secret is looked for in, and the automaton that finds any of them.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};

use super::secret::Secret;

/// All forms of a value that differ from each other, with their names.
pub fn forms(secret: &Secret) -> Vec<(&'static str, Vec<u8>)> {
    let plain = secret.bytes();
    let reversed: Vec<u8> = plain.iter().rev().copied().collect();
    let mut all = Vec::new();
    for (names, bytes) in [(&NAMES, plain), (&REVERSED_NAMES, reversed.as_slice())] {
        let forms = [
            bytes.to_vec(),
            base64(bytes, 0, &STANDARD),
            base64(bytes, 1, &STANDARD),
            base64(bytes, 2, &STANDARD),
            base64(bytes, 0, &URL_SAFE),
            base64(bytes, 1, &URL_SAFE),
            base64(bytes, 2, &URL_SAFE),
            hex(bytes, false),
            hex(bytes, true),
            percent(bytes, |_| true, false),
            percent(bytes, |_| true, true),
            percent(bytes, needs_percent, false),
            percent(bytes, needs_percent, true),
        ];
        all.extend(names.iter().copied().zip(forms));
    }
    let mut kept: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (name, form) in all {
        if !kept.iter().any(|other| other.1 == form) {
            kept.push((name, form));
        }
    }
    kept
}

const NAMES: [&str; 13] = [
    "plain",
    "base64 (+0)",
    "base64 (+1)",
    "base64 (+2)",
    "base64url (+0)",
    "base64url (+1)",
    "base64url (+2)",
    "hex (lower case)",
    "hex (upper case)",
    "percent, every byte (lower case)",
    "percent, every byte (upper case)",
    "percent (lower case)",
    "percent (upper case)",
];

const REVERSED_NAMES: [&str; 13] = [
    "reversed",
    "base64 of reversed (+0)",
    "base64 of reversed (+1)",
    "base64 of reversed (+2)",
    "base64url of reversed (+0)",
    "base64url of reversed (+1)",
    "base64url of reversed (+2)",
    "hex of reversed (lower case)",
    "hex of reversed (upper case)",
    "percent of reversed, every byte (lower case)",
    "percent of reversed, every byte (upper case)",
    "percent of reversed (lower case)",
    "percent of reversed (upper case)",
];

/// The characters that are the same whatever stands before (`shift` bytes modulo 3) and after the value.
fn base64(bytes: &[u8], shift: usize, alphabet: &Alphabet) -> Vec<u8> {
    let padded = [vec![0; shift], bytes.to_vec()].concat();
    let text = GeneralPurpose::new(alphabet, NO_PAD).encode(&padded).into_bytes();
    // 6 bits a character: the first that holds no bit of the padding, the last that holds no bit of what follows.
    let first = (shift * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    text.get(first..end).unwrap_or_default().to_vec()
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let digits = bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
    digits.collect::<String>().into_bytes()
}

fn percent(bytes: &[u8], needs: fn(u8) -> bool, upper: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bytes {
        if needs(*byte) {
            out.push(b'%');
            out.extend(hex(&[*byte], upper));
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Everything but the unreserved characters of RFC 3986, 2.3.
fn needs_percent(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Finds every form of a secret.
pub struct Needles {
    automaton: AhoCorasick,
    names: Vec<&'static str>,
    longest: usize,
}

impl Needles {
    /// The needles of a value.
    pub fn new(secret: &Secret) -> Result<Self, aho_corasick::BuildError> {
        let forms = forms(secret);
        Ok(Self {
            automaton: AhoCorasick::new(forms.iter().map(|form| &form.1))?,
            names: forms.iter().map(|form| form.0).collect(),
            longest: forms.iter().map(|form| form.1.len()).max().unwrap_or(0),
        })
    }

    /// Length of the longest form in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Start, end and form of every place, overlapping ones too.
    pub fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, usize, &'static str)> + 'a {
        self.automaton.find_overlapping_iter(text).map(|found| {
            let name = self.names.get(found.pattern().as_usize()).copied().unwrap_or("unknown form");
            (found.start(), found.end(), name)
        })
    }

    /// The text, unless the value stands in it.
    pub fn printable(&self, text: &str) -> String {
        match self.find(text.as_bytes()).next() {
            None => text.to_owned(),
            Some(_) => "(a name that holds the value)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD as STD, URL_SAFE as URL};

    const VALUE: &[u8] = b"a?s3cret~value/\xff\xfe>";

    fn check(text: &[u8], expected: &str) {
        let needles = Needles::new(&Secret::new(VALUE.to_vec()).unwrap()).unwrap();
        let found: Vec<_> = needles.find(text).map(|found| found.2).collect();
        assert!(found.contains(&expected), "{expected} not in {found:?}");
    }

    #[test]
    fn every_form_is_found_whatever_stands_around_it() {
        for (before, plus) in [("", "+0"), ("x", "+1"), ("xy", "+2"), ("xyz", "+0"), ("xyzx", "+1")] {
            for after in ["", "1", "12", "123"] {
                let around = [before.as_bytes(), VALUE, after.as_bytes()].concat();
                check(&around, "plain");
                check(STD.encode(&around).as_bytes(), &format!("base64 ({plus})"));
                check(URL.encode(&around).as_bytes(), &format!("base64url ({plus})"));
            }
        }
        let lower: String = VALUE.iter().map(|byte| format!("{byte:02x}")).collect();
        check(lower.as_bytes(), "hex (lower case)");
        check(lower.to_uppercase().as_bytes(), "hex (upper case)");
        check(b"%61%3f%73%33%63%72%65%74%7e%76%61%6c%75%65%2f%ff%fe%3e", "percent, every byte (lower case)");
        check(b"%61%3F%73%33%63%72%65%74%7E%76%61%6C%75%65%2F%FF%FE%3E", "percent, every byte (upper case)");
        check(b"a%3Fs3cret~value%2F%FF%FE%3E", "percent (upper case)");
        check(b"a%3fs3cret~value%2f%ff%fe%3e", "percent (lower case)");
        let reversed: Vec<u8> = VALUE.iter().rev().copied().collect();
        check(&reversed, "reversed");
        check(STD.encode(&reversed).as_bytes(), "base64 of reversed (+0)");
    }

    #[test]
    fn other_values_are_not_found() {
        let needles = Needles::new(&Secret::new(VALUE.to_vec()).unwrap()).unwrap();
        let near = b"a?s3cret~valuf/\xff\xfe>";
        for text in [near.to_vec(), STD.encode(near).into_bytes(), hex(near, false)] {
            assert_eq!(needles.find(&text).count(), 0);
        }
        assert_eq!(needles.printable("name"), "name");
    }
}
