//! Who calls: what the API server says of the token that is shown.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use redoubt_crds::names;
use redoubt_stream::{AUDIENCE, Status};
use tokio::sync::Semaphore;

/// How long an answer of the API server is believed.
const BELIEVED: Duration = Duration::from_secs(30);
/// Most answers that are remembered.
const REMEMBERED: usize = 8192;
/// Most questions to the API server at a time.
const AT_ONCE: usize = 32;
/// Longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 8 * 1024;

/// An agent's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Namespace of the Agent.
    pub namespace: String,
    /// Name of the Agent.
    pub agent: String,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
}

/// The pod that a token is bound to, if it is of this audience, of an agent's account, and of that agent's pod.
///
/// # Errors
/// What is wrong with it.
pub fn caller(review: &TokenReviewStatus) -> Result<Caller, String> {
    if let Some(error) = review.error.as_ref().filter(|error| !error.is_empty()) {
        return Err(format!("the API server does not accept the token: {error}"));
    }
    if review.authenticated != Some(true) {
        return Err("the API server does not accept the token".to_owned());
    }
    if !review.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(format!("the token is not for the audience {AUDIENCE}"));
    }
    let user = review.user.as_ref().ok_or("the token is nobody's")?;
    let name = user.username.as_deref().unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
    let (namespace, account) = account.ok_or("the token is not a service account's")?;
    let agent = account
        .strip_prefix(names::CHILD_PREFIX)
        .filter(|agent| !agent.is_empty())
        .ok_or("the token's service account is not an Agent's")?;
    let extra = |key: &str| {
        let values = user.extra.as_ref()?.get(&format!("authentication.kubernetes.io/{key}"))?;
        match values.as_slice() {
            [value] if !value.is_empty() => Some(value.as_str()),
            _ => None,
        }
    };
    let (Some(pod), Some(pod_uid)) = (extra("pod-name"), extra("pod-uid")) else {
        return Err("the token is not bound to a pod".to_owned());
    };
    if pod != account {
        return Err("the token is bound to a pod that is not the Agent's".to_owned());
    }
    Ok(Caller { namespace: namespace.to_owned(), agent: agent.to_owned(), pod_uid: pod_uid.to_owned() })
}

/// Asks the API server about tokens.
pub struct Reviews {
    api: Api<TokenReview>,
    known: Mutex<HashMap<[u8; 32], (Instant, Caller)>>,
    slots: Semaphore,
}

impl Reviews {
    /// Asks with this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), known: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it is not an agent's pod; `UNAVAILABLE` when the API server cannot be asked.
    pub async fn review(&self, token: &str) -> Result<Caller, Status> {
        if token.len() > TOKEN_MAX {
            return Err(Status::unauthenticated("the token is too long"));
        }
        let hash = sha256(token);
        if let Some(caller) = self.known(&hash) {
            return Ok(caller);
        }
        let unavailable = |detail: String| Status::unavailable(format!("no token can be checked: {detail}"));
        let _slot = self.slots.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let asked = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..Default::default()
        };
        let answer = self.api.create(&PostParams::default(), &asked).await;
        let answer = answer.map_err(|error| unavailable(error.to_string()))?;
        let caller = caller(&answer.status.unwrap_or_default()).map_err(Status::unauthenticated)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (since, _)| since.elapsed() < BELIEVED);
        }
        if known.len() < REMEMBERED {
            known.insert(hash, (Instant::now(), caller.clone()));
        }
        Ok(caller)
    }

    fn known(&self, hash: &[u8; 32]) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(since, _)| since.elapsed() < BELIEVED).map(|(_, caller)| caller.clone())
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The API server's answer for the token of `team/helper`, after `change`.
    fn answer(change: impl FnOnce(&mut Value)) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true, "audiences": ["redoubt.dev/policy"],
            "user": { "username": "system:serviceaccount:team:redoubt-agent-helper", "extra": {
                "authentication.kubernetes.io/pod-name": ["redoubt-agent-helper"],
                "authentication.kubernetes.io/pod-uid": ["pod-1"] } },
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn only_an_agents_own_pod_is_known() {
        let helper = Caller { namespace: "team".into(), agent: "helper".into(), pod_uid: "pod-1".into() };
        assert_eq!(caller(&answer(|_| {})), Ok(helper));
        let refused = |said: &str, change: fn(&mut Value)| {
            let error = caller(&answer(change)).unwrap_err();
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        };
        refused("does not accept", |it| it["authenticated"] = json!(false));
        refused("does not accept", |it| it["error"] = json!("expired"));
        refused("audience", |it| it["audiences"] = json!(["vault"]));
        refused("audience", |it| it["audiences"] = json!([]));
        refused("nobody's", |it| it["user"] = json!(null));
        refused("not a service account's", |it| it["user"]["username"] = json!("redoubt-agent-helper"));
        refused("not an Agent's", |it| {
            it["user"]["username"] = json!("system:serviceaccount:team:default");
        });
        refused("not an Agent's", |it| {
            it["user"]["username"] = json!("system:serviceaccount:team:redoubt-agent-");
        });
        refused("not bound", |it| it["user"]["extra"] = json!({}));
        refused("bound to a pod that is not", |it| {
            it["user"]["username"] = json!("system:serviceaccount:team:redoubt-agent-other");
        });
    }
}
