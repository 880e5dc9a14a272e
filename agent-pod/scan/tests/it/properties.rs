//! Random needles, streams and chunks.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use redoubt_scan::{Detector, Gate, Needles, Redactor};

use crate::oracle::{first_end, masked, must_hold, occurrences};

/// Two letters, so that needles overlap, repeat and begin with each other; lengths from the least that is allowed.
fn needle() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(prop_oneof![9 => Just(b'a'), 1 => Just(b'b')], 8..20),
        vec(prop_oneof![Just(b'a'), Just(b'b')], 8..11),
        (vec(prop_oneof![Just(b'a'), Just(b'b')], 1..4), 8usize..24).prop_map(|(unit, len)| unit
            .iter()
            .copied()
            .cycle()
            .take(len)
            .collect()),
    ]
}

/// Needles, and a stream that is made of whole needles, parts of them and noise.
fn case() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>)> {
    vec(needle(), 0..5).prop_flat_map(|needles| {
        let piece = {
            let needles = needles.clone();
            (
                any::<prop::sample::Index>(),
                0usize..24,
                0usize..24,
                vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'c')], 0..40),
            )
                .prop_map(move |(which, from, to, noise)| {
                    if needles.is_empty() {
                        return noise;
                    }
                    let needle = which.get(&needles);
                    let (from, to) = (from.min(needle.len()), to.min(needle.len()));
                    if from < to { needle[from..to].to_vec() } else { [needle.as_slice(), &noise].concat() }
                })
        };
        (Just(needles), vec(piece, 0..8).prop_map(|pieces| pieces.concat()))
    })
}

/// The stream in chunks of these lengths, over and over.
fn chunks(stream: &[u8], lengths: &[usize]) -> Vec<Bytes> {
    let mut rest = stream;
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, more) = rest.split_at((*length).min(rest.len()));
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = more;
    }
    chunks
}

fn needles(values: &[Vec<u8>]) -> Arc<Needles> {
    Arc::new(Needles::new(values.iter().map(Vec::as_slice)).unwrap())
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(1usize..6, 1..6), vec(1usize..60, 1..6)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redactor_masks_every_occurrence((values, stream) in case(), lengths in lengths()) {
        let mut redactor = Redactor::new(needles(&values));
        let expected = masked(&values, &stream);
        let mut out = Vec::new();
        let mut read = 0;
        for chunk in chunks(&stream, &lengths) {
            read += chunk.len();
            out.extend_from_slice(&redactor.push(chunk));
            prop_assert_eq!(read - out.len(), must_hold(&values, &stream[..read]), "held back neither more nor less");
        }
        out.extend_from_slice(&redactor.finish());
        prop_assert_eq!(out, expected);
        let all = occurrences(&values, &stream);
        prop_assert_eq!(redactor.hits(), all.len() as u64);
        let found: Vec<usize> = redactor.found().collect();
        let mut expected: Vec<usize> = all.iter().map(|(index, _)| *index).collect();
        expected.dedup();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn gate_lets_out_nothing_of_a_needle((values, stream) in case(), lengths in lengths()) {
        let mut gate = Gate::new(needles(&values));
        let first = first_end(&values, &stream);
        let mut out = Vec::new();
        let mut read = 0;
        let mut refused = None;
        for chunk in chunks(&stream, &lengths) {
            read += chunk.len();
            match gate.push(chunk) {
                Ok(released) => out.extend_from_slice(&released),
                Err(found) => {
                    refused = Some(found);
                    break;
                }
            }
        }
        match first {
            None => {
                prop_assert!(refused.is_none());
                out.extend_from_slice(&gate.finish());
                prop_assert_eq!(out, stream);
            }
            Some(end) => {
                let found = refused.unwrap();
                prop_assert_eq!(found.end, end as u64);
                prop_assert!(read >= end);
                let len = values[found.needle].len();
                prop_assert_eq!(&stream[end - len..end], values[found.needle].as_slice());
                prop_assert!(out.len() <= end - len, "no byte of the needle came out");
                prop_assert_eq!(&stream[..out.len()], out.as_slice());
                prop_assert!(gate.push(Bytes::from_static(b"innocent")).is_err(), "once found, for ever");
                prop_assert!(gate.finish().is_empty());
            }
        }
    }

    #[test]
    fn detector_agrees_with_a_search_of_the_whole((values, stream) in case(), lengths in lengths()) {
        let needles = needles(&values);
        let mut detector = Detector::new(Arc::clone(&needles));
        let streamed = chunks(&stream, &lengths).iter().find_map(|chunk| detector.push(chunk).err());
        prop_assert_eq!(streamed.map(|found| found.needle), needles.find(&stream));
        prop_assert_eq!(needles.contains(&stream), !occurrences(&values, &stream).is_empty());
    }
}

proptest! {
    // Fewer, because each builds a large automaton.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_at_all(values in vec(vec(any::<u8>(), 8..40), 1..150), noise in vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), lengths in lengths()) {
        let planted = at.get(&values);
        let stream = [noise.as_slice(), planted, &noise].concat();
        let mut redactor = Redactor::new(needles(&values));
        let mut out: Vec<u8> = chunks(&stream, &lengths).into_iter().flat_map(|chunk| redactor.push(chunk)).collect();
        out.extend_from_slice(&redactor.finish());
        prop_assert_eq!(out, masked(&values, &stream));
    }
}
