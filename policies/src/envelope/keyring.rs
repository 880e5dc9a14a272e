//! Whose policies a pod accepts: those of one key, the newest that announcements lead to from the key in its arguments.
//!
//! An announcement is a DSSE envelope like a policy's, of a type of its own, that names the public half of the next key.
//! The key that is replaced signs it, so a pod that knows only the key in its arguments can follow the chain to the key of
//! today, also after a restart. From then on what an earlier key signs is refused. Announcements travel as lines, oldest
//! first, beside the policy in the agent's ConfigMap and in the policy stream.

use serde::{Deserialize, Serialize};

use super::{Fault, KeyError, SigningKey, VerifiedPolicy, VerifyingKey, open, payload, sign_payload};
use crate::Refusal;
use crate::wire::AgentIdentity;

/// `payloadType` of an announcement.
pub const ANNOUNCEMENT_TYPE: &str = "application/vnd.redoubt.policykey.v1alpha1+json";

/// Name of the file with announcements beside the mounted policy, of their key in the agent's ConfigMap, and of that in the
/// Secret of the signing key.
pub const ANNOUNCEMENTS_KEY: &str = "keys.dsse.jsonl";

/// Most announcements: so many times the key can be replaced while a pod runs.
pub const ANNOUNCEMENTS_MAX: usize = 16;

/// Longest announcement that is read, in bytes.
const LENGTH_MAX: usize = 1024;

/// Most bytes of announcements that are read.
pub const ANNOUNCEMENTS_LENGTH_MAX: usize = ANNOUNCEMENTS_MAX * (LENGTH_MAX + 1);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Announcement {
    /// As in the pod's arguments.
    next_key: String,
}

/// The announcement of `next` under `current`, as one line.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn announce(next: &VerifyingKey, current: &SigningKey) -> Result<String, KeyError> {
    let announcement = serde_json::to_vec(&Announcement { next_key: next.to_string() })?;
    sign_payload(ANNOUNCEMENT_TYPE, &announcement, current)
}

/// The lines of `earlier`, and `announcement` after them; the oldest are left out where there are too many.
#[must_use]
pub fn appended(earlier: &str, announcement: &str) -> String {
    let mut lines: Vec<&str> = earlier.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.push(announcement);
    let kept = lines.get(lines.len().saturating_sub(ANNOUNCEMENTS_MAX)..).unwrap_or_default();
    kept.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The key whose policies are accepted, and those that it came after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    newest: VerifyingKey,
    before: Vec<VerifyingKey>,
}

impl Keyring {
    /// Only the key in the arguments.
    #[must_use]
    pub fn new(pinned: VerifyingKey) -> Self {
        Self { newest: pinned, before: Vec::new() }
    }

    /// The key whose policies are accepted.
    #[must_use]
    pub fn newest(&self) -> &VerifyingKey {
        &self.newest
    }

    /// Follows `lines` from the newest key as far as they lead, in whatever order they are. Of two announcements of one key
    /// the first is followed. What the newest key did not sign, and what leads back, is passed over.
    pub fn learn(&mut self, lines: &str) {
        while self.before.len() < ANNOUNCEMENTS_MAX
            && let Some(next) = lines.lines().take(ANNOUNCEMENTS_MAX).find_map(|line| self.next_in(line))
        {
            self.before.push(std::mem::replace(&mut self.newest, next));
        }
    }

    /// The key that the newest key announces in `line`.
    fn next_in(&self, line: &str) -> Option<VerifyingKey> {
        if line.len() > LENGTH_MAX {
            return None;
        }
        let payload = payload(line.as_bytes(), ANNOUNCEMENT_TYPE, &self.newest).ok()?;
        let next: VerifyingKey =
            serde_json::from_slice::<Announcement>(&payload).ok()?.next_key.parse().ok()?;
        (next != self.newest && !self.before.contains(&next)).then_some(next)
    }

    /// The policy in `envelope`, if the newest key signed it for `agent` and its epoch is not below `lowest_epoch`.
    ///
    /// # Errors
    /// As [`verify`](super::verify); one that a replaced key signed has a message of its own.
    pub fn verify(
        &self,
        envelope: &[u8],
        agent: &AgentIdentity,
        lowest_epoch: u64,
    ) -> Result<VerifiedPolicy, Refusal> {
        open(envelope, &self.newest, agent, lowest_epoch).map(VerifiedPolicy).map_err(|fault| match fault {
            Fault::ForeignKey { given, expected } if self.before.iter().any(|key| key.id() == given) => {
                Fault::ReplacedKey { given, newest: expected }.of(agent)
            }
            fault => fault.of(agent),
        })
    }

    /// Epoch of a policy for `agent` that a replaced key signed: what comes late is that old, and no cause for alarm.
    #[must_use]
    pub fn replaced(&self, envelope: &[u8], agent: &AgentIdentity) -> Option<u64> {
        self.before.iter().find_map(|key| open(envelope, key, agent, 0).ok()).map(|policy| policy.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::sign;
    use crate::envelope::tests::{agent, key, policy};

    fn lines(announcements: &[&String]) -> String {
        announcements.iter().fold(String::new(), |lines, next| appended(&lines, next))
    }

    fn led(from: &SigningKey, lines: &str) -> Keyring {
        let mut ring = Keyring::new(from.public());
        ring.learn(lines);
        ring
    }

    #[test]
    fn a_chain_leads_from_the_pinned_key_to_that_of_today_and_only_that_one_counts() {
        let (first, second, third) = (key(), key(), key());
        let to_second = announce(&second.public(), &first).unwrap();
        let to_third = announce(&third.public(), &second).unwrap();
        let chain = lines(&[&to_second, &to_third]);
        let mut ring = Keyring::new(first.public());
        let by = |signer: &SigningKey| sign(&policy(), signer).unwrap();
        let refused = |ring: &Keyring, signer: &SigningKey, said: &str| {
            let refusal = ring.verify(by(signer).as_bytes(), &agent(), 7).unwrap_err();
            assert!(refusal.message.contains(said), "{said:?} is not in {refusal}");
        };
        assert_eq!(*ring.verify(by(&first).as_bytes(), &agent(), 7).unwrap(), policy());
        refused(&ring, &third, "signed by another key");
        assert_eq!(ring.replaced(by(&first).as_bytes(), &agent()), None);
        ring.learn(&chain);
        assert_eq!(ring.newest(), &third.public());
        assert_eq!(*ring.verify(by(&third).as_bytes(), &agent(), 7).unwrap(), policy());
        for replaced in [&first, &second] {
            refused(&ring, replaced, "signed by a key that was replaced");
            assert_eq!(ring.replaced(by(replaced).as_bytes(), &agent()), Some(7));
        }
        refused(&ring, &key(), "signed by another key");
        assert_eq!(ring.replaced(by(&third).as_bytes(), &agent()), None);
        // Again, in another order, piece by piece, and from the middle: it leads to the same key.
        ring.learn(&chain);
        assert_eq!(ring.newest(), &third.public());
        assert_eq!(led(&first, &lines(&[&to_third, &to_second])), ring);
        let mut slow = led(&first, &to_second);
        assert_eq!(slow.newest(), &second.public());
        slow.learn(&to_third);
        assert_eq!(slow, ring);
        assert_eq!(led(&second, &chain).newest(), &third.public());
        assert_eq!(led(&third, &chain).newest(), &third.public());
    }

    #[test]
    fn what_the_newest_key_did_not_announce_is_not_followed() {
        let (own, stranger, next) = (key(), key(), key());
        let good = announce(&next.public(), &own).unwrap();
        let check = |lines: &str, said: &str| assert_eq!(led(&own, lines).newest(), &own.public(), "{said}");
        check("", "nothing");
        check("not JSON\n{}\n\n", "no envelope");
        let forged = announce(&next.public(), &stranger).unwrap();
        check(&forged, "signed by a stranger");
        let posing = forged.replace(&stranger.public().id(), &own.public().id());
        check(&posing, "a stranger's signature under our key's name");
        check(&good.replace("policykey", "podpolicy"), "of another type");
        check(&sign(&policy(), &own).unwrap(), "a policy");
        let signed = |payload: &str| sign_payload(ANNOUNCEMENT_TYPE, payload.as_bytes(), &own).unwrap();
        check(&signed(&format!(r#"{{"nextKey":"{}","more":1}}"#, next.public())), "an unknown field");
        check(&signed(r#"{"nextKey":"AAAA"}"#), "no key");
        check(&good[..good.len() - 2], "cut off");
        check(&format!("{good}{}", " ".repeat(LENGTH_MAX)), "too long");
        check(&format!("{}{good}\n", "x\n".repeat(ANNOUNCEMENTS_MAX)), "beyond the last line that is read");
        // Truncated in the middle of the chain: the rest leads nowhere.
        let after = announce(&stranger.public(), &next).unwrap();
        check(&after, "without the link before it");
        // The benign twins, also among what is passed over.
        assert_eq!(led(&own, &good).newest(), &next.public());
        let beside = lines(&[&"not JSON".to_owned(), &forged, &posing, &good]);
        assert_eq!(led(&own, &beside).newest(), &next.public());
        // An announcement is no policy.
        let refusal = Keyring::new(own.public()).verify(good.as_bytes(), &agent(), 0).unwrap_err();
        assert!(refusal.message.contains("podpolicy"), "{refusal}");
    }

    #[test]
    fn no_replaced_key_leads_anywhere_any_more() {
        let (old, new, thief) = (key(), key(), key());
        let mut ring = led(&old, &announce(&new.public(), &old).unwrap());
        // Whoever has the old key announces another one, before and after the true one.
        let stolen = announce(&thief.public(), &old).unwrap();
        ring.learn(&stolen);
        ring.learn(&lines(&[&stolen, &announce(&new.public(), &old).unwrap()]));
        assert_eq!(ring.newest(), &new.public());
        // Nothing leads back, so that no lines lead round and round.
        ring.learn(&lines(&[
            &announce(&old.public(), &new).unwrap(),
            &announce(&new.public(), &new).unwrap(),
            &announce(&new.public(), &old).unwrap(),
        ]));
        assert_eq!(ring.newest(), &new.public());
    }

    #[test]
    fn the_chain_is_bounded_where_it_is_written_and_where_it_is_read() {
        let (mut signer, mut chain, mut keys) = (key(), String::new(), Vec::new());
        let (mut ring, mut late) = (Keyring::new(signer.public()), Keyring::new(signer.public()));
        for _ in 0..ANNOUNCEMENTS_MAX + 3 {
            let next = key();
            chain = appended(&chain, &announce(&next.public(), &signer).unwrap());
            ring.learn(&chain);
            keys.push(next.public());
            signer = next;
        }
        assert_eq!(chain.lines().count(), ANNOUNCEMENTS_MAX);
        assert!(chain.len() <= ANNOUNCEMENTS_LENGTH_MAX, "{}", chain.len());
        assert_eq!(ring.newest(), &keys[ANNOUNCEMENTS_MAX - 1], "no further");
        late.learn(&chain);
        assert!(late.before.is_empty(), "the first links are gone");
        let mut later = Keyring::new(keys[2]);
        later.learn(&chain);
        assert_eq!(later.newest(), &signer.public());
    }
}
