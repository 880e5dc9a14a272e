//! Cases that are easy to get wrong, each split at every byte.

use std::sync::Arc;

use bytes::Bytes;
use redoubt_scan::{MAX_NEEDLE_BYTES, MIN_NEEDLE_BYTES, NeedleError, Needles, Redactor};

fn needles(values: &[&str]) -> Arc<Needles> {
    Arc::new(Needles::new(values.iter().map(|value| value.as_bytes())).unwrap())
}

/// Every way to cut the stream in two, and byte by byte.
fn check(values: &[&str], stream: &str, expected: &str, hits: u64) {
    let bytes = stream.as_bytes();
    let single = bytes.iter().map(std::slice::from_ref).collect();
    let cuts = (0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]).chain([single]);
    for chunks in cuts {
        let mut redactor = Redactor::new(needles(values));
        let mut out: Vec<u8> =
            chunks.iter().flat_map(|it| redactor.push(Bytes::copy_from_slice(it))).collect();
        out.extend_from_slice(&redactor.finish());
        assert_eq!(String::from_utf8_lossy(&out), expected, "{chunks:?}");
        assert_eq!(redactor.hits(), hits);
    }
}

#[test]
fn redaction() {
    check(&["hvs.secret"], "a hvs.secret b", "a ********** b", 1);
    check(&["hvs.secret"], "hvs.secrehvs.secret", "hvs.secre**********", 1);
    check(&["hvs.secret"], "hvs.secrethvs.secret", "********************", 2);
    check(&["hvs.secret"], "HVS.SECRET", "HVS.SECRET", 0);
    check(&["hvs.secret"], "", "", 0);
    check(&[], "hvs.secret", "hvs.secret", 0);
    // One begins with the other.
    check(
        &["password", "password1234"],
        "password1234 password12 password",
        "************ ********12 ********",
        4,
    );
    // One is inside the other, and is found although the other breaks off.
    check(&["xxpasswordxx", "password"], "xxpasswordx", "xx********x", 1);
    // Overlapping each other, and themselves.
    check(&["abcdefgh", "efghijkl"], "-abcdefghijkl-", "-************-", 2);
    check(&["aaaaaaaa"], "aaaaaaaaaa", "**********", 3);
    // The same twice.
    check(&["password", "password"], "password", "********", 2);
}

#[test]
fn long_values_use_the_smaller_tables() {
    let long: String = (0..3000).map(|index| format!("{index:04}.")).collect();
    assert!(long.len() > 4096 && long.len() <= MAX_NEEDLE_BYTES);
    let redactor = Redactor::new(needles(&[&long, "password"]));
    let stream = format!("<{long}password{}>", &long[..long.len() - 1]);
    let mut redactor = redactor;
    let mut out = Vec::new();
    for chunk in stream.as_bytes().chunks(777) {
        out.extend_from_slice(&redactor.push(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&redactor.finish());
    let expected = format!("<{}{}{}>", "*".repeat(long.len()), "*".repeat(8), &long[..long.len() - 1]);
    assert!(out == expected.as_bytes());
}

#[test]
fn refused_values() {
    let check = |len: usize, expected: Option<NeedleError>| {
        let value = vec![b'x'; len];
        assert_eq!(Needles::new([b"long enough".as_slice(), &value]).err(), expected);
    };
    check(0, Some(NeedleError::TooShort { index: 1, len: 0 }));
    check(MIN_NEEDLE_BYTES - 1, Some(NeedleError::TooShort { index: 1, len: 7 }));
    check(MIN_NEEDLE_BYTES, None);
    check(MAX_NEEDLE_BYTES, None);
    check(MAX_NEEDLE_BYTES + 1, Some(NeedleError::TooLong { index: 1, len: MAX_NEEDLE_BYTES + 1 }));
}

#[test]
fn nothing_is_held_back_without_need() {
    let mut redactor = Redactor::new(needles(&["password"]));
    let push =
        |redactor: &mut Redactor, text: &'static str| redactor.push(Bytes::from_static(text.as_bytes()));
    assert_eq!(push(&mut redactor, "data: {}\n\n"), "data: {}\n\n");
    assert_eq!(push(&mut redactor, "a password"), "a ********");
    assert_eq!(push(&mut redactor, "pass"), "");
    assert_eq!(push(&mut redactor, "age"), "passage");
    assert_eq!(push(&mut redactor, "pp"), "p");
    assert_eq!(redactor.finish(), "p");
}
