//! Each misbehaviour as the bytes that make it.

use base64::Engine as _;

use super::gzip::gzip;
use super::misbehaviour::{Kind, Misbehaviour};
use super::wire::{chunk, head, response};
use crate::pieces::Piece;

const JSON: (&str, &str) = ("content-type", "application/json");
/// A response nobody asked for: what a client believes that misreads where a message ends.
const SMUGGLED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{\"smuggled\":true}";
/// Defaults, in the units of the settings.
const HUGE_BODY: usize = 64 << 20;
const HUGE_HEADERS: usize = 1 << 20;
const SLOW_BYTES: usize = 20;
const SLOW_MS: u64 = 500;
const CHUNK_MS: u64 = 20;
const PART_BYTES: usize = 10;
/// Bytes per write of a huge answer.
const WRITE: usize = 64 << 10;

/// The pieces of a broken answer. The connection is closed after all of them.
pub(super) fn pieces(misbehaviour: &Misbehaviour, credential: &str) -> Vec<Piece> {
    let value = in_form(credential, misbehaviour.form.as_deref());
    let json = format!("{{\"reflected\":\"{value}\"}}");
    let ms = misbehaviour.ms;
    let part = misbehaviour.bytes.unwrap_or(PART_BYTES);
    let to = misbehaviour.to.as_deref().unwrap_or_default();
    let chunked = [JSON, ("transfer-encoding", "chunked"), ("trailer", "x-reflected")];
    let one = |bytes: Vec<u8>| vec![Piece::data(bytes)];
    match misbehaviour.kind {
        Kind::ReflectHeader => one(response(200, &[JSON, ("x-reflected", &value)], b"{}")),
        Kind::ReflectBody => one(response(200, &[JSON], json.as_bytes())),
        Kind::ReflectChunks => {
            let start = json.find(&value).unwrap_or(0);
            let at = start + misbehaviour.at.unwrap_or(value.len() / 2).min(value.len());
            let (first, second) = json.as_bytes().split_at_checked(at).unwrap_or((json.as_bytes(), b""));
            in_chunks(&[first, second], ms.unwrap_or(CHUNK_MS), "")
        }
        Kind::ReflectBytes => {
            let bytes: Vec<&[u8]> = json.as_bytes().chunks(1).collect();
            in_chunks(&bytes, ms.unwrap_or(1), "")
        }
        Kind::ReflectGzip => {
            one(response(200, &[JSON, ("content-encoding", "gzip")], &gzip(json.as_bytes())))
        }
        Kind::ReflectTrailer => in_chunks(&[b"{}"], 0, &format!("x-reflected: {value}\r\n")),
        Kind::ReflectReason => {
            one(format!("HTTP/1.1 200 {value}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes())
        }
        Kind::ReflectEarlyHints => {
            one([end(head(103, &[("link", &format!("</{value}>"))])), response(200, &[JSON], b"{}")].concat())
        }
        Kind::ReflectLocation => one(response(302, &[("location", &format!("{to}{value}"))], b"")),
        Kind::Interim => one([
            end(head(100, &[])),
            end(head(103, &[("link", "</style.css>; rel=preload")])),
            response(200, &[JSON], b"{\"after\":\"interim\"}"),
        ]
        .concat()),
        Kind::HangBeforeHeaders => vec![Piece::Hang],
        Kind::HangMidBody => vec![begun(part), Piece::Hang],
        Kind::DropMidBody => vec![begun(part), Piece::Abort],
        Kind::Redirect => one(response(misbehaviour.status.unwrap_or(302), &[("location", to)], b"")),
        Kind::HugeBody => huge(misbehaviour.bytes.unwrap_or(HUGE_BODY)),
        Kind::HugeHeaders => {
            let line = format!("x-filler: {}\r\n", "f".repeat(1000));
            let lines = line.repeat(misbehaviour.bytes.unwrap_or(HUGE_HEADERS).div_ceil(line.len()));
            one([head(200, &[JSON]), lines.into_bytes(), b"content-length: 2\r\n\r\n{}".to_vec()].concat())
        }
        Kind::SlowBody => {
            let bytes = vec![b'x'; misbehaviour.bytes.unwrap_or(SLOW_BYTES)];
            let whole = response(200, &[("content-type", "text/plain")], &bytes);
            slowly(&whole, whole.len() - bytes.len(), ms.unwrap_or(SLOW_MS))
        }
        Kind::SlowHeaders => slowly(&response(200, &[JSON], b"{}"), 0, ms.unwrap_or(SLOW_MS)),
        Kind::Status => one(response(
            misbehaviour.status.unwrap_or(500),
            &[("content-type", "text/html")],
            b"<html>something broke</html>",
        )),
        Kind::ClTe => {
            let headers = [JSON, ("content-length", "4"), ("transfer-encoding", "chunked")];
            one([end(head(200, &headers)), b"2\r\n{}\r\n0\r\n\r\n".to_vec(), SMUGGLED.to_vec()].concat())
        }
        Kind::TwoLengths => one([
            end(head(200, &[JSON, ("content-length", "2"), ("content-length", "30")])),
            b"{}".to_vec(),
            SMUGGLED.to_vec(),
        ]
        .concat()),
        Kind::ShortLength => one([response(200, &[JSON], b"{}"), SMUGGLED.to_vec()].concat()),
        Kind::LongLength => vec![
            Piece::data([end(head(200, &[JSON, ("content-length", "100")])), b"{}".to_vec()].concat()),
            Piece::Abort,
        ],
        Kind::BadChunk => one([end(head(200, &chunked[..2])), b"zz\r\n{}\r\n0\r\n\r\n".to_vec()].concat()),
        Kind::BareLf => {
            one(b"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 2\n\n{}".to_vec())
        }
        Kind::Folded => {
            one(b"HTTP/1.1 200 OK\r\nx-folded: one\r\n two\r\ncontent-length: 2\r\n\r\n{}".to_vec())
        }
        Kind::NotHttp => one(b"220 mail.example ESMTP ready\r\n".to_vec()),
        Kind::Raw => one(misbehaviour
            .raw
            .as_deref()
            .unwrap_or_default()
            .replace("{{credential}}", &value)
            .into_bytes()),
    }
}

fn in_form(value: &str, form: Option<&str>) -> String {
    match form {
        Some("base64") => base64::engine::general_purpose::STANDARD.encode(value),
        Some("hex") => value.bytes().map(|byte| format!("{byte:02x}")).collect(),
        Some("percent") => value.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        Some("reversed") => value.chars().rev().collect(),
        _ => value.to_owned(),
    }
}

fn end(mut head: Vec<u8>) -> Vec<u8> {
    head.extend(b"\r\n");
    head
}

/// The head of a response of 1,000,000 bytes and the first of them.
fn begun(bytes: usize) -> Piece {
    let head = end(head(200, &[("content-type", "text/plain"), ("content-length", "1000000")]));
    Piece::data([head, vec![b'x'; bytes]].concat())
}

fn in_chunks(parts: &[&[u8]], ms: u64, trailers: &str) -> Vec<Piece> {
    let mut headers = vec![JSON, ("transfer-encoding", "chunked")];
    if !trailers.is_empty() {
        headers.push(("trailer", "x-reflected"));
    }
    let mut pieces = vec![Piece::data(end(head(200, &headers)))];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        pieces.push(Piece::data(chunk(part)));
        pieces.push(Piece::PauseMs(ms));
    }
    pieces.push(Piece::data(format!("0\r\n{trailers}\r\n")));
    pieces
}

fn huge(bytes: usize) -> Vec<Piece> {
    let length = bytes.to_string();
    let mut pieces = vec![Piece::data(end(head(
        200,
        &[("content-type", "text/plain"), ("content-length", length.as_str())],
    )))];
    let full = bytes::Bytes::from(vec![b'x'; WRITE]);
    pieces.extend((0..bytes / WRITE).map(|_| Piece::Data(full.clone())));
    pieces.push(Piece::Data(full.slice(..bytes % WRITE)));
    pieces
}

fn slowly(bytes: &[u8], at_once: usize, ms: u64) -> Vec<Piece> {
    let (first, rest) = bytes.split_at_checked(at_once).unwrap_or((b"", bytes));
    let slow = rest.iter().flat_map(|byte| [Piece::data([*byte]), Piece::PauseMs(ms)]);
    [Piece::data(first)].into_iter().chain(slow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(misbehaviour: &Misbehaviour) -> String {
        let pieces = pieces(misbehaviour, "s3cr3t");
        let data = pieces
            .iter()
            .filter_map(|piece| if let Piece::Data(bytes) = piece { Some(&bytes[..]) } else { None });
        String::from_utf8_lossy(&data.collect::<Vec<_>>().concat()).into_owned()
    }

    #[test]
    fn the_credential_is_cut_at_any_byte() {
        for at in 0..=6 {
            let misbehaviour = Misbehaviour { at: Some(at), ..Misbehaviour::new(Kind::ReflectChunks) };
            let (first, second) = "s3cr3t".split_at(at);
            let text = bytes(&misbehaviour);
            assert!(text.contains(&format!("{{\"reflected\":\"{first}\r\n")), "{text}");
            assert!(text.contains(&format!("\r\n{second}\"}}\r\n")), "{text}");
        }
    }

    #[test]
    fn broken_answers() {
        for (kind, part) in [
            (Kind::ReflectHeader, "x-reflected: s3cr3t\r\n"),
            (Kind::ReflectTrailer, "0\r\nx-reflected: s3cr3t\r\n\r\n"),
            (Kind::ReflectReason, "HTTP/1.1 200 s3cr3t\r\n"),
            (Kind::ReflectEarlyHints, "HTTP/1.1 103 Early Hints\r\nlink: </s3cr3t>\r\n\r\nHTTP/1.1 200 OK"),
            (Kind::ReflectBytes, "1\r\ns\r\n1\r\n3\r\n"),
            (Kind::Interim, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 "),
            (
                Kind::ClTe,
                "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200",
            ),
            (Kind::TwoLengths, "content-length: 2\r\ncontent-length: 30\r\n"),
            (Kind::BareLf, "OK\ncontent-type"),
        ] {
            let text = bytes(&Misbehaviour::new(kind));
            assert!(text.contains(part), "{kind:?}: {text}");
        }
        let length = SMUGGLED.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(SMUGGLED.len() - length, 17);
    }

    #[test]
    fn forms() {
        for (form, expected) in
            [("base64", "YWI="), ("hex", "6162"), ("percent", "%61%62"), ("reversed", "ba"), ("plain", "ab")]
        {
            assert_eq!(in_form("ab", Some(form)), expected);
        }
    }
}
