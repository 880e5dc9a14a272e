//! Bodies that are read up to a bound and no further.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// What was read of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// At most as many bytes as were asked for.
    pub bytes: Bytes,
    /// Whether there was more.
    pub truncated: bool,
}

/// Reads `body` to its end or to `max` bytes, whichever comes first. The rest is not read.
///
/// # Errors
/// When the body breaks off.
pub async fn read_up_to<B>(body: B, max: usize) -> Result<Bounded, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut body = body;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = max - bytes.len();
        if data.len() > room {
            bytes.extend_from_slice(&data.slice(..room));
            return Ok(Bounded { bytes: bytes.freeze(), truncated: true });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Bounded { bytes: bytes.freeze(), truncated: false })
}

/// The text of a bounded body: invalid UTF-8 becomes U+FFFD, and a character that the bound cut in two is dropped.
#[must_use]
pub fn text(body: &Bounded) -> String {
    let whole = match std::str::from_utf8(&body.bytes) {
        Err(error) if body.truncated && error.error_len().is_none() => {
            body.bytes.get(..error.valid_up_to()).unwrap_or_default()
        }
        _ => &body.bytes,
    };
    String::from_utf8_lossy(whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[tokio::test]
    async fn bound() {
        for (input, max, expected, truncated) in [
            ("", 0, "", false),
            ("abc", 3, "abc", false),
            ("abc", 2, "ab", true),
            ("abc", 0, "", true),
            // A two-byte character cut by the bound is dropped, not replaced.
            ("aé", 2, "a", true),
        ] {
            let read = read_up_to(Full::new(Bytes::from(input)), max).await.unwrap();
            assert_eq!((text(&read).as_str(), read.truncated), (expected, truncated), "{input:?} {max}");
        }
    }

    #[test]
    fn binary_is_replaced() {
        let whole = Bounded { bytes: Bytes::from_static(b"a\xff\xc3"), truncated: false };
        assert_eq!(text(&whole), "a\u{fffd}\u{fffd}");
    }
}
