//! The policy's key is replaced while a sidecar runs: it follows announcements, and takes nothing of the old key any more.

use std::process::Child;
use std::time::Duration;

use redoubt_policy::envelope::keyring::{announce, appended};
use redoubt_policy::{SigningKey, sign};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{Dir, is_started, output, start_with};
use crate::stream::Operator;
use crate::support::{Double, Issuer, SECRET, TestCa, World, new_key, policy, vault_double};

fn without_free(policy: &mut Value) {
    policy["rules"].as_array_mut().unwrap().retain(|rule| rule["scope"]["host"] != "free.test");
}

/// The announcement of each key under the one before it.
fn chain(keys: &[&SigningKey]) -> String {
    keys.windows(2)
        .fold(String::new(), |lines, pair| appended(&lines, &announce(&pair[1].public(), pair[0]).unwrap()))
}

async fn free(world: &World) -> u16 {
    world.get("https://free.test/").await.status
}

#[tokio::test]
async fn the_stream_leads_to_the_new_key_and_the_old_one_is_refused_from_then_on() {
    let operator = Operator::new().await;
    let (old, next, newest) = (new_key(), new_key(), new_key());
    let world = World::with(operator.setup(&old)).await;
    operator.report(|it| it.epoch == 100).await;
    // Offers what has to be refused, and then what the sidecar knows already, so that the next refusal is a new one.
    let refused = |envelope: String, announcements: String, said: &'static str, held: u64, known: String| {
        let operator = &operator;
        async move {
            operator.publish_with(envelope, &announcements);
            let fits = |message: &str| message.contains(said);
            let report =
                operator.report(|it| it.refused.as_ref().is_some_and(|(_, message)| fits(message))).await;
            assert_eq!((report.epoch, report.refused.unwrap().0.as_str()), (held, "PolicyRefused"), "{said}");
            operator.publish(known);
            operator.report(|it| it.refused.is_none()).await;
        }
    };
    // Unannounced, or announced by itself, by a stranger, or by a key that is not announced.
    let forged =
        [String::new(), chain(&[&newest, &newest]), chain(&[&new_key(), &newest]), chain(&[&next, &newest])];
    for announcements in forged {
        let envelope = world.signed_by(&newest, 110, without_free);
        refused(envelope, announcements, "signed by another key", 100, world.signed(50, |_| {})).await;
        assert_eq!(free(&world).await, 200);
    }
    // Two rotations at once: the sidecar was away for the first.
    operator.publish_with(world.signed_by(&newest, 110, |_| {}), &chain(&[&old, &next, &newest]));
    assert_eq!(operator.report(|it| it.epoch == 110).await.refused, None);
    assert_eq!(free(&world).await, 200);
    // What comes late is no alarm, and changes nothing; what is newer than the rotation is one.
    operator.publish(world.signed_by(&old, 105, without_free));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(operator.report(|it| it.epoch == 110).await.refused, None);
    for stolen in [&old, &next] {
        let envelope = world.signed_by(stolen, 200, without_free);
        let announcements = chain(&[stolen, &new_key()]);
        let known = world.signed_by(&newest, 110, |_| {});
        refused(envelope, announcements, "signed by a key that was replaced", 110, known).await;
    }
    assert_eq!(free(&world).await, 200);
    // The mounted copy brings no old key back either.
    world.mount(201, without_free);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(free(&world).await, 200);
    operator.publish(world.signed_by(&newest, 111, without_free));
    operator.report(|it| it.epoch == 111).await;
    assert_eq!(free(&world).await, 403);
}

#[tokio::test]
async fn the_mounted_copy_leads_to_the_new_key_too() {
    let (old, next) = (new_key(), new_key());
    let world = World::with(crate::support::Setup { key: Some(old.clone()), ..Default::default() }).await;
    let put = |name: &str, text: &str| {
        std::fs::write(world.dir.join("new"), text).unwrap();
        std::fs::rename(world.dir.join("new"), world.dir.join(name)).unwrap();
    };
    put("policy.json", &world.signed_by(&next, 101, without_free));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(free(&world).await, 200, "nothing announces it");
    put("keys.dsse.jsonl", &chain(&[&old, &next]));
    world.audit.record(|it| it["event"] == "policy" && it["epoch"] == 101).await;
    assert_eq!(free(&world).await, 403);
    put("keys.dsse.jsonl", "");
    put("policy.json", &world.signed(102, |_| {}));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(free(&world).await, 403, "the old key");
    put("policy.json", &world.signed_by(&next, 103, |_| {}));
    world.audit.record(|it| it["event"] == "policy" && it["epoch"] == 103).await;
    assert_eq!(free(&world).await, 200);
}

/// A sidecar that ends with the test.
struct Running(Option<Child>);

impl Running {
    /// Waits for its end, and brings it about if it does not come.
    async fn ends_itself(mut self) -> (Option<i32>, String) {
        for _ in 0..600 {
            if self.0.as_mut().unwrap().try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ended = self.0.as_mut().unwrap().kill();
        let (code, _, log) = output(self.0.take().unwrap());
        (code, log)
    }

    async fn end(mut self) -> (Option<i32>, String) {
        let child = self.0.take().unwrap();
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
        let (code, _, log) = tokio::task::spawn_blocking(|| output(child)).await.unwrap();
        (code, log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ended = child.kill();
        }
    }
}

/// The program, as in a pod whose arguments name a key of long ago.
#[tokio::test]
async fn the_program_starts_on_announcements_and_follows_more_of_them() {
    let dir = Dir(std::env::temp_dir().join(format!("redoubt-egress-rotation-{}", std::process::id())));
    std::fs::create_dir_all(dir.0.join("tokens/main")).unwrap();
    std::fs::write(dir.0.join("tokens/main/token"), "a.pod.token").unwrap();
    let ca = TestCa::new();
    let vault = Double::tls(&ca, &["127.0.0.1"]).await;
    vault.answer(vault_double(["echo", "keyed"].map(|it| (it.to_owned(), SECRET.to_owned())).into()));
    let (pinned, second, third) = (new_key(), new_key(), new_key());
    let signed = |key: &SigningKey, epoch: u64| {
        let inbound = Issuer::new().inbound();
        let wanted = policy(&ca.pem, &format!("https://{}", vault.address), &ca.pem, &inbound, epoch);
        sign(&serde_json::from_value(wanted).unwrap(), key).unwrap()
    };
    let put = |name: &str, text: &str| std::fs::write(dir.0.join(name), text).unwrap();
    let operator = Operator::new().await;
    let stream = (operator.address.as_str(), operator.ca.as_str());
    let health = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    put("policy.json", &signed(&second, 100));
    for (announcements, said) in [
        (String::new(), "signed by another key"),
        (chain(&[&second, &second]), "signed by another key"),
        (chain(&[&new_key(), &second]), "signed by another key"),
        (chain(&[&pinned, &second, &third]), "signed by a key that was replaced"),
    ] {
        put("keys.dsse.jsonl", &announcements);
        let (code, log) = Running(Some(start_with(&dir.0, &pinned, 0, stream))).ends_itself().await;
        assert_eq!(code, Some(1));
        assert!(log.contains("PolicyRefused") && log.contains(said), "{log}");
    }
    put("keys.dsse.jsonl", &chain(&[&pinned, &second]));
    let at = health();
    let child = Running(Some(start_with(&dir.0, &pinned, at.port(), stream)));
    let started = is_started(at).await;
    if started {
        operator.report(|it| it.epoch == 100).await;
        operator.publish_with(signed(&third, 101), &chain(&[&pinned, &second, &third]));
        operator.report(|it| it.epoch == 101).await;
        operator.publish(signed(&second, 102));
        operator
            .report(|it| it.refused.as_ref().is_some_and(|(_, message)| message.contains("was replaced")))
            .await;
    }
    let (code, log) = child.end().await;
    assert!(started, "{log}");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&third.public().to_string()), "{log}");
    // Restarted, it begins with its arguments again: what leads on is what is mounted then.
    put("policy.json", &signed(&third, 101));
    put("keys.dsse.jsonl", &chain(&[&pinned, &second, &third]));
    let at = health();
    let child = Running(Some(start_with(&dir.0, &pinned, at.port(), stream)));
    let started = is_started(at).await;
    let (_, log) = child.end().await;
    assert!(started, "{log}");
}
