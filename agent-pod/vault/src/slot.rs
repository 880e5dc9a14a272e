//! One credential and how long it may be served. Pure: time comes in as an argument.

use std::sync::Arc;

use tokio::time::Instant;

use crate::credential::Credential;
use crate::error::VaultError;

/// The state of one binding.
#[derive(Default)]
pub(crate) struct Slot {
    value: Option<Arc<Credential>>,
    /// Past this the value is too old to be served.
    valid_until: Option<Instant>,
    /// Why the last attempt to read it failed, if it did.
    trouble: Option<VaultError>,
}

impl Slot {
    /// Vault gave this value.
    pub(crate) fn accept(&mut self, value: Arc<Credential>, valid_until: Instant) {
        *self = Self { value: Some(value), valid_until: Some(valid_until), trouble: None };
    }

    /// Vault gave none. Unless it is merely away, the value held goes at once.
    pub(crate) fn fail(&mut self, error: VaultError) {
        if !error.is_outage() {
            self.value = None;
        }
        self.trouble = Some(error);
    }

    /// The value, if it may be served at this time.
    ///
    /// # Errors
    /// Why not; none if nothing but its age is known against it.
    pub(crate) fn get(&self, now: Instant) -> Result<Arc<Credential>, Option<VaultError>> {
        let fresh = self.valid_until.is_some_and(|until| now < until);
        self.value.as_ref().filter(|_| fresh).cloned().ok_or_else(|| self.trouble.clone())
    }

    /// The value held, however old.
    pub(crate) fn held(&self) -> Option<&Arc<Credential>> {
        self.value.as_ref()
    }

    /// Why the last attempt failed.
    pub(crate) fn trouble(&self) -> Option<&VaultError> {
        self.trouble.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::credential::Unusable;

    fn value(text: &str) -> Arc<Credential> {
        Arc::new(Credential::new(Zeroizing::new(text.into())).unwrap())
    }

    fn outage() -> VaultError {
        VaultError::Sealed { vault: "v".into(), address: "https://v:8200".into() }
    }

    #[test]
    fn outage_is_bridged_until_the_bound_and_then_refused() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut slot = Slot::default();
        assert!(slot.get(now).is_err());
        slot.accept(value("first-value"), now + 10 * second);
        slot.fail(outage());
        assert_eq!(slot.get(now + 9 * second).unwrap().expose(), b"first-value");
        assert_eq!(slot.get(now + 10 * second).err(), Some(Some(outage())));
        slot.accept(value("other-value"), now + 20 * second);
        assert_eq!(slot.get(now + 10 * second).unwrap().expose(), b"other-value");
        assert!(slot.trouble().is_none());
        assert_eq!(slot.get(now + 20 * second).err(), Some(None), "too old, for no known reason");
    }

    #[test]
    fn refusal_takes_the_value_at_once() {
        let text = String::new;
        let refusals = [
            VaultError::LoginRefused { vault: text(), mount: text(), role: text(), detail: text() },
            VaultError::ReadRefused { binding: text(), mount: text(), path: text(), detail: text() },
            VaultError::PathNotFound { binding: text(), mount: text(), path: text() },
            VaultError::KeyNotFound { binding: text(), mount: text(), path: text(), key: text() },
            VaultError::CredentialUnusable {
                binding: text(),
                mount: text(),
                path: text(),
                key: text(),
                problem: Unusable::Empty,
            },
        ];
        for refusal in refusals {
            let now = Instant::now();
            let mut slot = Slot::default();
            slot.accept(value("first-value"), now + Duration::from_secs(10));
            slot.fail(refusal.clone());
            assert_eq!(slot.get(now).err(), Some(Some(refusal)));
            assert!(slot.held().is_none());
        }
    }
}
