//! What to do about the Lease: a pure function of what is known of it and the time.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use super::{LENGTH, Moment};

/// What is known of the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet.
    #[default]
    Unknown,
    /// There was none, from then on.
    Absent(Moment),
    /// It was there.
    There(Record),
}

/// The Lease as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its `resourceVersion`. Whatever is written is written over this version only.
    pub version: String,
    /// Whose it is. Nobody's if it was released or never taken.
    pub holder: Option<String>,
    /// How often it changed hands.
    pub transitions: i32,
    /// How long it is the holder's.
    length: Duration,
    /// When this version was first seen.
    first_seen: Moment,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before the time comes, or something is heard of the Lease.
    Wait(Option<Moment>),
    /// Make it, as its holder.
    Create,
    /// Become its holder.
    Take,
    /// Stay its holder.
    Renew,
}

impl Seen {
    /// The Lease was read anew, or its watch has told of it.
    #[must_use]
    pub fn with(self, lease: &Lease, now: Moment) -> Self {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match self {
            // An answer to a write can overtake what the watch tells.
            Self::There(known) if !is_newer(&version, &known.version) => Self::There(known),
            _ => Self::as_read(lease, now),
        }
    }

    /// The Lease was read after something did not fit: what it says counts, whatever was known.
    #[must_use]
    pub fn as_read(lease: &Lease, now: Moment) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        // Whoever releases it takes out the time too. A name that was taken out by hand says nothing about who writes.
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let holder = holder.or_else(|| spec.renew_time.map(|_| String::new()));
        Self::There(Record {
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            holder,
            transitions: spec.lease_transitions.unwrap_or_default(),
            // A shorter one than ours would leave its holder's fence open.
            length: Duration::from_secs(seconds.unwrap_or_default()).max(LENGTH),
            first_seen: now,
        })
    }

    /// There is none.
    #[must_use]
    pub fn gone(self, now: Moment) -> Self {
        match self {
            Self::Absent(since) => Self::Absent(since),
            _ => Self::Absent(now),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        match self {
            Self::There(record) => record.holder.as_deref(),
            Self::Unknown | Self::Absent(_) => None,
        }
    }
}

/// Versions are numbers that rise; where they are not, what came last is the newer one.
fn is_newer(version: &str, known: &str) -> bool {
    match (version.parse::<u64>(), known.parse::<u64>()) {
        (Ok(version), Ok(known)) => version > known,
        _ => version != known,
    }
}

/// What `me` does about the Lease, who may write now if `leading`, and shall not try anything before `not_before`.
#[must_use]
pub fn decide(me: &str, seen: &Seen, leading: bool, now: Moment, not_before: Moment) -> Step {
    let (step, due) = match seen {
        Seen::Unknown => return Step::Wait(None),
        // Whoever held it cannot know yet that it is gone.
        Seen::Absent(_) if leading => (Step::Create, now),
        Seen::Absent(since) => (Step::Create, since.after(LENGTH)),
        Seen::There(record) => match record.holder.as_deref() {
            None => (Step::Take, now),
            Some(holder) if holder == me => (Step::Renew, now),
            Some(_) => (Step::Take, record.first_seen.after(record.length)),
        },
    };
    let due = due.max(not_before);
    if due <= now { step } else { Step::Wait(Some(due)) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn lease(version: u64, holder: Option<&str>, seconds: Option<i32>) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some(version.to_string());
        lease.spec = Some(LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        });
        lease
    }

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_done() {
        let seen = |holder, seconds| Seen::as_read(&lease(1, holder, seconds), at(100));
        let others = || seen(Some("other"), Some(15));
        let mut cleared = lease(1, Some(""), Some(15));
        cleared.spec.as_mut().unwrap().renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        let cleared = Seen::as_read(&cleared, at(100));
        let table = [
            ("nothing is known", Seen::Unknown, false, 100, 0, Step::Wait(None)),
            ("none, just seen", Seen::Absent(at(100)), false, 100, 0, Step::Wait(Some(at(115)))),
            ("none for long", Seen::Absent(at(100)), false, 115, 0, Step::Create),
            ("it was mine and is gone", Seen::Absent(at(100)), true, 100, 0, Step::Create),
            ("nobody's", seen(None, None), false, 100, 0, Step::Take),
            ("released", seen(Some(""), Some(1)), false, 100, 0, Step::Take),
            ("mine", seen(Some("me"), Some(15)), true, 100, 100, Step::Renew),
            ("mine, not due", seen(Some("me"), Some(15)), true, 100, 103, Step::Wait(Some(at(103)))),
            ("mine, and too late to write", seen(Some("me"), Some(15)), false, 200, 103, Step::Renew),
            ("another's", others(), false, 101, 0, Step::Wait(Some(at(115)))),
            ("another's, a moment before", others(), false, 114, 0, Step::Wait(Some(at(115)))),
            ("another's, run out", others(), false, 115, 0, Step::Take),
            ("another's, run out, tried just now", others(), false, 115, 116, Step::Wait(Some(at(116)))),
            ("another's, taken from me", others(), true, 101, 0, Step::Wait(Some(at(115)))),
            ("its holder taken out by hand", cleared, false, 101, 0, Step::Wait(Some(at(115)))),
            ("a longer one", seen(Some("other"), Some(60)), false, 115, 0, Step::Wait(Some(at(160)))),
            (
                "a shorter one counts as ours",
                seen(Some("other"), Some(1)),
                false,
                102,
                0,
                Step::Wait(Some(at(115))),
            ),
            ("a senseless one", seen(Some("other"), Some(-1)), false, 102, 0, Step::Wait(Some(at(115)))),
        ];
        for (name, seen, leading, now, not_before, expected) in table {
            assert_eq!(decide("me", &seen, leading, at(now), at(not_before)), expected, "{name}");
        }
    }

    /// The time runs from when a version was first seen, not from when it was last told again.
    #[test]
    fn what_is_known() {
        let known = Seen::as_read(&lease(5, Some("other"), None), at(100));
        assert_eq!(known.clone().with(&lease(5, Some("other"), None), at(110)), known, "told again");
        assert_eq!(known.clone().with(&lease(4, None, None), at(110)), known, "overtaken");
        let renewed = known.clone().with(&lease(6, Some("other"), None), at(110));
        assert_eq!(decide("me", &renewed, false, at(115), at(0)), Step::Wait(Some(at(125))));
        assert_eq!(Seen::as_read(&lease(4, None, None), at(110)).holder(), None, "restored from a backup");
        assert_eq!(known.gone(at(110)).gone(at(120)), Seen::Absent(at(110)));
        assert_eq!(Seen::Absent(at(1)).with(&lease(1, Some("a"), None), at(2)).holder(), Some("a"));
    }

    /// Whatever the holder last wrote was on its way before another can take over.
    #[test]
    fn the_fence_is_down_before_the_lease_can_be_taken() {
        use super::super::{FENCE, RENEW, RETRY, UNACKNOWLEDGED};
        assert!(FENCE + UNACKNOWLEDGED < LENGTH);
        assert!(RENEW + RETRY + RETRY < FENCE, "one failed renewal does not cost the lead");
    }
}
