//! The Aho-Corasick automaton, driven byte by byte so that its state outlives a chunk and its depth is known.
//!
//! The library's own stream search finds non-overlapping matches only, and holds back a whole buffer. Here every
//! occurrence counts, and exactly those bytes are held back that a value may begin with.

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton, Prefilter, StateID};
use aho_corasick::{Anchored, MatchKind, Span, dfa, nfa};

/// Up to this many bytes of values get the faster, larger tables: some 1 KiB for each byte at worst.
const DFA_BYTES: usize = 4096;

/// A prefilter that skips less than this on average only costs time.
const WORTHWHILE_SKIP: usize = 16;

/// How often a prefilter may be tried before it is judged.
const PREFILTER_TRIALS: usize = 32;

/// Where in a stream the search is.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    state: StateID,
}

/// Values that end at one byte.
pub(crate) struct Hit<'a> {
    /// Offset of the byte after them, from the beginning of the chunk.
    pub(crate) end: usize,
    /// Position and length of the longest of them.
    pub(crate) longest: (usize, usize),
    /// Positions of all of them.
    pub(crate) all: &'a [usize],
}

/// The automaton, in the form that fits the size of the values.
pub(crate) struct Automata {
    kind: Kind,
    start: StateID,
    /// How much must be held back in each state.
    depths: HashMap<StateID, usize>,
    longest: usize,
    count: usize,
}

enum Kind {
    Dfa(dfa::DFA),
    Nfa(nfa::contiguous::NFA),
}

impl Automata {
    /// None if the values are too large.
    pub(crate) fn build(values: &[&[u8]]) -> Option<Self> {
        let total: usize = values.iter().map(|value| value.len()).sum();
        let kind = if total <= DFA_BYTES {
            Kind::Dfa(dfa::Builder::new().match_kind(MatchKind::Standard).build(values).ok()?)
        } else {
            Kind::Nfa(nfa::contiguous::Builder::new().match_kind(MatchKind::Standard).build(values).ok()?)
        };
        let (start, depths) = match &kind {
            Kind::Dfa(it) => depths(it, values)?,
            Kind::Nfa(it) => depths(it, values)?,
        };
        let longest = values.iter().map(|value| value.len()).max().unwrap_or(0);
        Some(Self { kind, start, depths, longest, count: values.len() })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn start(&self) -> Cursor {
        Cursor { state: self.start }
    }

    /// How many of the bytes read last may be the beginning of a value that has not ended.
    pub(crate) fn depth(&self, cursor: Cursor) -> usize {
        // Every state is in the map. If one were not, hold back the most.
        self.depths.get(&cursor.state).copied().unwrap_or(self.longest)
    }

    /// Reads a chunk. `on_hit` is called for each byte that values end at, in order, and says whether to go on.
    pub(crate) fn run(&self, cursor: &mut Cursor, chunk: &[u8], on_hit: impl FnMut(Hit<'_>) -> bool) {
        match &self.kind {
            Kind::Dfa(it) => self.run_with(it, cursor, chunk, on_hit),
            Kind::Nfa(it) => self.run_with(it, cursor, chunk, on_hit),
        }
    }

    fn run_with<A: Automaton>(
        &self,
        automaton: &A,
        cursor: &mut Cursor,
        chunk: &[u8],
        mut on_hit: impl FnMut(Hit<'_>) -> bool,
    ) {
        let mut skipper = Skipper::new(automaton.prefilter(), chunk, self.longest);
        let mut state = cursor.state;
        let mut all = Vec::new();
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            if state == self.start {
                let next = skipper.skip(at);
                if next > at {
                    at = next;
                    continue;
                }
            }
            state = automaton.next_state(Anchored::No, state, byte);
            at += 1;
            if automaton.is_special(state) && automaton.is_match(state) {
                all.clear();
                let mut longest = (0, 0);
                for index in 0..automaton.match_len(state) {
                    let pattern = automaton.match_pattern(state, index);
                    let len = automaton.pattern_len(pattern);
                    all.push(pattern.as_usize());
                    if len > longest.1 {
                        longest = (pattern.as_usize(), len);
                    }
                }
                if !on_hit(Hit { end: at, longest, all: &all }) {
                    break;
                }
            }
        }
        cursor.state = state;
    }
}

/// For each state, how many of the bytes read last are the beginning of a value that goes on.
fn depths<A: Automaton>(automaton: &A, values: &[&[u8]]) -> Option<(StateID, HashMap<StateID, usize>)> {
    let start = automaton.start_state(Anchored::No).ok()?;
    let mut depths = HashMap::from([(start, 0)]);
    for value in values {
        let mut state = start;
        for (index, byte) in value.iter().enumerate().take(value.len().saturating_sub(1)) {
            state = automaton.next_state(Anchored::No, state, *byte);
            depths.insert(state, index + 1);
        }
    }
    // At the end of a value that no longer one begins with, only a part of it can go on: what the automaton knows of it
    // without its first byte. That may be the end of a shorter value, so the shorter ones come first.
    let walk = |bytes: &[u8]| {
        bytes.iter().fold(start, |state, byte| automaton.next_state(Anchored::No, state, *byte))
    };
    let mut by_length = values.to_vec();
    by_length.sort_by_key(|value| value.len());
    for value in by_length {
        let end = walk(value);
        if !depths.contains_key(&end) {
            let depth = depths.get(&walk(value.get(1..)?)).copied()?;
            depths.insert(end, depth);
        }
    }
    Some((start, depths))
}

/// Jumps over bytes that no value begins in, while the automaton is in its first state.
struct Skipper<'a> {
    prefilter: Option<&'a Prefilter>,
    chunk: &'a [u8],
    /// From here on a value may begin that does not end in this chunk, which a prefilter does not see.
    tail: usize,
    trials: usize,
    skipped: usize,
}

impl<'a> Skipper<'a> {
    fn new(prefilter: Option<&'a Prefilter>, chunk: &'a [u8], longest: usize) -> Self {
        let tail = chunk.len().saturating_sub(longest.saturating_sub(1));
        Self { prefilter, chunk, tail, trials: 0, skipped: 0 }
    }

    /// Where to read on from; `at` if nothing can be skipped.
    fn skip(&mut self, at: usize) -> usize {
        if at >= self.tail {
            return at;
        }
        let Some(prefilter) = self.prefilter else { return at };
        if self.trials == PREFILTER_TRIALS {
            if self.skipped < PREFILTER_TRIALS * WORTHWHILE_SKIP {
                self.prefilter = None;
                return at;
            }
            self.trials = 0;
            self.skipped = 0;
        }
        let candidate = prefilter.find_in(self.chunk, Span::from(at..self.chunk.len())).into_option();
        let next = candidate.unwrap_or(self.tail).clamp(at, self.tail);
        self.trials += 1;
        self.skipped += next - at;
        next
    }
}
