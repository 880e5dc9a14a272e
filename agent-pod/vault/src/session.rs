//! A login at one Vault server: logs in, renews, reads and revokes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::client::{Answer, Client};
use crate::error::VaultError;
use crate::json::{Auth, AuthAnswer, Field, Health, LoginRequest, SecretAnswer, error_detail};
use crate::pace::LoginBudget;
use crate::token::{ClientToken, Lease, pod_token};

/// What a read found.
pub(crate) enum Secret {
    /// Every key of the latest version.
    Found(HashMap<String, Field>),
    /// There is none, or it is deleted.
    Missing,
    /// The token may not read it; what Vault said.
    Refused(String),
}

/// How to log in.
pub(crate) struct Login {
    pub(crate) mount: String,
    pub(crate) role: String,
    pub(crate) token_file: PathBuf,
}

/// A login at one Vault server.
pub(crate) struct Session {
    client: Client,
    login: Login,
    budget: LoginBudget,
    lease: Option<Lease>,
}

impl Session {
    pub(crate) fn new(client: Client, login: Login, budget: LoginBudget) -> Self {
        Self { client, login, budget, lease: None }
    }

    /// When the token ends; none if never, or if there is none.
    pub(crate) fn expires(&self) -> Option<Instant> {
        self.lease.as_ref().and_then(|lease| lease.expires)
    }

    /// When the token should be renewed, from now; none if never.
    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        let lease = self.lease.as_ref()?;
        Some(lease.left(now)?.saturating_sub(lease.duration / 2))
    }

    /// Makes sure that there is a token with a life before it: renews it past its half, or logs in.
    pub(crate) async fn ensure(&mut self) -> Result<(), VaultError> {
        let now = Instant::now();
        match &self.lease {
            Some(lease) if lease.is_over(now) => self.lease = None,
            Some(lease) if lease.is_due(now) => return self.prolong().await,
            Some(_) => return Ok(()),
            None => {}
        }
        self.log_in().await
    }

    /// Reads the latest version of a secret.
    pub(crate) async fn read(&mut self, mount: &str, path: &str) -> Result<Secret, VaultError> {
        let url = format!("{mount}/data/{path}");
        let answer = self.get(&url).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return self.secret(answer).await;
        }
        // Either the path is not for us, or the token was revoked under our hands. Vault says which.
        if self.get("auth/token/lookup-self").await?.status == StatusCode::FORBIDDEN {
            self.lease = None;
            self.log_in().await?;
            let again = self.get(&url).await?;
            return self.secret(again).await;
        }
        self.secret(answer).await
    }

    /// Gives the token back, so that it is not left to its lease. Without success it ends by itself.
    pub(crate) async fn revoke(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.revoke_lease(&lease).await;
        }
    }

    async fn revoke_lease(&self, lease: &Lease) {
        let url = "auth/token/revoke-self";
        match self.client.send(Method::POST, url, Some(&lease.token), Bytes::new()).await {
            Ok(answer) if answer.status.is_success() => {}
            Ok(answer) => {
                tracing::warn!(vault = self.client.vault(), status = %answer.status, "the token was not revoked")
            }
            Err(error) => tracing::warn!(vault = self.client.vault(), %error, "the token was not revoked"),
        }
    }

    async fn get(&self, url: &str) -> Result<Answer, VaultError> {
        let token = self.lease.as_ref().map(|lease| &lease.token);
        self.client.send(Method::GET, url, token, Bytes::new()).await
    }

    async fn secret(&self, answer: Answer) -> Result<Secret, VaultError> {
        match answer.status {
            StatusCode::OK => match serde_json::from_slice::<SecretAnswer>(&answer.body) {
                Ok(SecretAnswer { data }) => Ok(data.data.map_or(Secret::Missing, Secret::Found)),
                // The parser's message is not passed on, because it may cite the answer.
                Err(_) => Ok(Secret::Refused(
                    "the answer is not that of a key-value engine, version 2; check the mount".to_owned(),
                )),
            },
            StatusCode::NOT_FOUND => Ok(Secret::Missing),
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => {
                Ok(Secret::Refused(said(&answer)))
            }
            _ => Err(self.server_error(&answer).await),
        }
    }

    /// Renews the token; logs in anew where that is refused or gives too little, because the token nears its maximum.
    async fn prolong(&mut self) -> Result<(), VaultError> {
        let now = Instant::now();
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.renewable) {
            let url = "auth/token/renew-self";
            let answer = self.client.send(Method::POST, url, Some(&lease.token), Bytes::new()).await?;
            match auth(&answer) {
                Some(auth) => lease.extend(Duration::from_secs(auth.lease_duration), now),
                None if answer.status.is_server_error() => return Err(self.server_error(&answer).await),
                None => {}
            }
            if self.lease.as_ref().is_some_and(|lease| !lease.is_due(Instant::now())) {
                return Ok(());
            }
        }
        let old = self.lease.take();
        let outcome = self.log_in().await;
        match (old, &outcome) {
            // Better an old token than none.
            (old, Err(error)) if error.is_outage() => self.lease = old,
            (Some(old), _) => self.revoke_lease(&old).await,
            (None, _) => {}
        }
        outcome
    }

    async fn log_in(&mut self) -> Result<(), VaultError> {
        let jwt = pod_token(&self.login.token_file).await.map_err(|detail| self.login_refused(detail))?;
        let now = Instant::now();
        if !self.budget.take(now) {
            return Err(self.client.unavailable("too many logins within a minute; waiting".to_owned()));
        }
        let body = login_body(&self.login.role, &jwt).map_err(|detail| self.login_refused(detail))?;
        let url = format!("auth/{}/login", self.login.mount);
        let answer = self.client.send(Method::POST, &url, None, body).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND => {
                return Err(self.login_refused(said(&answer)));
            }
            _ => return Err(self.server_error(&answer).await),
        }
        let lease = auth(&answer).and_then(|auth| match auth.client_token {
            Field::Text(text) => {
                let duration = Duration::from_secs(auth.lease_duration);
                Some(Lease::new(ClientToken::new(text)?, auth.renewable, duration, now))
            }
            Field::Other => None,
        });
        let lease = lease.ok_or_else(|| self.client.unavailable("the login gave no token".to_owned()))?;
        tracing::info!(vault = self.client.vault(), seconds = lease.duration.as_secs(), "logged in");
        self.lease = Some(lease);
        Ok(())
    }

    fn login_refused(&self, detail: String) -> VaultError {
        VaultError::LoginRefused {
            vault: self.client.vault().to_owned(),
            mount: self.login.mount.clone(),
            role: self.login.role.clone(),
            detail,
        }
    }

    /// What a status stands for that says nothing about the request itself.
    async fn server_error(&self, answer: &Answer) -> VaultError {
        if answer.status.is_server_error()
            && let Ok(health) = self.client.send(Method::GET, "sys/health", None, Bytes::new()).await
            && let Ok(Health { initialized, sealed }) = serde_json::from_slice(&health.body)
            && (sealed || !initialized)
        {
            return self.client.sealed();
        }
        if answer.status.is_redirection() {
            let detail =
                "it redirects, as a standby node does; give the address of the active node".to_owned();
            return self.client.unavailable(detail);
        }
        self.client.unavailable(format!("it answered {}: {}", answer.status, said(answer)))
    }
}

fn said(answer: &Answer) -> String {
    error_detail(&answer.body).unwrap_or_else(|| format!("status {}", answer.status.as_u16()))
}

fn auth(answer: &Answer) -> Option<Auth> {
    if answer.status != StatusCode::OK {
        return None;
    }
    serde_json::from_slice::<AuthAnswer>(&answer.body).ok()?.auth
}

/// The body of a login, in memory that is wiped once it is sent.
fn login_body(role: &str, jwt: &str) -> Result<Bytes, String> {
    // Enough that the vector does not grow, which would leave bytes behind; a role is escaped six-fold at worst.
    let mut body = Zeroizing::new(Vec::with_capacity(jwt.len() + 6 * role.len() + 64));
    serde_json::to_writer(&mut *body, &LoginRequest { role, jwt }).map_err(|error| error.to_string())?;
    Ok(Bytes::from_owner(body))
}
