//! What the scanner must find, by looking everywhere for everything.

/// Positions of the needles, and where each occurrence begins, in a stream.
pub(crate) fn occurrences(needles: &[Vec<u8>], stream: &[u8]) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for (index, needle) in needles.iter().enumerate() {
        for start in 0..stream.len() {
            if stream[start..].starts_with(needle) {
                all.push((index, start));
            }
        }
    }
    all
}

/// The stream with every occurrence masked.
pub(crate) fn masked(needles: &[Vec<u8>], stream: &[u8]) -> Vec<u8> {
    let mut masked = stream.to_vec();
    for (index, start) in occurrences(needles, stream) {
        masked[start..start + needles[index].len()].fill(b'*');
    }
    masked
}

/// The first byte after an occurrence that ends before all others do.
pub(crate) fn first_end(needles: &[Vec<u8>], stream: &[u8]) -> Option<usize> {
    occurrences(needles, stream).into_iter().map(|(index, start)| start + needles[index].len()).min()
}

/// How many bytes at the end of the stream are the beginning of a needle that goes on.
pub(crate) fn must_hold(needles: &[Vec<u8>], stream: &[u8]) -> usize {
    let begins = |len: usize| {
        let end = &stream[stream.len() - len..];
        needles.iter().any(|needle| needle.len() > len && needle.starts_with(end))
    };
    (0..=stream.len()).rev().find(|len| begins(*len)).unwrap_or(0)
}
