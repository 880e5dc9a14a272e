//! URL paths and path patterns, in one canonical form.
//!
//! A path is refused rather than repaired where servers disagree about its meaning: dot segments, empty segments, encoded
//! slashes and backslashes, path parameters (`;`), control characters. What remains is put into the normal form of
//! RFC 3986 section 6.2.2: percent-encoded unreserved characters are decoded, hexadecimal digits are upper-case. That form
//! is judged and is what is sent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest path, in bytes.
pub const PATH_MAX: usize = 8192;

/// A path in canonical form, without the query. Only [`CanonicalPath::from_str`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalPath(String);

/// Why a text is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with a slash.
    #[error("a path starts with '/'")]
    NotAbsolute,
    /// Longer than [`PATH_MAX`].
    #[error("a path has at most {PATH_MAX} bytes")]
    Length,
    /// A character that is not allowed unencoded in a path, or a path parameter.
    #[error("a path has only the characters of RFC 3986 segments, without ';'")]
    Character,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign is followed by two hexadecimal digits")]
    Percent,
    /// An encoded slash, backslash, path parameter, percent sign or control character.
    #[error("a path has no encoded slash, backslash, ';', '%' or control character")]
    Encoded,
    /// Encoded bytes that are not UTF-8, such as an overlong form of a dot or a slash.
    #[error("a path's percent-encoded bytes are UTF-8")]
    Utf8,
    /// A pattern that is not in the canonical form that paths are compared in.
    #[error(
        "write percent-encoding with upper-case digits and letters, digits, '-', '.', '_' and '~' without it"
    )]
    NotCanonical,
    /// A `.` or `..` segment, encoded or not.
    #[error("a path has no '.' or '..' segments")]
    DotSegment,
    /// An empty segment other than a single trailing slash.
    #[error("a path has no empty segments")]
    EmptySegment,
    /// `**` elsewhere than as the whole last segment, or `*` as a part of a segment.
    #[error("'*' stands for one whole segment and '**' only for the last")]
    Wildcard,
}

impl CanonicalPath {
    /// The path as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for CanonicalPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if text.len() > PATH_MAX {
            return Err(PathError::Length);
        }
        let mut canonical = String::with_capacity(text.len());
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() && segments.peek().is_some() {
                return Err(PathError::EmptySegment);
            }
            let segment = canonical_segment(segment)?;
            if percent_encoding::percent_decode_str(&segment).decode_utf8().is_err() {
                return Err(PathError::Utf8);
            }
            canonical.push('/');
            canonical.push_str(&segment);
        }
        Ok(Self(canonical))
    }
}

fn canonical_segment(segment: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hexadecimal).ok_or(PathError::Percent)?;
                let low = bytes.next().and_then(hexadecimal).ok_or(PathError::Percent)?;
                let decoded = high << 4 | low;
                match decoded {
                    b'/' | b'\\' | b';' | b'%' | 0..=0x1f | 0x7f => return Err(PathError::Encoded),
                    _ if is_unreserved(decoded) => out.push(char::from(decoded)),
                    _ => out.push_str(&format!("%{decoded:02X}")),
                }
            }
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
                out.push(char::from(byte));
            }
            _ if is_unreserved(byte) => out.push(char::from(byte)),
            _ => return Err(PathError::Character),
        }
    }
    if out == "." || out == ".." {
        return Err(PathError::DotSegment);
    }
    Ok(out)
}

/// Whether `segment` can stand literally in a pattern or a template: in canonical form, and without `*`.
///
/// Encoded bytes that are not UTF-8 pass. They match no path.
pub(crate) fn literal_segment(segment: &str) -> Result<(), PathError> {
    if segment.contains('*') {
        return Err(PathError::Wildcard);
    }
    if canonical_segment(segment)? != segment {
        return Err(PathError::NotCanonical);
    }
    Ok(())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Which paths a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    segments: Vec<Segment>,
    /// Whether everything below (and the path without more segments itself) matches too: a final `/**`.
    rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Segment {
    Literal(String),
    /// Any one segment that is not empty.
    Any,
}

impl Segment {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(own) => own == text,
            Self::Any => !text.is_empty(),
        }
    }

    fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, Self::Any) => Some(Self::Any),
            (Self::Literal(text), pattern) | (pattern, Self::Literal(text)) => {
                pattern.matches(text).then(|| Self::Literal(text.clone()))
            }
        }
    }
}

impl FromStr for PathPattern {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (head, rest) = match text.strip_suffix("/**") {
            Some(head) => (head, true),
            None => (text, false),
        };
        if head.is_empty() && rest {
            return Ok(Self { segments: Vec::new(), rest });
        }
        if text.len() > PATH_MAX {
            return Err(PathError::Length);
        }
        let below_root = head.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let last = below_root.split('/').count() - 1;
        let segments = below_root
            .split('/')
            .enumerate()
            .map(|(i, segment)| match segment {
                "" if i < last || rest => Err(PathError::EmptySegment),
                "*" => Ok(Segment::Any),
                other => literal_segment(other).map(|()| Segment::Literal(other.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { segments, rest })
    }
}

impl PathPattern {
    /// Whether the pattern speaks of `path`.
    #[must_use]
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        let mut given = path.segments();
        for own in &self.segments {
            match given.next() {
                Some(text) if own.matches(text) => {}
                _ => return false,
            }
        }
        self.rest || given.next().is_none()
    }

    /// The paths that both patterns speak of.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let (short, long) =
            if self.segments.len() <= other.segments.len() { (self, other) } else { (other, self) };
        let same_length = short.segments.len() == long.segments.len();
        if !same_length && !short.rest {
            return None;
        }
        let mut segments = Vec::with_capacity(long.segments.len());
        for (i, segment) in long.segments.iter().enumerate() {
            segments.push(match short.segments.get(i) {
                Some(own) => own.intersect(segment)?,
                None => segment.clone(),
            });
        }
        Some(Self { segments, rest: long.rest && short.rest })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(out, "/{text}")?,
                Segment::Any => out.write_str("/*")?,
            }
        }
        if self.rest {
            out.write_str("/**")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}
