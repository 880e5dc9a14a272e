use std::collections::BTreeSet;
use std::sync::Mutex as Lock;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kube::Config;
use redoubt_policy::sign;
use redoubt_policy::wire::AgentIdentity;
use tokio::net::TcpListener;

use super::*;

/// An API server with one Secret, which it changes as merge patches say (RFC 7396), if they are of its version.
#[derive(Clone)]
struct Server(Arc<Lock<Stored>>);

struct Stored {
    secret: Value,
    writes: u32,
    /// Takes the next write and does not answer it.
    breaks: bool,
    /// Someone else writes before the next write.
    overtaken: bool,
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *into = patch.clone() };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

impl Stored {
    fn change(&mut self, patch: &Value) {
        merge(&mut self.secret, patch);
        self.writes += 1;
        self.secret["metadata"]["resourceVersion"] = json!(self.writes.to_string());
    }
}

impl Server {
    /// With the Secret as the chart makes it.
    fn new() -> Self {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": "redoubt-signing-key", "namespace": "redoubt-system", "resourceVersion": "0" } });
        Self(Arc::new(Lock::new(Stored { secret, writes: 0, breaks: false, overtaken: false })))
    }

    fn set<T>(&self, change: impl FnOnce(&mut Stored) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn annotate(&self, value: &str) {
        self.set(|stored| stored.change(&json!({ "metadata": { "annotations": { ROTATE: value } } })));
    }

    fn writes(&self) -> u32 {
        self.set(|stored| stored.writes)
    }

    /// The private keys that are anywhere in the Secret.
    fn text(&self) -> String {
        self.set(|stored| stored.secret.to_string())
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Option<(StatusCode, Value)> {
        let mut stored = self.0.lock().unwrap();
        if !path.ends_with("/secrets/redoubt-signing-key") {
            // An event.
            return Some((StatusCode::CREATED, serde_json::from_slice(body).unwrap()));
        }
        if *method == Method::PATCH {
            if std::mem::take(&mut stored.overtaken) {
                stored.change(&json!({ "metadata": { "labels": { "someone": "else" } } }));
            }
            let patch: Value = serde_json::from_slice(body).unwrap();
            if patch["metadata"]["resourceVersion"] != stored.secret["metadata"]["resourceVersion"] {
                let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "Conflict", "message": "changed", "code": 409 });
                return Some((StatusCode::CONFLICT, status));
            }
            stored.change(&patch);
            if std::mem::take(&mut stored.breaks) {
                return None;
            }
        }
        Some((StatusCode::OK, stored.secret.clone()))
    }

    async fn client(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = server.clone();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let server = server.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let Some((status, answer)) = server.answer(&head.method, head.uri.path(), &body)
                        else {
                            return Err(std::io::Error::other("the connection breaks"));
                        };
                        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
                        *response.status_mut() = status;
                        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
                        Ok(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Client::try_from(Config::new(url)).unwrap()
    }

    /// A process that starts.
    async fn replica(&self) -> Keys {
        let client = self.client().await;
        let (signer, _) = load(client.clone(), "redoubt-system").await.unwrap();
        Keys::new(&client, "redoubt-system", signer)
    }
}

fn is(keys: &Keys) -> String {
    keys.signer().public().to_string()
}

/// The pod that pins `key` accepts what `keys` signs, by its announcements.
fn reaches(pinned: &str, keys: &Keys) -> bool {
    let policy = serde_json::from_value(
        json!({ "agent": {"namespace": "n", "name": "a", "uid": "u"}, "epoch": 1,
        "rules": [], "denies": [], "audit": {"ceilings": [], "denies": []},
        "explanation": {"needs": [], "grants": [], "ceilings": [], "selectedBy": []}, "bindings": [], "vaults": [],
        "inbound": {"issuer": "i", "jwks": {}, "audience": "x", "callers": []}, "tools": [] }),
    );
    let envelope = sign(&policy.unwrap(), keys.signer().key()).unwrap();
    let mut ring = Keyring::new(pinned.parse().unwrap());
    ring.learn(keys.signer().announcements());
    let agent = AgentIdentity { namespace: "n".into(), name: "a".into(), uid: "u".into() };
    let accepted = ring.verify(envelope.as_bytes(), &agent, 0).is_ok();
    assert_eq!(accepted, keys.signer().leads_from(pinned), "the operator judges as the sidecar does");
    accepted
}

#[tokio::test]
async fn a_request_replaces_the_key_once_for_every_replica() {
    let server = Server::new();
    let (leader, follower) = (server.replica().await, server.replica().await);
    let first = is(&leader);
    assert_eq!(is(&follower), first);
    assert!(leader.signer().announcements().is_empty());
    let writes = server.writes();
    assert!(!leader.look(true).await.unwrap());
    assert_eq!(server.writes(), writes, "nobody asked");
    server.annotate("2026-11");
    assert!(!follower.look(false).await.unwrap());
    assert_eq!(is(&follower), first, "who does not lead writes nothing");
    assert!(leader.look(true).await.unwrap());
    let second = is(&leader);
    assert_ne!(second, first);
    assert!(follower.look(false).await.unwrap());
    assert_eq!(is(&follower), second);
    assert!(reaches(&first, &follower) && reaches(&second, &follower));
    // It is met, for whoever leads, and after a restart.
    let writes = server.writes();
    let restarted = server.replica().await;
    for keys in [&leader, &follower, &restarted] {
        assert!(!keys.look(true).await.unwrap());
        assert_eq!(is(keys), second);
        assert_eq!(keys.signer().announcements(), leader.signer().announcements());
    }
    assert_eq!(server.writes(), writes);
    // The next request is another text. An empty one is none.
    server.annotate("");
    assert!(!leader.look(true).await.unwrap());
    server.annotate("2026-12");
    assert!(follower.look(true).await.unwrap(), "whoever leads by then");
    assert!(leader.look(false).await.unwrap());
    assert_eq!(is(&leader), is(&follower));
    assert!(reaches(&first, &leader) && reaches(&second, &leader));
    let stranger = Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    assert!(!reaches(&stranger.public().to_string(), &leader));
    assert!(!leader.signer().leads_from("no key"));
}

#[tokio::test]
async fn one_that_dies_on_the_way_leaves_nothing_half_done() {
    let server = Server::new();
    let leader = server.replica().await;
    let first = is(&leader);
    server.annotate("now");
    server.set(|stored| stored.breaks = true);
    // Written, and never heard of.
    assert!(leader.look(true).await.is_err());
    let writes = server.writes();
    for keys in [server.replica().await, leader] {
        keys.settle().await;
        assert_ne!(is(&keys), first);
        assert!(reaches(&first, &keys));
    }
    assert_eq!(server.writes(), writes, "it is not done again");
}

#[tokio::test]
async fn whoever_was_overtaken_looks_again() {
    let server = Server::new();
    let leader = server.replica().await;
    let first = is(&leader);
    server.annotate("now");
    server.set(|stored| stored.overtaken = true);
    assert!(leader.look(true).await.unwrap());
    assert!(reaches(&first, &leader));
    assert_eq!(leader.signer().announcements().lines().count(), 1);
    assert!(server.text().contains("someone"));
}

#[tokio::test]
async fn a_key_that_is_taken_out_is_replaced_by_one_that_nobody_announces() {
    let server = Server::new();
    let leader = server.replica().await;
    let first = is(&leader);
    server.annotate("one");
    assert!(leader.look(true).await.unwrap());
    let second = is(&leader);
    // And with a request that is open: the new key meets it.
    server.annotate("two");
    server.set(|stored| stored.change(&json!({ "data": { KEY: null } })));
    let follower = server.replica();
    assert!(leader.look(true).await.unwrap());
    assert!(leader.signer().announcements().is_empty());
    assert!(!reaches(&first, &leader) && !reaches(&second, &leader) && reaches(&is(&leader), &leader));
    let writes = server.writes();
    assert!(!leader.look(true).await.unwrap());
    let follower = follower.await;
    assert_eq!((is(&follower), server.writes()), (is(&leader), writes));
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let server = Server::new();
    let leader = server.replica().await;
    let first = is(&leader);
    server.annotate(&"x".repeat(REQUEST_MAX + 1));
    assert!(!leader.look(true).await.unwrap());
    let error = SigningError::Request(300).to_string();
    assert!(error.contains("redoubt-signing-key") && error.contains(ROTATE), "{error}");
    let kept = server.set(|stored| stored.secret["data"][KEY].clone());
    server.set(|stored| stored.change(&json!({ "data": { KEY: "AAAA" } })));
    assert!(leader.look(true).await.is_err());
    assert_eq!(is(&leader), first, "the known one stays");
    server.set(|stored| stored.change(&json!({ "data": { KEY: kept } })));
    server.annotate("a short one");
    assert!(leader.look(true).await.unwrap());
}

#[tokio::test]
async fn the_secret_keeps_no_replaced_key_and_a_bounded_chain() {
    let server = Server::new();
    let leader = server.replica().await;
    let mut private = BTreeSet::new();
    let first = is(&leader);
    for round in 0..20 {
        private.insert(server.set(|stored| stored.secret["data"][KEY].as_str().unwrap().to_owned()));
        server.annotate(&format!("{round}"));
        assert!(leader.look(true).await.unwrap());
        assert_eq!(reaches(&first, &leader), round < 16, "{round}");
    }
    assert_eq!(private.len(), 20);
    let text = server.text();
    assert!(private.iter().all(|key| !text.contains(key)));
    assert_eq!(leader.signer().announcements().lines().count(), 16);
}
