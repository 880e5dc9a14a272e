//! Credential source: Vault login, reads, zeroised values.
