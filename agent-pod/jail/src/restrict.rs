//! Takes rights away from this process, in three steps between which the self-test looks.

use crate::fence::{self, FenceError, Paths};
use crate::filter::{self, FilterError};
use crate::rules::{Rule, Rules};
use crate::sys;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io;

/// A restriction could not be put on. The command is not started then.
#[derive(Debug, thiserror::Error)]
pub enum RestrictError {
    /// Descriptors could not be set to close at exec.
    #[error("inherited descriptors cannot be closed: {0}")]
    Descriptors(#[source] io::Error),
    /// Standard input, output or error is a socket that is not a unix socket.
    #[error("descriptor {0} is a socket of another family than unix")]
    Socket(i32),
    /// The limit of core dumps could not be set.
    #[error("core dumps cannot be turned off: {0}")]
    CoreDumps(#[source] io::Error),
    /// `no_new_privs` could not be set.
    #[error("no_new_privs cannot be set: {0}")]
    NoNewPrivs(#[source] io::Error),
    /// Landlock.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// Seccomp.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// Descriptors, core dumps, `no_new_privs` and Landlock.
pub fn first(rules: Rules, landlock_abi: i32, paths: &Paths) -> Result<(), RestrictError> {
    let foreign = (0..3)
        .find(|descriptor| sys::socket_family(*descriptor).is_some_and(|family| family != libc::AF_UNIX));
    if let Some(descriptor) = foreign {
        return Err(RestrictError::Socket(descriptor));
    }
    if rules.has(Rule::Descriptors) {
        sys::close_at_exec().map_err(RestrictError::Descriptors)?;
    }
    if rules.has(Rule::CoreDumps) {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).map_err(|errno| RestrictError::CoreDumps(errno.into()))?;
    }
    if rules.has(Rule::NoNewPrivs) {
        sys::no_new_privs().map_err(RestrictError::NoNewPrivs)?;
    }
    Ok(fence::put_up(rules, landlock_abi, paths)?)
}

/// Seccomp.
pub fn second(rules: Rules) -> Result<(), RestrictError> {
    Ok(filter::install(rules, std::process::id())?)
}

/// What only the self-test needed.
pub fn last(rules: Rules) -> Result<(), RestrictError> {
    Ok(filter::install_closing(rules)?)
}
