//! Metrics of the egress sidecar.

use crate::table::{Kind, Metric, Unit, Values, table};

/// What is recorded in the audit log.
pub const EVENTS: &[&str] =
    &["request", "connect", "lease", "redaction", "inbound", "tool-call", "verdict", "policy", OTHER];
/// What was decided.
pub const DECISIONS: &[&str] = &["allow", "refuse"];
/// Containers of the pod that ask.
pub const PEERS: &[&str] = &["agent", "tools"];
/// What is in no list.
pub const OTHER: &str = "other";
/// Why something was refused: the reasons that answers and the audit log have too.
pub const REASONS: &[&str] = &[
    "AddressForbidden",
    "AgentUnavailable",
    "AuditUnavailable",
    "BodyMalformed",
    "BodyNotAllowed",
    "BodyTooLarge",
    "CallerNotAllowed",
    "CallerNotAuthenticated",
    "CertificateNotMade",
    "CertificateNotTrusted",
    "ConnectFailed",
    "ConnectTimeout",
    "ControlPlaneNotReachable",
    "CredentialHeader",
    "CredentialInRequest",
    "CredentialParameter",
    "CredentialUnavailable",
    "CredentialUnusable",
    "CredentialsChanged",
    "Denied",
    "ExceedsPolicy",
    "ExpectationUnknown",
    "HostMalformed",
    "HostMismatch",
    "HostNotAllowed",
    "MethodNotAllowed",
    "MethodOverride",
    "MethodUnknown",
    "NameNotResolved",
    "NoRandomness",
    "NoSuchPath",
    "NonceUnknown",
    "NotDeclared",
    "NotGranted",
    "NotTools",
    "NotVerified",
    "PathMalformed",
    "PathNotAllowed",
    "PolicyChanged",
    "PolicyStale",
    "PortNotAllowed",
    "QueryMalformed",
    "RequestMalformed",
    "RequestTimeout",
    "ResponseUnreadable",
    "ScannerUnavailable",
    "SchemeNotAllowed",
    "SchemeUnknown",
    "SelfTestFailed",
    "SocketOnly",
    "TargetOverride",
    "ToolMalformed",
    "ToolMissing",
    "ToolNotAccepted",
    "ToolUnknown",
    "TooManyRequests",
    "TrustAnchorsUnusable",
    "TunnelNotTLS",
    "UpgradeNotAllowed",
    "UpstreamMalformed",
    "UpstreamTLS",
    "UpstreamTimeout",
    "VaultKeyNotFound",
    "VaultLoginRefused",
    "VaultNotReachable",
    "VaultPathNotFound",
    "VaultReadRefused",
    "VaultSealed",
    "VaultUnavailable",
    OTHER,
];

const REQUEST_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

table! {
    /// The program that runs.
    BUILD = Metric::of("redoubt_egress_build", Kind::Info).labels(&[("version", Values::Version)]);
    /// Records of the audit log, by what was done and whether it was allowed.
    RECORDS = Metric::of("redoubt_egress_records", Kind::Counter)
        .labels(&[("event", Values::Of(EVENTS)), ("decision", Values::Of(DECISIONS))]);
    /// What was refused, by the reason that the answer gave.
    REFUSALS = Metric::of("redoubt_egress_refusals", Kind::Counter).labels(&[("reason", Values::Of(REASONS))]);
    /// How long requests took that were let out, from their head to the end of the answer.
    REQUEST_DURATION = Metric::of("redoubt_egress_request_duration", Kind::Histogram(REQUEST_BOUNDS)).unit(Unit::Seconds);
    /// Bytes of requests' bodies that were sent out.
    SENT = Metric::of("redoubt_egress_sent", Kind::Counter).unit(Unit::Bytes);
    /// Bytes of answers' bodies that came in.
    RECEIVED = Metric::of("redoubt_egress_received", Kind::Counter).unit(Unit::Bytes);
    /// Occurrences of credentials that were overwritten in answers.
    REDACTIONS = Metric::of("redoubt_egress_redactions", Kind::Counter);
    /// Requests under way, by the container that asks.
    UNDER_WAY = Metric::of("redoubt_egress_requests_under_way", Kind::Gauge).labels(&[("peer", Values::Of(PEERS))]);
    /// SecretBindings that have no credential to show at present, by why.
    CREDENTIALS_MISSING = Metric::of("redoubt_egress_credentials_missing", Kind::Gauge)
        .labels(&[("reason", Values::Of(REASONS))]);
    /// Time at which the policy in force was signed, since the Unix epoch.
    POLICY_SIGNED = Metric::of("redoubt_egress_policy_signed_timestamp", Kind::Gauge).unit(Unit::Seconds);
    /// Whether the policy has got stale, so that nothing goes out.
    POLICY_STALE = Metric::of("redoubt_egress_policy_stale", Kind::Gauge);
    /// Time since an operator was last heard.
    OPERATOR_SILENCE = Metric::of("redoubt_egress_operator_silence", Kind::Gauge).unit(Unit::Seconds);
    /// Policy streams that are open to replicas of the operator.
    POLICY_STREAMS = Metric::of("redoubt_egress_policy_streams", Kind::Gauge);
    /// Whether the audit log can be written; if not, nothing goes out.
    AUDIT_WRITABLE = Metric::of("redoubt_egress_audit_writable", Kind::Gauge);
}
