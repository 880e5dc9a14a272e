//! The policy stream: a real sidecar and the operator's real server, over TLS. Only the API server is scripted: it knows
//! one token.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use redoubt_egress::Clock;
use redoubt_operator::stream::authority::Authority;
use redoubt_operator::stream::hub::{Hub, Report};
use redoubt_operator::stream::serve::{Known, serve};
use redoubt_policy::SigningKey;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::{Setup, Step, World, exchange, new_key, parse};

/// The operator: its server, and a cluster with one Agent.
pub(crate) struct Operator {
    pub(crate) address: String,
    pub(crate) ca: String,
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
}

/// What watches would have told.
struct Cluster {
    map: Mutex<Option<Arc<ConfigMap>>>,
    version: AtomicU64,
    pod_uid: Mutex<String>,
    /// What the API server says of the token.
    review: Mutex<Value>,
}

impl Known for Cluster {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let uid = self.pod_uid.lock().unwrap().clone();
        let pod = json!({ "metadata": { "namespace": namespace, "name": name, "uid": uid } });
        Some(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn config_map(&self, _: &str, _: &str) -> Option<Arc<ConfigMap>> {
        self.map.lock().unwrap().clone()
    }

    fn reported(&self, _: &str, _: &str) {}
}

fn helper() -> Value {
    json!({ "authenticated": true, "audiences": ["redoubt.dev/policy"], "user": {
        "username": "system:serviceaccount:team:redoubt-agent-helper", "extra": {
            "authentication.kubernetes.io/pod-name": ["redoubt-agent-helper"],
            "authentication.kubernetes.io/pod-uid": ["pod-1"] } } })
}

/// An API server that answers TokenReviews and says its version.
async fn api_server(cluster: Arc<Cluster>) -> kube::Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let cluster = Arc::clone(&cluster);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let cluster = Arc::clone(&cluster);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let answer = if path.ends_with("/tokenreviews") {
                        let mut review: Value = serde_json::from_slice(&body).unwrap();
                        assert_eq!(review["spec"]["audiences"], json!(["redoubt.dev/policy"]));
                        let known = review["spec"]["token"] == "a.pod.token";
                        review["status"] = match known {
                            true => cluster.review.lock().unwrap().clone(),
                            false => json!({ "authenticated": false }),
                        };
                        review
                    } else {
                        json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "",
                            "buildDate": "", "goVersion": "", "compiler": "", "platform": "" })
                    };
                    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
                    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    kube::Client::try_from(kube::Config::new(url)).unwrap()
}

impl Operator {
    pub(crate) async fn new() -> Self {
        let (key, certificate) = Authority::generate().unwrap();
        let authority = Authority::load(&key, &certificate).unwrap();
        let ca = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority.certificate());
        let cluster = Arc::new(Cluster {
            map: Mutex::default(),
            version: AtomicU64::new(1),
            pod_uid: Mutex::new("pod-1".to_owned()),
            review: Mutex::new(helper()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let hub = Arc::new(Hub::default());
        let client = api_server(Arc::clone(&cluster)).await;
        let known = Arc::clone(&cluster) as Arc<dyn Known>;
        serve(listener, authority.server("localhost").unwrap(), client, Arc::clone(&hub), known);
        Self { address, ca, hub, cluster }
    }

    pub(crate) fn setup(&self, key: &Arc<SigningKey>) -> Setup {
        Setup {
            operator: Some((self.address.clone(), self.ca.clone())),
            key: Some(Arc::clone(key)),
            ..Setup::default()
        }
    }

    /// The watch tells of another ConfigMap.
    pub(crate) fn publish(&self, envelope: String) {
        self.publish_with(envelope, "");
    }

    /// The same, with announcements of keys.
    pub(crate) fn publish_with(&self, envelope: String, announcements: &str) {
        let version = self.cluster.version.fetch_add(1, Ordering::Relaxed).to_string();
        let map = json!({ "metadata": { "resourceVersion": version }, "data": {
                "policy.dsse.json": envelope, "keys.dsse.jsonl": announcements } });
        *self.cluster.map.lock().unwrap() = Some(Arc::new(serde_json::from_value(map).unwrap()));
        let agent = ("team".to_owned(), "helper".to_owned());
        self.hub.changed(&agent, || self.cluster.map.lock().unwrap().clone());
    }

    /// Waits until the sidecar has said something of this kind.
    pub(crate) async fn report(&self, fits: impl Fn(&Report) -> bool) -> Report {
        for _ in 0..1000 {
            if let Some(report) = self.hub.reported("team", "helper").filter(|it| fits(it)) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the sidecar says only {:?}", self.hub.reported("team", "helper"));
    }
}

fn without_free(policy: &mut Value) {
    policy["rules"].as_array_mut().unwrap().retain(|rule| rule["scope"]["host"] != "free.test");
}

#[tokio::test]
async fn a_narrower_policy_takes_over_at_once_and_is_acknowledged() {
    let operator = Operator::new().await;
    let world = World::with(operator.setup(&new_key())).await;
    let hello = operator.report(|it| it.epoch == 100).await;
    assert_eq!((hello.pod_uid.as_str(), hello.refused), ("pod-1", None));
    assert_eq!(world.get("https://free.test/").await.status, 200);
    world.free.answer(|_| {
        vec![
            Step::Write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 10\r\n\r\nabc"
                    .to_vec(),
            ),
            Step::Hang,
        ]
    });
    let mut open = world.connect().await;
    open.write_all(b"GET https://free.test/ HTTP/1.1\r\nHost: free.test\r\n\r\n").await.unwrap();
    while world.free.seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    operator.publish(world.signed(101, without_free));
    let ack = operator.report(|it| it.epoch == 101).await;
    assert_eq!(ack.refused, None);
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await.0, 403);
    assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    // What was under way ends.
    let bytes = exchange(&mut open, b"").await;
    assert!(!parse(&bytes, false).unwrap().whole);
    world.audit.record(|it| it["reason"] == "PolicyChanged").await;
    // And again, on the same stream.
    operator.publish(world.signed(102, |_| {}));
    operator.report(|it| it.epoch == 102).await;
}

#[tokio::test]
async fn what_is_not_signed_for_it_is_refused_and_what_is_older_changes_nothing() {
    let operator = Operator::new().await;
    let world = World::with(operator.setup(&new_key())).await;
    operator.report(|it| it.epoch == 100).await;
    let refused = |said: &'static str| {
        let operator = &operator;
        async move {
            let report = operator
                .report(|it| it.refused.as_ref().is_some_and(|(_, message)| message.contains(said)))
                .await;
            assert_eq!((report.epoch, report.refused.unwrap().0.as_str()), (100, "PolicyRefused"), "{said}");
        }
    };
    operator.publish("{}".to_owned());
    refused("not a DSSE envelope").await;
    let stranger = redoubt_policy::sign(
        &serde_json::from_value(foreign_policy()).unwrap(),
        &SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap(),
    );
    operator.publish(stranger.unwrap());
    refused("another key").await;
    operator.publish(world.signed(101, |policy| policy["agent"]["uid"] = "other".into()));
    refused("another agent").await;
    operator.publish(world.signed(100, without_free));
    refused("other content").await;
    // One that is older, after a restore: the sidecar says what it holds, and the operator has to sign above it.
    operator.publish(world.signed(50, without_free));
    operator.report(|it| it.refused.is_none() && it.epoch == 100).await;
    assert_eq!(world.get("https://free.test/").await.status, 200);
    operator.publish(world.signed(101, without_free));
    operator.report(|it| it.epoch == 101).await;
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await.0, 403);
}

fn foreign_policy() -> Value {
    json!({ "agent": {"namespace": "team", "name": "helper", "uid": "0000-1111"}, "epoch": 200, "rules": [],
        "denies": [], "audit": {"ceilings": [], "denies": []},
            "explanation": {"needs": [], "grants": [], "ceilings": [], "selectedBy": []}, "bindings": [], "vaults": [],
        "inbound": {"issuer": "i", "jwks": {}, "audience": "x", "callers": []}, "tools": [] })
}

/// A newer policy would be there, and does not come.
async fn nothing_comes(operator: &Operator, world: &World) {
    operator.publish(world.signed(101, without_free));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(operator.hub.reported("team", "helper"), None);
    assert_eq!(world.get("https://free.test/").await.status, 200);
}

#[tokio::test]
async fn a_server_with_a_certificate_of_another_authority_is_not_believed() {
    let operator = Operator::new().await;
    let other = Operator::new().await;
    let mut setup = operator.setup(&new_key());
    setup.operator = Some((operator.address.clone(), other.ca.clone()));
    let world = World::with(setup).await;
    nothing_comes(&operator, &world).await;
}

#[tokio::test]
async fn a_foreign_token_gets_no_stream() {
    for change in [
        |review: &mut Value| review["authenticated"] = json!(false),
        |review: &mut Value| review["audiences"] = json!(["vault"]),
        |review: &mut Value| review["user"]["extra"] = json!({}),
        |review: &mut Value| {
            review["user"]["username"] = json!("system:serviceaccount:team:redoubt-agent-other")
        },
    ] {
        let operator = Operator::new().await;
        change(&mut operator.cluster.review.lock().unwrap());
        let world = World::with(operator.setup(&new_key())).await;
        nothing_comes(&operator, &world).await;
    }
    // A pod that is not the Agent's of today.
    let operator = Operator::new().await;
    *operator.cluster.pod_uid.lock().unwrap() = "pod-2".to_owned();
    let world = World::with(operator.setup(&new_key())).await;
    nothing_comes(&operator, &world).await;
    // The benign twin: as soon as the watch has told of it, it comes.
    *operator.cluster.pod_uid.lock().unwrap() = "pod-1".to_owned();
    operator.report(|it| it.epoch == 101).await;
}

#[tokio::test]
async fn without_an_operator_nothing_goes_out_after_a_time_and_it_heals() {
    let operator = Operator::new().await;
    // Time that passes at once, when the test says so.
    let skipped = Arc::new(AtomicU64::new(0));
    let (begun, at) = (std::time::Instant::now(), Arc::clone(&skipped));
    let clock: Clock = Arc::new(move || begun.elapsed() + Duration::from_secs(at.load(Ordering::Relaxed)));
    // A way to the operator that can be cut.
    let cut = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let (to, is_cut) = (operator.address.clone(), Arc::clone(&cut));
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (to, is_cut) = (to.clone(), Arc::clone(&is_cut));
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
                let ended = async {
                    while !is_cut.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = ended => {}
                }
            });
        }
    });
    let mut setup = operator.setup(&new_key());
    setup.operator = Some((address, operator.ca.clone()));
    setup.clock = Some(clock);
    setup.policy = Box::new(|policy| policy["policyTTLSeconds"] = json!(600));
    let world = World::with(setup).await;
    operator.report(|it| it.epoch == 100).await;
    world.free.answer(|_| {
        vec![Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), Step::Hang]
    });
    let mut open = world.connect().await;
    open.write_all(b"GET https://free.test/ HTTP/1.1\r\nHost: free.test\r\n\r\n").await.unwrap();
    cut.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    skipped.store(500, Ordering::Relaxed);
    assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    skipped.store(601, Ordering::Relaxed);
    let (status, reason) = world.refusal("GET", "https://api.test/v1/x", "", "").await;
    assert_eq!((status, reason.as_str()), (503, "PolicyStale"));
    let bytes = exchange(&mut open, b"").await;
    assert!(!parse(&bytes, false).unwrap().whole);
    cut.store(false, Ordering::Relaxed);
    for _ in 0..3000 {
        if world.get("https://api.test/v1/x").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not heal");
}
