//! What all connections have in common.

use std::path::PathBuf;
use std::sync::Arc;

use redoubt_policy::VerifiedPolicy;

use crate::audit::Audit;
use crate::ca::Authority;
use crate::config::Limits;
use crate::control_plane::ControlPlane;
use crate::credentials::Credentials;
use crate::fresh::Freshness;
use crate::net::{Dial, Resolve};
use crate::peer::{Uids, UnderWay};
use crate::policy::PolicyFeed;
use crate::pool::Pool;
use crate::trust::Trust;
use crate::upstream::Vaults;
use crate::verdict::Verdicts;

/// The state of the sidecar.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) uids: Uids,
    pub(crate) agent_socket: PathBuf,
    pub(crate) feed: PolicyFeed,
    pub(crate) fresh: Arc<Freshness>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) verdicts: Verdicts,
    pub(crate) under_way: UnderWay,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) dialer: Arc<dyn Dial>,
    pub(crate) trust: Trust,
    pub(crate) vaults: Vaults,
    pub(crate) control_plane: Arc<ControlPlane>,
    pub(crate) pool: Pool,
    pub(crate) authority: Authority,
    pub(crate) audit: Audit,
}

impl Shared {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<VerifiedPolicy> {
        Arc::clone(&self.feed.borrow())
    }
}
