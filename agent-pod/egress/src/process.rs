//! What the process does to itself before it holds a secret, and its last words.

use std::io::Write as _;

use redoubt_policy::Refusal;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Where Kubernetes reads why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// No memory image: not by a crash, not by a debugger, not through `/proc`. A panic says where, and not what.
///
/// # Errors
/// When the kernel refuses; then nothing secret must be read.
pub fn harden() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a request was ended by a bug");
    }));
    Ok(())
}

/// Tells the kubelet, and with it the operator, why the process cannot run.
pub fn report(refusal: &Refusal) {
    tracing::error!(
        reason = refusal.reason,
        object = refusal.object,
        field = refusal.field,
        help = refusal.help,
        "{}",
        refusal.message
    );
    let Ok(line) = serde_json::to_string(refusal) else { return };
    // The file is there in a container; elsewhere none is made.
    let file = std::fs::OpenOptions::new().write(true).truncate(true).open(TERMINATION_LOG);
    if let Ok(mut file) = file {
        let _unwritten = writeln!(file, "{line}");
    }
}
