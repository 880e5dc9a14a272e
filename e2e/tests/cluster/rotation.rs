//! The policies' key is replaced under running agents: they stay, take policies of the new key, and none of the old one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redoubt_e2e::cluster::{Cluster, Team};
use redoubt_policy::wire::PodPolicy;
use redoubt_policy::{SigningKey, sign};
use serde_json::{Value, json};

use super::guards::Removed;
use super::{cluster, until};

const SYSTEM: &str = "redoubt-system";
const SECRET: &str = "secret/redoubt-signing-key";
const OPERATORS: [&str; 2] = ["-l", "app.kubernetes.io/component=operator"];
const NAMESPACE: &str = "key-rotation";
const POD: &str = "pod/redoubt-agent-helper";
const MAP: &str = "configmap/redoubt-agent-helper";

fn agent(cluster: &Cluster) -> Value {
    cluster.get(NAMESPACE, "agents.redoubt.dev/helper").expect("the agent")
}

/// Epoch of the policy, and the one that the sidecar has acknowledged.
fn epochs(cluster: &Cluster) -> (Option<i64>, Option<i64>) {
    let policy = &agent(cluster)["status"]["policy"];
    (policy["epoch"].as_i64(), policy["acknowledgedEpoch"].as_i64())
}

fn acknowledged_after(cluster: &Cluster, before: Option<i64>) {
    until("the policy of the new key is acknowledged", 120, || {
        let (epoch, acknowledged) = epochs(cluster);
        epoch > before && epoch == acknowledged
    });
}

/// The key that signs: what the Secret holds now.
fn signing_key(cluster: &Cluster) -> SigningKey {
    let secret = cluster.get(SYSTEM, SECRET).expect("the Secret");
    let text = secret["data"]["ed25519.pk8"].as_str().expect("a key");
    SigningKey::from_pkcs8(&STANDARD.decode(text).expect("base64")).expect("a key")
}

fn rotate(cluster: &Cluster, request: &str) {
    let request = format!("redoubt.dev/rotate-key={request}");
    cluster.kubectl(&["annotate", "-n", SYSTEM, SECRET, "--overwrite", &request]).expect("annotated");
}

/// The `keyid` of the policy in the agent's ConfigMap, and the policy itself.
fn policy(cluster: &Cluster) -> (String, PodPolicy) {
    let map = cluster.get(NAMESPACE, MAP).expect("the ConfigMap");
    let text = map["data"]["policy.dsse.json"].as_str().expect("a policy");
    let envelope: Value = serde_json::from_str(text).expect("an envelope");
    let payload = STANDARD.decode(envelope["payload"].as_str().expect("a payload")).expect("base64");
    let keyid = envelope["signatures"][0]["keyid"].as_str().expect("a keyid").to_owned();
    (keyid, serde_json::from_slice(&payload).expect("a policy"))
}

fn pinned(pod: &Value) -> String {
    let args = pod["spec"]["initContainers"][0]["args"].as_array().expect("arguments");
    let at = args.iter().position(|arg| arg == "--policy-key").expect("the key's argument");
    args[at + 1].as_str().expect("a key").to_owned()
}

fn works(team: &Team<'_>) -> bool {
    team.call("notes__get_note", &json!({"id": "7"})).is_ok_and(|answer| answer.contains("note 7"))
}

#[test]
fn the_key_is_replaced_under_a_running_agent_and_the_old_one_counts_no_more() {
    let cluster = cluster();
    let team = Team::with_agent(&cluster, NAMESPACE).expect("the team");
    cluster.wait_ready(NAMESPACE, "helper").expect("ready");
    acknowledged_after(&cluster, None);
    let pod = cluster.get(NAMESPACE, POD).expect("the pod");
    let old = signing_key(&cluster);
    assert_eq!(pinned(&pod), old.public().to_string());
    let (before, _) = epochs(&cluster);

    // The step of the platform team; and every replica dies while it is under way.
    let request = format!("test-{}", pod["metadata"]["uid"].as_str().expect("a uid"));
    rotate(&cluster, &request);
    until("the key is another one", 60, || signing_key(&cluster).public() != old.public());
    let mut kill = vec!["delete", "pods", "-n", SYSTEM, "--grace-period=0", "--force", "--wait=false"];
    kill.extend(OPERATORS);
    cluster.kubectl(&kill).expect("killed");
    acknowledged_after(&cluster, before);

    let new = signing_key(&cluster);
    let (signer, newest) = policy(&cluster);
    assert_eq!(signer, new.public().id(), "the policy is signed with the new key");
    let secret = cluster.get(SYSTEM, SECRET).expect("the Secret");
    assert_eq!(secret["metadata"]["annotations"]["redoubt.dev/key-rotated"], request);
    let after = cluster.get(NAMESPACE, POD).expect("the pod");
    assert_eq!(after["metadata"]["uid"], pod["metadata"]["uid"], "no pod is replaced");
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(pinned(&after), old.public().to_string());
    assert!(works(&team));

    // Whoever has the old key, and can even write the ConfigMap, brings nothing into force.
    // An hour ahead of all that the operator signs meanwhile.
    let stolen = sign(&PodPolicy { epoch: newest.epoch + 3_600_000, ..newest }, &old).expect("signed");
    {
        let _open = Removed::new(&cluster, "redoubt-agent-objects");
        let log = ["logs", "-n", NAMESPACE, "redoubt-agent-helper", "-c", "egress"];
        let patch = json!({"data": {"policy.dsse.json": stolen}}).to_string();
        until("the sidecar refuses the old key", 60, || {
            // The operator puts its own back at once, so it may be gone before the stream has sent it.
            let _status = cluster.kubectl(&["patch", "-n", NAMESPACE, MAP, "--type=merge", "-p", &patch]);
            let log = cluster.kubectl(&log).expect("the log");
            format!("{}{}", log.stdout, log.stderr).contains("signed by a key that was replaced")
        });
    }
    until("the operator's own is in force", 60, || {
        let (epoch, acknowledged) = epochs(&cluster);
        epoch.is_some() && epoch == acknowledged && policy(&cluster).0 == new.public().id()
    });
    assert!(works(&team));
    assert_eq!(cluster.get(NAMESPACE, POD).expect("the pod")["metadata"]["uid"], pod["metadata"]["uid"]);

    // A new pod knows the new key alone.
    cluster.kubectl(&["delete", "-n", NAMESPACE, POD, "--wait=true"]).expect("deleted");
    cluster.wait_ready(NAMESPACE, "helper").expect("ready");
    let next = cluster.get(NAMESPACE, POD).expect("the pod");
    assert_ne!(next["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(pinned(&next), new.public().to_string());
    assert!(works(&team));
}
