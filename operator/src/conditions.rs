//! From verdicts to `metav1.Condition`s: a time changes only with a status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use redoubt_crds::condition::Reason;

/// Longest message of a condition, in characters (`metav1.Condition` allows 32768; nobody reads that much).
pub const MESSAGE_MAX: usize = 2048;

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet.
    Unknown,
}

impl Truth {
    /// The text in `status` of a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Status.
    pub truth: Truth,
    /// Why.
    pub reason: Reason,
    /// For a person.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self { truth: Truth::True, reason, message: message.into() }
    }

    /// It does not hold.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { truth: Truth::False, reason, message: message.into() }
    }

    /// Not known yet.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { truth: Truth::Unknown, reason, message: message.into() }
    }
}

/// The conditions that `verdicts` make of `previous`. Those that are not among the verdicts are dropped.
#[must_use]
pub fn merge(
    previous: &[Condition],
    verdicts: &[(&'static str, Verdict)],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    // Whole seconds, as the API server keeps them.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    verdicts
        .iter()
        .map(|(kind, verdict)| {
            let before = previous.iter().find(|condition| condition.type_ == *kind);
            let unchanged = before.filter(|condition| condition.status == verdict.truth.as_str());
            Condition {
                type_: (*kind).to_owned(),
                status: verdict.truth.as_str().to_owned(),
                reason: verdict.reason.as_str().to_owned(),
                message: plain(&verdict.message),
                observed_generation: generation,
                last_transition_time: unchanged
                    .map_or(Time(now), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The message with nothing in it that moves a terminal's cursor or the direction of writing: parts of it come from the
/// pod.
fn plain(message: &str) -> String {
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    message.chars().take(MESSAGE_MAX).map(|c| if moves(c) { ' ' } else { c }).collect()
}

/// Conditions whose status or reason is not as before: what is worth an event.
pub fn news<'a>(previous: &'a [Condition], next: &'a [Condition]) -> impl Iterator<Item = &'a Condition> {
    next.iter().filter(move |condition| {
        !previous.iter().any(|before| {
            before.type_ == condition.type_
                && before.status == condition.status
                && before.reason == condition.reason
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_changes_with_the_status_alone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = merge(&[], &[("Ready", Verdict::unknown(Reason::Starting, "a"))], Some(1), at(10));
        let check = |verdict: Verdict, time: i64, is_news: bool| {
            let next = merge(&first, &[("Ready", verdict)], Some(2), at(20));
            assert_eq!(next[0].last_transition_time.0, at(time));
            assert_eq!(next[0].observed_generation, Some(2));
            assert_eq!(news(&first, &next).count() == 1, is_news);
        };
        check(Verdict::unknown(Reason::Starting, "b"), 10, false);
        check(Verdict::unknown(Reason::Replacing, "b"), 10, true);
        check(Verdict::yes(Reason::Ready, "b"), 20, true);
    }

    #[test]
    fn a_message_cannot_repaint_a_terminal() {
        let said = Verdict::no(Reason::PodFailed, "a\u{1b}[2Jb\r\nc\u{9b}d\u{202e}e \u{e4}\u{1f600}");
        let next = merge(&[], &[("Ready", said)], None, Timestamp::UNIX_EPOCH);
        assert_eq!(next[0].message, "a [2Jb  c d e \u{e4}\u{1f600}");
    }

    #[test]
    fn a_condition_without_a_verdict_goes() {
        let first = merge(
            &[],
            &[("Ready", Verdict::yes(Reason::Ready, "")), ("Stalled", Verdict::yes(Reason::Invalid, ""))],
            None,
            Timestamp::UNIX_EPOCH,
        );
        let next = merge(&first, &[("Ready", Verdict::yes(Reason::Ready, ""))], None, Timestamp::UNIX_EPOCH);
        assert_eq!(next.len(), 1);
    }
}
