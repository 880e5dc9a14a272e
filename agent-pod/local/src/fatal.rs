//! The last words of a process that cannot start.

use redoubt_policy::Refusal;

/// Where the kubelet looks for a container's termination message.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// Tells why the process cannot go on, as one line of JSON: in the termination message, which the operator turns into a
/// condition, and in the log. The caller then exits with status 1.
pub fn report(refusal: &Refusal) {
    tracing::error!(
        reason = refusal.reason,
        object = refusal.object,
        field = refusal.field,
        help = refusal.help,
        "{}",
        refusal.message
    );
    let line = serde_json::to_string(refusal).unwrap_or_else(|_| refusal.to_string());
    // The file exists in every container, and the jail may keep it from being made elsewhere.
    if let Err(error) = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(TERMINATION_LOG)
        .and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()))
    {
        tracing::warn!(%error, "no termination message was written");
    }
}
