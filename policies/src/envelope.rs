//! The signed form of a [`PodPolicy`]: a DSSE envelope (<https://github.com/secure-systems-lab/dsse>, protocol 1) with
//! exactly one Ed25519 signature (RFC 8032).
//!
//! The payload is not read before its signature is verified. Reading is strict: what [`sign`] would not write is refused.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Refusal;
use crate::wire::{AgentIdentity, PAYLOAD_TYPE, PodPolicy};

pub mod keyring;

/// Longest envelope that is read, in bytes: what a ConfigMap can hold.
pub const ENVELOPE_MAX: usize = 1024 * 1024;

/// Name of the envelope's key in the agent's ConfigMap.
pub const ENVELOPE_KEY: &str = "policy.dsse.json";

const REASON: &str = "PolicyRefused";

/// What precedes the 32 bytes of the seed in an Ed25519 private key in PKCS#8 version 1 (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A key could not be made or read, or a policy not be written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("no randomness to make a key from")]
    Randomness,
    /// Not an Ed25519 private key in PKCS#8.
    #[error("the signing key is not an Ed25519 private key in PKCS#8 (RFC 8410)")]
    Private,
    /// Not the 32 bytes of an Ed25519 public key in standard base64.
    #[error("the policy key is not the standard base64 of an Ed25519 public key of 32 bytes")]
    Public,
    /// The policy cannot be written as JSON.
    #[error("the policy cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The envelope would be longer than [`ENVELOPE_MAX`].
    #[error(
        "the signed policy has {0} bytes and may have {ENVELOPE_MAX}; grant fewer hosts, ports and paths"
    )]
    Length(usize),
}

/// The operator's private key. It can neither be printed nor copied.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new private key in PKCS#8 version 1 (RFC 5208, RFC 8410), for [`SigningKey::from_pkcs8`].
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        SystemRandom::new().fill(seed.as_mut()).map_err(|_| KeyError::Randomness)?;
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(seed.as_ref());
        Ok(pkcs8)
    }

    /// The key in `pkcs8`, version 1 or 2, as [`SigningKey::generate`] and OpenSSL write it (DER).
    ///
    /// # Errors
    /// When it is not an Ed25519 private key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Self).map_err(|_| KeyError::Private)
    }

    /// The key that verifies this key's signatures.
    ///
    /// # Panics
    /// Never: Ed25519 public keys have 32 bytes.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        let mut bytes = [0_u8; 32];
        for (to, from) in bytes.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey(bytes)
    }
}

/// The operator's public key; its text is the standard base64 of its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// SHA-256 of the key in hex: the `keyid` of its signatures.
    #[must_use]
    pub fn id(&self) -> String {
        crate::digest::sha256_hex(&self.0)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::Public)?;
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| KeyError::Public)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding: what is signed.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// The DSSE envelope around `policy`, as JSON.
///
/// # Errors
/// When the policy cannot be written as JSON, or the envelope would be too long for a ConfigMap.
pub fn sign(policy: &PodPolicy, key: &SigningKey) -> Result<String, KeyError> {
    let text = sign_payload(PAYLOAD_TYPE, &serde_json::to_vec(policy)?, key)?;
    if text.len() > ENVELOPE_MAX {
        return Err(KeyError::Length(text.len()));
    }
    Ok(text)
}

fn sign_payload(payload_type: &str, payload: &[u8], key: &SigningKey) -> Result<String, KeyError> {
    let signature = key.0.sign(&pre_authentication_encoding(payload_type, payload));
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![Signature { keyid: key.public().id(), sig: STANDARD.encode(signature.as_ref()) }],
    };
    Ok(serde_json::to_string(&envelope)?)
}

/// A policy whose signature, agent and epoch were verified. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedPolicy(PodPolicy);

impl Deref for VerifiedPolicy {
    type Target = PodPolicy;
    fn deref(&self) -> &PodPolicy {
        &self.0
    }
}

/// The policy in `envelope`, if `key` signed it for `agent` and its epoch is not below `lowest_epoch`.
///
/// # Errors
/// A [`Refusal`] with reason `PolicyRefused` that names the agent's ConfigMap and says what is wrong with it.
pub fn verify(
    envelope: &[u8],
    key: &VerifyingKey,
    agent: &AgentIdentity,
    lowest_epoch: u64,
) -> Result<VerifiedPolicy, Refusal> {
    open(envelope, key, agent, lowest_epoch).map(VerifiedPolicy).map_err(|fault| fault.of(agent))
}

/// What is wrong with an envelope.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the policy has {0} bytes, more than the {ENVELOPE_MAX} that are read")]
    Length(usize),
    #[error("the policy is malformed: it is not a DSSE envelope ({0})")]
    Envelope(serde_json::Error),
    #[error("the policy is malformed: its payloadType is {given:?}, not {expected:?}")]
    PayloadType { given: String, expected: &'static str },
    #[error("the policy is malformed: its {0} is not standard base64")]
    Base64(&'static str),
    #[error("the policy is unsigned")]
    Unsigned,
    #[error("the policy has {0} signatures and must have exactly one")]
    Signatures(usize),
    #[error("the policy is signed by another key: {given}, not {expected} (SHA-256 of the public key)")]
    ForeignKey { given: String, expected: String },
    #[error(
        "the policy is signed by a key that was replaced: {given}, since then by {newest} (SHA-256 of the public key)"
    )]
    ReplacedKey { given: String, newest: String },
    #[error(
        "the policy's signature does not verify: it was altered after it was signed, or another key signed it"
    )]
    Signature,
    #[error("the policy is malformed: its payload is not a PodPolicy of this version ({0})")]
    Payload(serde_json::Error),
    #[error("the policy is for another agent: its {field} is {given:?}, this pod's is {expected:?}")]
    OtherAgent { field: &'static str, given: String, expected: String },
    #[error("the policy is older than this pod: its epoch is {given}, the lowest accepted is {lowest}")]
    Epoch { given: u64, lowest: u64 },
}

impl Fault {
    fn of(&self, agent: &AgentIdentity) -> Refusal {
        Refusal::new(
            REASON,
            format!("ConfigMap/{}", redoubt_crds::names::child(&agent.name)),
            format!("data[{ENVELOPE_KEY}]"),
            self.to_string(),
            self.help(),
        )
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Payload(_) | Self::PayloadType { .. } => {
                "Run operator and pod images of the same version; the operator replaces the pod when its IsolationClass names new images."
            }
            Self::ForeignKey { .. } | Self::Signature => {
                "Leave the ConfigMap to the operator, which writes it again; if the operator's key was replaced, delete the pod so that it starts with the new key."
            }
            Self::ReplacedKey { .. } => {
                "Leave the ConfigMap to the operator, which signs with the newest key. If the operator's Secret was put back to an older key, delete the pod; if not, someone else has the replaced key."
            }
            Self::OtherAgent { .. } | Self::Epoch { .. } => {
                "Leave the ConfigMap to the operator, which writes it again; if a backup was restored, delete the pod."
            }
            _ => "Leave the ConfigMap to the operator, which writes it again; nobody else signs policies.",
        }
    }
}

/// The payload of an envelope of this type, if `key` signed it. Only what was verified comes out.
fn payload(text: &[u8], payload_type: &'static str, key: &VerifyingKey) -> Result<Vec<u8>, Fault> {
    if text.len() > ENVELOPE_MAX {
        return Err(Fault::Length(text.len()));
    }
    let envelope: Envelope = serde_json::from_slice(text).map_err(Fault::Envelope)?;
    if envelope.payload_type != payload_type {
        return Err(Fault::PayloadType { given: envelope.payload_type, expected: payload_type });
    }
    let signature = match envelope.signatures.as_slice() {
        [] => return Err(Fault::Unsigned),
        [one] => one,
        several => return Err(Fault::Signatures(several.len())),
    };
    if signature.keyid != key.id() {
        return Err(Fault::ForeignKey { given: signature.keyid.clone(), expected: key.id() });
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| Fault::Base64("payload"))?;
    let bytes = STANDARD.decode(&signature.sig).map_err(|_| Fault::Base64("signature"))?;
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(&pre_authentication_encoding(&envelope.payload_type, &payload), &bytes)
        .map_err(|_| Fault::Signature)?;
    Ok(payload)
}

fn open(
    text: &[u8],
    key: &VerifyingKey,
    agent: &AgentIdentity,
    lowest_epoch: u64,
) -> Result<PodPolicy, Fault> {
    let payload = payload(text, PAYLOAD_TYPE, key)?;
    let policy: PodPolicy = serde_json::from_slice(&payload).map_err(Fault::Payload)?;
    for (field, given, expected) in [
        ("agent.uid", &policy.agent.uid, &agent.uid),
        ("agent.namespace", &policy.agent.namespace, &agent.namespace),
        ("agent.name", &policy.agent.name, &agent.name),
    ] {
        if given != expected {
            return Err(Fault::OtherAgent { field, given: given.clone(), expected: expected.clone() });
        }
    }
    if policy.epoch < lowest_epoch {
        return Err(Fault::Epoch { given: policy.epoch, lowest: lowest_epoch });
    }
    Ok(policy)
}

#[cfg(test)]
mod tests;
