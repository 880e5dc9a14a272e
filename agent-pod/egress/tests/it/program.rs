//! The program itself: what it does to its process, what it prints, how it ends.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redoubt_policy::{SigningKey, sign};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Double, Issuer, SECRET, TestCa, exchange, parse, policy, vault_double};

/// Its user, where the test may choose.
const EGRESS_UID: u32 = 65001;

fn start(dir: &Path, key: &SigningKey, health: u16) -> Child {
    start_with(dir, key, health, ("127.0.0.1:1", &TestCa::new().der))
}

/// With the policy stream at an address, and its authority.
pub(crate) fn start_with(dir: &Path, key: &SigningKey, health: u16, operator: (&str, &str)) -> Child {
    let own = rustix::process::getuid().as_raw();
    let path = |name: &str| dir.join(name).display().to_string();
    // A copy, because the folder that it was built in may be closed to that user.
    let program = dir.join("redoubt-egress");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_redoubt-egress"), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.args([
        "--policy",
        &path("policy.json"),
        "--policy-key",
        &key.public().to_string(),
        "--agent-namespace",
        "team",
        "--agent-name",
        "helper",
        "--agent-uid",
        "0000-1111",
        "--min-epoch",
        "100",
        "--operator",
        operator.0,
        "--operator-ca",
        operator.1,
        "--operator-token",
        &path("tokens/main/token"),
        "--socket",
        &path("egress.sock"),
        "--inbound",
        "127.0.0.1:0",
        "--health",
        &format!("127.0.0.1:{health}"),
        "--agent-socket",
        &path("agent.sock"),
        "--vault-tokens",
        &path("tokens"),
        "--tools-uid",
        "65002",
        "--agent-process-uid",
        &own.to_string(),
        "--vault-patience",
        "1",
    ]);
    if own == 0 {
        command.uid(EGRESS_UID);
        for name in ["", "policy.json"] {
            chown(dir.join(name), Some(EGRESS_UID), None).unwrap();
        }
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn output(mut child: Child) -> (Option<i32>, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), out, err)
}

pub(crate) struct Dir(pub(crate) std::path::PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether it has said that it is started, after a while.
pub(crate) async fn is_started(health: SocketAddr) -> bool {
    for _ in 0..600 {
        if let Ok(mut stream) = TcpStream::connect(health).await {
            let bytes =
                exchange(&mut stream, b"GET /startupz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .await;
            if parse(&bytes, false).is_some_and(|it| it.status == 200) {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn it_hides_its_memory_prints_no_secret_and_ends_when_told() {
    let dir = Dir(std::env::temp_dir().join(format!("redoubt-egress-program-{}", std::process::id())));
    std::fs::create_dir_all(dir.0.join("tokens/main")).unwrap();
    std::fs::write(dir.0.join("tokens/main/token"), "a.pod.token").unwrap();
    let ca = TestCa::new();
    let vault = Double::tls(&ca, &["127.0.0.1"]).await;
    vault.answer(vault_double(["echo", "keyed"].map(|it| (it.to_owned(), SECRET.to_owned())).into()));
    let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let wanted =
        policy(&ca.pem, &format!("https://{}", vault.address), &ca.pem, &Issuer::new().inbound(), 100);
    let signed = sign(&serde_json::from_value(wanted).unwrap(), &key).unwrap();

    std::fs::write(dir.0.join("policy.json"), signed.replace("payload", "Payload")).unwrap();
    let (code, out, err) = output(start(&dir.0, &key, 0));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("PolicyRefused") && err.contains("ConfigMap/redoubt-agent-helper"), "{err}");

    std::fs::write(dir.0.join("policy.json"), signed).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = start(&dir.0, &key, free.port());
    let ready = is_started(free).await;
    let id = child.id();
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
    // Of a process that is not dumpable, these belong to root, whoever runs it.
    let owner = std::fs::metadata(format!("/proc/{id}/environ")).unwrap().uid();
    let mut stream = UnixStream::connect(dir.0.join("egress.sock")).await.unwrap();
    let leak = format!(
        "GET https://free.test/{SECRET} HTTP/1.1\r\nHost: free.test\r\nX: {SECRET}\r\nConnection: close\r\n\r\n"
    );
    let answer = parse(&exchange(&mut stream, leak.as_bytes()).await, false).unwrap();
    kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::TERM).unwrap();
    let (code, out, err) = tokio::task::spawn_blocking(|| output(child)).await.unwrap();
    assert!(ready, "{err}");
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    assert_eq!(owner, 0, "its memory can be read by its own user");
    assert_eq!(answer.refusal(), (403, "CredentialInRequest".to_owned()));
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains(SECRET) && !err.contains(SECRET));
    let record: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&record["reason"], &record["path"]),
        (&"CredentialInRequest".into(), &serde_json::Value::Null)
    );
}
