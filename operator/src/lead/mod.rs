//! Which replica writes: the holder of one Lease, and only while it is sure to hold it.
//!
//! [`lease`] decides what to do about the Lease, without IO; [`keep`] does it; [`fence`] is what every write has to pass.
//!
//! Three rules make two writers impossible, on the one assumption that two clocks run at much the same speed:
//!
//! * The holder may write for [`FENCE`] from the moment at which it *sent* the renewal that was last confirmed. Time is
//!   counted since boot, so a process that was stopped, and a machine that slept, know how long.
//! * Another may take the Lease over when it has seen the same version of it for [`LENGTH`], and only that very version:
//!   the API server compares. Since it can only have seen the version after it was sent, [`LENGTH`] - [`FENCE`] lie
//!   between the last write of the one and the first of the other.
//! * What was written to a socket is acknowledged within [`UNACKNOWLEDGED`] or the kernel drops it, so that no request
//!   comes out of a broken network later than that.

mod clock;
pub mod fence;
pub mod keep;
pub mod lease;
mod socket;

use std::time::Duration;

pub use clock::Moment;
pub use fence::{Fence, NotLeading};

/// How long the Lease is another's after it was last seen to change.
pub const LENGTH: Duration = Duration::from_secs(15);
/// How long its holder may write after a renewal was sent.
pub const FENCE: Duration = Duration::from_secs(10);
/// How long the kernel tries to get a request across.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(4);
/// Time between two renewals.
pub const RENEW: Duration = Duration::from_secs(3);
/// Wait after an attempt that came to nothing.
pub const RETRY: Duration = Duration::from_secs(1);
