//! Prints how fast the scanner is, beside a search by the library that it is built on. Run it with `--release`.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program for people, not part of the sidecar"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use redoubt_scan::{Gate, Needles, Redactor};

const TOTAL: usize = 64 << 20;

fn main() {
    let json: Vec<u8> =
        br#"{"id":"chatcmpl-1","choices":[{"delta":{"content":"some words of an answer"}}]}"#.repeat(1024);
    let zeros = vec![0u8; 64 * 1024];
    let noise: Vec<u8> = (0..64 * 1024u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Begins values everywhere and never ends one.
    let hostile = b"sk-".repeat(20_000);
    for count in [1, 8, 64] {
        let values: Vec<String> = (1..=count).map(value).collect();
        println!("{count} values of {} bytes, chunks of 16 KiB, MB/s", values[0].len());
        for (name, text) in [("json", &json), ("zeros", &zeros), ("noise", &noise), ("hostile", &hostile)] {
            let needles = Arc::new(Needles::new(values.iter().map(|it| it.as_bytes())).expect("long enough"));
            let library = AhoCorasick::new(&values).expect("small enough");
            let mut gate = Gate::new(Arc::clone(&needles));
            let mut redactor = Redactor::new(Arc::clone(&needles));
            let gate = rate(text, |chunk| gate.push(chunk).map_or(0, |it| it.len()));
            let redactor = rate(text, |chunk| redactor.push(chunk).len());
            let whole = rate(text, |chunk| usize::from(library.is_match(&chunk)));
            println!(
                "  {name:8} gate {gate:6.0}  redactor {redactor:6.0}  aho-corasick on whole chunks {whole:6.0}"
            );
        }
    }
}

/// A made-up API key: the same beginning for all, then letters and digits without order.
fn value(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let tail = (0..26).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from_digit((state % 36) as u32, 36).unwrap_or('0')
    });
    format!("sk-{}", tail.collect::<String>())
}

/// Megabytes a second.
fn rate(text: &[u8], mut push: impl FnMut(Bytes) -> usize) -> f64 {
    let text = Bytes::copy_from_slice(text);
    let mut read = 0;
    let start = Instant::now();
    while read < TOTAL {
        let mut rest = text.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(16 * 1024));
            read += chunk.len();
            black_box(push(chunk));
        }
    }
    read as f64 / 1e6 / start.elapsed().as_secs_f64()
}
