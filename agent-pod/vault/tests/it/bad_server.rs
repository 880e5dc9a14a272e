//! A server that is not Vault, or has gone mad.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redoubt_crds::condition::Reason;
use redoubt_policy::wire;
use redoubt_vault::{CredentialStore, Resolver, Settings};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::process::Folder;
use crate::vault::{binding, settings};

/// Answers every request over TLS with these bytes, and then keeps the connection open.
struct Server {
    address: SocketAddr,
    ca: String,
    requests: Arc<AtomicUsize>,
}

async fn server(answer: Vec<u8>) -> Server {
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let ca = key.cert.pem();
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer, count) = (acceptor.clone(), answer.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = vec![0; 64 * 1024];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let _sent = stream.write_all(&answer).await;
                tokio::time::sleep(Duration::from_secs(30)).await;
            });
        }
    });
    Server { address, ca, requests }
}

/// The detail of the trouble with this server.
async fn trouble(server: &Server) -> String {
    let folder = Folder::new("tokens");
    std::fs::create_dir_all(folder.0.join("main")).unwrap();
    std::fs::write(folder.0.join("main/token"), "a.pods.token").unwrap();
    let connection = wire::Vault {
        name: "main".to_owned(),
        address: format!("https://{}", server.address),
        ca_bundle: Some(server.ca.clone()),
        auth_mount: "kubernetes".to_owned(),
        role: "agents".to_owned(),
    };
    let settings = Settings { request: Duration::from_secs(1), ..settings() };
    let resolver = Arc::new(Resolver::from_system().unwrap());
    let bindings = [binding("b", "agents/first", "key")];
    let error =
        CredentialStore::start(&[connection], &bindings, &folder.0, resolver, settings).await.err().unwrap();
    assert_eq!(error.reason(), Reason::VaultUnavailable, "{error}");
    assert!(!error.to_string().contains("a.pods.token"));
    error.to_string()
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = server(Vec::new()).await;
    let location = format!("https://{}/v1/auth/kubernetes/login", elsewhere.address);
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let redirecting = server(answer.into_bytes()).await;
    assert!(trouble(&redirecting).await.contains("redirects"));
    assert_eq!(redirecting.requests.load(Ordering::SeqCst), 1);
    assert_eq!(elsewhere.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn answers_are_bounded() {
    let size = 1024 * 1024 + 1;
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + size, b' ');
    assert!(trouble(&server(answer).await).await.contains("larger than 1048576 bytes"));
}

#[tokio::test]
async fn silence_is_bounded() {
    assert!(trouble(&server(Vec::new()).await).await.contains("no answer within 1 s"));
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"auth\":".to_vec();
    assert!(trouble(&server(half).await).await.contains("no answer within 1 s"));
}

#[tokio::test]
async fn answers_that_are_not_vaults() {
    let answer =
        |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"auth":null}"#,
        r#"{"auth":{"client_token":7,"lease_duration":1,"renewable":true}}"#,
    ] {
        assert!(trouble(&server(answer(body)).await).await.contains("gave no token"), "{body}");
    }
    let teapot = b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n".to_vec();
    assert!(trouble(&server(teapot).await).await.contains("418"));
    assert!(trouble(&server(b"220 smtp.example.com ready\r\n".to_vec()).await).await.contains("no answer"));
}
