//! What of a new status is told as an event: pure. One event for one status, so that a start writes few.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use redoubt_crds::condition::{Reason, kind};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement<'a> {
    /// Whether it needs someone's attention.
    pub warning: bool,
    /// Reason of the condition that matters most.
    pub reason: &'a str,
    /// All that is told, what matters most first.
    pub note: String,
}

/// A condition in a line.
#[must_use]
pub fn line(condition: &Condition) -> String {
    format!("{} is {}: {}", condition.type_, condition.status, condition.message)
}

/// The event of what is new: what needs attention first, and then what has come furthest.
#[must_use]
pub fn announce<'a>(news: &[&'a Condition]) -> Option<Announcement<'a>> {
    let told = news.iter().filter(|condition| {
        // They say again what another says, or nothing yet.
        !matches!(condition.type_.as_str(), kind::RECONCILING | kind::STALLED)
            && condition.status != "Unknown"
    });
    let (mut warnings, others): (Vec<&Condition>, Vec<&Condition>) =
        told.partition(|condition| is_warning(condition));
    // A step on the way is told with the end of the way.
    if warnings.is_empty() && !others.iter().any(|condition| is_end(condition)) {
        return None;
    }
    warnings.sort_by_key(|condition| condition.type_ != kind::POLICY_DRIFT);
    let ordered: Vec<&Condition> = warnings.iter().copied().chain(others.into_iter().rev()).collect();
    Some(Announcement {
        warning: !warnings.is_empty(),
        reason: &ordered.first()?.reason,
        note: ordered.iter().map(|condition| line(condition)).collect::<Vec<_>>().join("; "),
    })
}

/// Whether it tells that all is as wanted.
fn is_end(condition: &Condition) -> bool {
    let is_suspended = condition.reason == Reason::Suspended.as_str();
    condition.type_ == kind::READY && (condition.status == "True" || is_suspended)
}

fn is_warning(condition: &Condition) -> bool {
    // On the way, or wished for.
    let is_progress = matches!(
        Reason::parse(&condition.reason),
        Some(Reason::Starting | Reason::Replacing | Reason::Suspended)
    );
    // This one is bad when it holds.
    condition.type_ == kind::POLICY_DRIFT || (condition.status != "True" && !is_progress)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::{Verdict, merge};

    fn check(verdicts: &[(&'static str, Verdict)], expected: Option<(bool, &str, &str)>) {
        let conditions = merge(&[], verdicts, None, Timestamp::UNIX_EPOCH);
        let news: Vec<&Condition> = conditions.iter().collect();
        let expected =
            expected.map(|(warning, reason, note)| Announcement { warning, reason, note: note.into() });
        assert_eq!(announce(&news), expected);
    }

    #[test]
    fn one_event_for_a_status() {
        let yes = |kind, text: &str| (kind, Verdict::yes(Reason::Valid, text));
        check(&[], None);
        check(&[(kind::READY, Verdict::unknown(Reason::Starting, "a"))], None);
        check(&[(kind::STALLED, Verdict::yes(Reason::Invalid, "a"))], None);
        let started = |ready: Verdict| {
            [
                yes(kind::ACCEPTED, "a"),
                (kind::PROGRAMMED, Verdict::yes(Reason::Applied, "p")),
                (kind::READY, ready),
            ]
        };
        check(&started(Verdict::unknown(Reason::Starting, "r")), None);
        check(&started(Verdict::no(Reason::Starting, "r")), None);
        check(&started(Verdict::no(Reason::Replacing, "r")), None);
        check(
            &started(Verdict::yes(Reason::Ready, "r")),
            Some((false, "Ready", "Ready is True: r; Programmed is True: p; Accepted is True: a")),
        );
        check(
            &[
                yes(kind::ACCEPTED, "a"),
                (kind::PROGRAMMED, Verdict::no(Reason::ApplyFailed, "f")),
                (kind::READY, Verdict::no(Reason::ApplyFailed, "r")),
            ],
            Some((true, "ApplyFailed", "Programmed is False: f; Ready is False: r; Accepted is True: a")),
        );
        check(
            &[yes(kind::ACCEPTED, "a"), (kind::READY, Verdict::no(Reason::Suspended, "s"))],
            Some((false, "Suspended", "Ready is False: s; Accepted is True: a")),
        );
        check(
            &[
                yes(kind::ACCEPTED, "a"),
                (kind::READY, Verdict::no(Reason::PodFailed, "f")),
                (kind::POLICY_DRIFT, Verdict::yes(Reason::ForeignNetworkPolicy, "w")),
            ],
            Some((
                true,
                "ForeignNetworkPolicy",
                "PolicyDrift is True: w; Ready is False: f; Accepted is True: a",
            )),
        );
    }
}
