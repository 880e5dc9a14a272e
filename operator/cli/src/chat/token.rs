//! Who calls: a service account that the Agent lists, and a token of it that is good for this agent alone.

use std::time::{Duration, Instant};

use http::HeaderValue;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use redoubt_crds::{Agent, names};
use zeroize::Zeroizing;

use crate::cluster::{Cluster, check_name};
use crate::error::Error;

/// Lifetime of a token, in seconds: the shortest that Kubernetes gives.
const LIFETIME: i64 = 600;

/// A token is asked for anew after this time, so that none ends on its way.
const RENEW_AFTER: Duration = Duration::from_secs(540);

/// A service account that calls, and its token.
pub(super) struct Caller {
    account: String,
    audience: String,
    token: Option<(Token, Instant)>,
}

/// A token. It is never printed.
struct Token(Zeroizing<String>);

impl Caller {
    /// The account that `chosen` names, or the first of the agent's namespace that the Agent lists.
    pub(super) async fn find(cluster: &Cluster, agent: &str, chosen: Option<String>) -> Result<Self, Error> {
        let account = match chosen {
            Some(account) => account,
            None => {
                let object = Api::<Agent>::namespaced(cluster.client.clone(), &cluster.namespace)
                    .get(agent)
                    .await
                    .map_err(|error| {
                        Error::cluster(format!("read Agent {}/{agent}", cluster.namespace), &error)
                    })?;
                object
                    .spec
                    .callers
                    .into_iter()
                    .map(|caller| caller.service_account)
                    .find(|account| account.namespace.as_ref().is_none_or(|own| *own == cluster.namespace))
                    .map(|account| account.name)
                    .ok_or_else(|| Error::NoCaller {
                        namespace: cluster.namespace.clone(),
                        agent: agent.to_owned(),
                    })?
            }
        };
        check_name(&account)?;
        Ok(Self { account, audience: names::audience(&cluster.namespace, agent), token: None })
    }

    /// The value of `Redoubt-Authorization`. The API server's proxy keeps `Authorization` for itself.
    pub(super) async fn authorization(&mut self, cluster: &Cluster) -> Result<HeaderValue, Error> {
        let token = match self.token.take().filter(|(_, since)| since.elapsed() < RENEW_AFTER) {
            Some(token) => token,
            None => (self.request(cluster).await?, Instant::now()),
        };
        let bearer = Zeroizing::new(format!("Bearer {}", token.0.0.as_str()));
        let mut value = HeaderValue::from_str(&bearer).map_err(|_| Error::NoToken(self.account.clone()))?;
        value.set_sensitive(true);
        self.token = Some(token);
        Ok(value)
    }

    async fn request(&self, cluster: &Cluster) -> Result<Token, Error> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![self.audience.clone()],
                expiration_seconds: Some(LIFETIME),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(cluster.client.clone(), &cluster.namespace);
        let given = accounts
            .create_token_request(&self.account, &PostParams::default(), &request)
            .await
            .map_err(|error| {
                Error::cluster(
                    format!("get a token of service account {}/{}", cluster.namespace, self.account),
                    &error,
                )
            })?;
        given
            .status
            .map(|status| Token(Zeroizing::new(status.token)))
            .ok_or_else(|| Error::NoToken(self.account.clone()))
    }
}
