//! The echo API over real connections.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redoubt_e2e::echo_api::{Credential, EchoApi, Known};
use redoubt_e2e::testing::{Ca, Started, start_echo_api};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::folder;

const TOKEN: &str = "t0k3n-of-the-echo-api";

async fn started(name: &str) -> (PathBuf, Started<EchoApi>) {
    let folder = folder(name);
    let file = folder.join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let credential = Credential { known: Known::File(file), header: "authorization".to_owned() };
    (folder, start_echo_api(credential, None).await.unwrap())
}

/// Sends bytes and reads until the API closes, or stays silent for a while (then `…` ends the answer).
async fn exchange(api: &Started<EchoApi>, request: &str) -> String {
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 65536];
    loop {
        match tokio::time::timeout(Duration::from_secs(3), stream.read(&mut part)).await {
            Ok(Ok(0) | Err(_)) => return String::from_utf8_lossy(&answer).into_owned(),
            Ok(Ok(count)) => answer.extend_from_slice(&part[..count]),
            Err(_) => return String::from_utf8_lossy(&answer).into_owned() + "…",
        }
    }
}

fn get(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: echo\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn the_credential_is_required_and_what_arrived_is_recorded() {
    let (folder, api) = started("echo-credential").await;
    for (header, status) in [
        (String::new(), "401"),
        ("Authorization: Bearer wrong\r\n".to_owned(), "401"),
        (format!("Authorization: {TOKEN}\r\n"), "401"),
        (format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n"), "401"),
        (format!("authorization: Bearer {TOKEN}\r\n"), "200"),
    ] {
        let request =
            format!("GET /v1/notes/7?a=b HTTP/1.1\r\nX-Other: 1\r\n{header}Connection: close\r\n\r\n");
        let answer = exchange(&api, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{header}: {answer}");
    }
    let body = r#"{"id":"n","text":"hello"}"#;
    let post = format!(
        "POST /v1/notes HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}{}",
        body.len(),
        get("/v1/notes/n")
    );
    let answer = exchange(&api, &post).await;
    assert!(answer.starts_with("HTTP/1.1 201") && answer.contains("HTTP/1.1 200 OK"), "{answer}");

    let requests = api.requests();
    let authorised: Vec<bool> = requests.iter().map(|request| request.authorised).collect();
    assert_eq!(authorised, [false, false, false, false, true, true, true]);
    assert_eq!((requests[4].path.as_str(), requests[4].query.as_str()), ("/v1/notes/7", "a=b"));
    assert!(requests[4].headers.contains(&("X-Other".to_owned(), "1".to_owned())));
    assert_eq!(requests[5].body, body);

    // A rotated credential counts at once.
    std::fs::write(folder.join("token"), "another-credential").unwrap();
    assert!(exchange(&api, &get("/v1/echo")).await.starts_with("HTTP/1.1 401"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn it_misbehaves_by_path() {
    let (folder, api) = started("echo-path").await;
    for (target, part) in [
        ("reflect-header", "x-reflected: t0k3n-of-the-echo-api\r\n"),
        ("reflect-body?form=base64", "\"dDBrM24tb2YtdGhlLWVjaG8tYXBp\""),
        ("reflect-chunks?at=3", "{\"reflected\":\"t0k\r\n"),
        (
            "redirect?to=https://other.example/&status=307",
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://other.example/\r\n",
        ),
        ("drop-mid-body?bytes=5", "content-length: 1000000\r\n\r\nxxxxx"),
        ("hang-mid-body?bytes=5", "\r\n\r\nxxxxx…"),
        ("cl-te", "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK"),
        ("slow-body?bytes=3&ms=1", "content-length: 3\r\n\r\nxxx"),
        ("nonsense", "no misbehaviour"),
    ] {
        let answer = exchange(&api, &get(&format!("/v1/misbehave/{target}"))).await;
        assert!(answer.contains(part), "{target}: {answer}");
    }
    assert_eq!(exchange(&api, &get("/v1/misbehave/hang-before-headers")).await, "…");
    let huge = exchange(&api, &get("/v1/misbehave/huge-body?bytes=200000")).await;
    assert!(huge.ends_with(&("\r\n\r\n".to_owned() + &"x".repeat(200_000))), "{} bytes", huge.len());
    let refused = exchange(&api, "GET /v1/misbehave/cl-te HTTP/1.1\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "no misbehaviour without the credential: {refused}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn gzip_is_what_others_read() {
    let (folder, api) = started("echo-gzip").await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    stream.write_all(get("/v1/misbehave/reflect-gzip").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let file = folder.join("body.gz");
    std::fs::write(&file, &answer[start..]).unwrap();
    let output = tokio::process::Command::new("gzip").arg("-dc").arg(&file).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{{\"reflected\":\"{TOKEN}\"}}"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_control_port_plans_misbehaviour_and_shows_requests() {
    let (folder, api) = started("echo-control").await;
    let control = |request: String| async move {
        let mut stream = TcpStream::connect(api_control(&request)).await.unwrap();
        stream.write_all(request.split_once('|').unwrap().1.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    fn api_control(request: &str) -> String {
        request.split_once('|').unwrap().0.to_owned()
    }
    let send = |method: &str, path: &str, body: &str| {
        control(format!(
            "{}|{method} {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            api.control,
            body.len()
        ))
    };
    let plan = r#"{"kind":"status","status":503,"times":2,"pathPrefix":"/v1/notes"}"#;
    assert!(send("POST", "/control/misbehave", plan).await.starts_with("HTTP/1.1 200"));
    for (target, status) in
        [("/v1/echo", 200), ("/v1/notes/1", 503), ("/v1/notes/1", 503), ("/v1/notes/1", 200)]
    {
        let answer = exchange(&api, &get(target)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
    }
    assert!(send("POST", "/control/misbehave", "{}").await.contains("missing field `kind`"));
    assert!(send("POST", "/control/notes", r#"{"id":"1","text":"planted"}"#).await.contains("planted"));
    assert!(exchange(&api, &get("/v1/notes/1")).await.contains("planted"));
    assert!(send("GET", "/control/requests", "").await.contains(&format!("Bearer {TOKEN}")));
    assert!(send("DELETE", "/control/requests", "").await.starts_with("HTTP/1.1 200"));
    assert!(send("GET", "/control/requests", "").await.contains("\"requests\":[]"));
    assert!(send("GET", "/nothing", "").await.starts_with("HTTP/1.1 404"));
    // The API's own port has no control.
    assert!(exchange(&api, &get("/control/requests")).await.starts_with("HTTP/1.1 404"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn tls_needs_the_right_name() {
    let folder = folder("echo-tls");
    let file = folder.join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let ca = Ca::new("test").unwrap();
    let tls = ca.server(&["echo.test"]).unwrap().acceptor(&["http/1.1"]).unwrap();
    let credential = Credential { known: Known::File(file), header: "x-api-key".to_owned() };
    let api = start_echo_api(credential, Some(tls)).await.unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = async |name: &'static str| {
        let stream = TcpStream::connect(api.address).await.unwrap();
        connector.connect(ServerName::try_from(name).unwrap(), stream).await
    };
    assert!(connect("other.test").await.is_err());
    let mut stream = connect("echo.test").await.unwrap();
    let request = format!("GET /v1/notes/1 HTTP/1.1\r\nX-Api-Key: {TOKEN}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    std::fs::remove_dir_all(folder).unwrap();
}
