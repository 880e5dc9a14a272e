//! The model double, driven by the official `openai` Python SDK over HTTPS and over HTTP.

use std::path::Path;
use std::process::Stdio;

use redoubt_e2e::model_double::Settings;
use redoubt_e2e::testing::{Ca, start_model_double};
use tokio::process::Command;

use crate::folder;

const TWO_CALLS: &str = r#"
name: two-calls
model: scripted:two-calls
steps:
- expect: {lastRole: user, lastContains: note 7, tools: [notes__get_note]}
  reply:
    toolCalls:
      fragments: 7
      calls:
      - {name: notes__get_note, arguments: {id: "7"}}
      - {name: notes__get_note, arguments: {id: ö and more}}
- expect: {toolResults: 2}
  reply: {text: {content: "It says: {{last}}", fragments: 3}}
"#;

const FAILURES: &str = r#"
name: failures
model: scripted:failures
steps:
- reply: {status: {code: 429, headers: {retry-after: "1"}}}
- reply: {status: {code: 502, body: "<html>no JSON</html>", contentType: text/html}}
- reply: {text: {content: never ends, fragments: 5}}
  delivery: {delayMs: 5, cut: {bytes: 400}}
- reply: {hang: {}}
- reply: {toolCalls: {calls: [{name: notes__get_note, rawArguments: '{"id": '}]}}
"#;

async fn python() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("venv");
    let made = Command::new(script).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(made.status.success(), "e2e/venv failed; it says why above");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

async fn drive(name: &str, with_tls: bool) {
    let folder = folder(name);
    let (ca_file, key_file) = (folder.join("ca.pem"), folder.join("key"));
    std::fs::write(&key_file, "sk-test-1234567890\n").unwrap();
    let ca = Ca::new("test").unwrap();
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let tls =
        with_tls.then(|| ca.server(&["localhost", "127.0.0.1"]).unwrap().acceptor(&["http/1.1"]).unwrap());
    let settings = Settings {
        scripts: vec![TWO_CALLS.to_owned()],
        models: vec!["double-1".to_owned()],
        api_key_file: Some(key_file.clone()),
    };
    let double = start_model_double(settings, tls).await.unwrap();
    let added = double.tell(http::Method::POST, "/control/script", FAILURES).unwrap();
    assert_eq!(added["steps"], 5);

    let scheme = if with_tls { "https" } else { "http" };
    let output = Command::new(python().await)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doubles/model.py"))
        .arg(format!("{scheme}://localhost:{}/v1", double.address.port()))
        .arg(if with_tls { ca_file.as_os_str() } else { "".as_ref() })
        .arg(key_file)
        .env_clear()
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("all passed with openai "), "{said}");

    let requests = double.requests();
    let by_note = |part: &str| requests.iter().filter(|request| request.note.contains(part)).count();
    assert_eq!(
        requests.iter().filter(|request| !request.authorised).count(),
        1,
        "only the wrong key is refused"
    );
    assert_eq!(by_note("\"two-calls\", step 1"), 1);
    assert!(by_note("\"failures\", step 3") >= 1, "the step that hangs was reached");
    let first = &requests[0];
    assert_eq!((first.method.as_str(), first.path.as_str(), first.number), ("GET", "/v1/models", 1));
    assert!(first.headers.iter().any(|header| header.1 == "Bearer sk-test-1234567890"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn official_sdk_over_https() {
    drive("https", true).await;
}

#[tokio::test]
async fn official_sdk_over_http() {
    drive("http", false).await;
}

#[tokio::test]
async fn scripts_that_cannot_work_stop_the_start() {
    let settings =
        Settings { scripts: vec!["{name: a, model: b, steps: []}".to_owned()], ..Settings::default() };
    let message = start_model_double(settings, None).await.err().unwrap().to_string();
    assert!(message.contains("\"a\": steps: must end"), "{message}");
}
