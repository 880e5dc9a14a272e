//! Where credentials go, and where they do not.

use crate::support::{KEY_SECRET, SECRET, Setup, World};

#[tokio::test]
async fn the_bound_request_carries_the_credential() {
    let world = World::new().await;
    assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    assert_eq!(world.get("https://keyed.test/in/x").await.status, 200);
    let seen = world.api.seen();
    assert_eq!(seen[0].header("authorization"), Some(&*format!("Bearer {SECRET}")));
    assert_eq!(seen[1].header("x-service-key"), Some(&*format!("Key {KEY_SECRET}")));
    assert_eq!(seen[1].header("authorization"), None);
    let lease = world.audit.record(|it| it["event"] == "lease" && it["host"] == "api.test").await;
    assert_eq!(lease["binding"], "echo");
    let request = world.audit.record(|it| it["event"] == "request" && it["host"] == "api.test").await;
    assert_eq!((&request["binding"], &request["address"]), (&"echo".into(), &"10.0.0.1".into()));
    assert!(!world.audit.text().contains(SECRET));
}

#[tokio::test]
async fn other_requests_do_not() {
    let world = World::with(Setup {
        policy: Box::new(|policy| {
            // Allowed, and on the bound host in the clear and on another port.
            for (scheme, port) in [("http", 80), ("https", 8443)] {
                let mut rule = policy["rules"][0].clone();
                rule["scope"]["scheme"] = scheme.into();
                rule["scope"]["port"] = port.into();
                policy["rules"].as_array_mut().unwrap().push(rule);
            }
        }),
        ..Setup::default()
    })
    .await;
    {
        let mut ports = world.names.ports.lock().unwrap();
        let address = world.names.addresses.lock().unwrap()["api.test"][0];
        ports.insert((address, 8443), world.api.address);
        ports.insert((address, 80), world.plain.address);
    }
    for url in
        ["https://keyed.test/out", "https://free.test/", "https://api.test:8443/v1/x", "http://api.test/v1/x"]
    {
        assert_eq!(world.get(url).await.status, 200, "{url}");
    }
    for seen in [world.api.seen(), world.free.seen(), world.plain.seen()].concat() {
        assert!(!seen.head.contains(SECRET) && !seen.head.contains(KEY_SECRET), "{seen:?}");
        assert_eq!(seen.header("authorization"), None);
    }
    // Denied on a bound host: nothing is leased.
    let before = world.audit.text().matches("\"lease\"").count();
    assert_eq!(world.refusal("GET", "https://api.test/admin", "", "").await.0, 403);
    assert_eq!(world.audit.text().matches("\"lease\"").count(), before);
}

#[tokio::test]
async fn the_agents_own_credentials_are_refused_on_bound_hosts_only() {
    let world = World::new().await;
    for header in [
        "Authorization: Bearer mine",
        "authorization: Basic eDp5",
        "X-Api-Key: mine",
        "X-Goog-Api-Key: mine",
        "Api-Key: mine",
        "Cookie: session=mine",
        "X-Auth-Token: mine",
        "Proxy-Authorization: Basic eDp5",
        // Servers behind CGI and WSGI read an underscore as a hyphen.
        "X_Api_Key: mine",
        "X-Auth_Token: mine",
    ] {
        let header = format!("{header}\r\n");
        let bound = world.refusal("GET", "https://api.test/v1/x", &header, "").await;
        assert_eq!(bound, (403, "CredentialHeader".to_owned()), "{header}");
        assert_eq!(world.refusal("GET", "https://free.test/", &header, "").await.0, 200, "{header}");
    }
    let slot = "X-Service-Key: mine\r\n";
    assert_eq!(
        world.refusal("GET", "https://keyed.test/out", slot, "").await,
        (403, "CredentialHeader".to_owned())
    );
    assert_eq!(world.refusal("GET", "https://api.test/v1/x", slot, "").await.0, 200);
    let alias = "X_Service_Key: mine\r\n";
    assert_eq!(
        world.refusal("GET", "https://keyed.test/out", alias, "").await,
        (403, "CredentialHeader".to_owned())
    );
    assert_eq!(world.refusal("GET", "https://keyed.test/out", "X_Request_Id: 1\r\n", "").await.0, 200);
    for parameter in ["api_key", "access_token", "key", "API_KEY", "access%5ftoken"] {
        let url = |host: &str| format!("https://{host}/v1/x?a=b&{parameter}=mine");
        assert_eq!(
            world.refusal("GET", &url("api.test"), "", "").await,
            (403, "CredentialParameter".to_owned()),
            "{parameter}"
        );
        assert_eq!(world.refusal("GET", &url("free.test"), "", "").await.0, 200, "{parameter}");
    }
    assert_eq!(
        world.refusal("GET", "https://api.test/v1/x?keyword=1", "Idempotency-Key: 1\r\n", "").await.0,
        200
    );
    let object =
        &world.request("GET", "https://api.test/v1/x", "Cookie: a=b\r\n", "").await.json()["error"]["object"];
    assert_eq!(object, "SecretBinding/echo");
}

#[tokio::test]
async fn a_credential_in_a_request_is_refused_and_not_recorded() {
    let world = World::new().await;
    let refused = (403, "CredentialInRequest".to_owned());
    let encoded = SECRET.replace('-', "%2D");
    for (url, header, body) in [
        (format!("https://free.test/{SECRET}"), String::new(), String::new()),
        (format!("https://free.test/{encoded}"), String::new(), String::new()),
        (format!("https://free.test/a?b={SECRET}"), String::new(), String::new()),
        (format!("https://{SECRET}.free.test/a"), String::new(), String::new()),
        ("https://free.test/a".to_owned(), format!("X-Note: a{KEY_SECRET}b\r\n"), String::new()),
        ("https://free.test/a".to_owned(), format!("User-Agent: {SECRET}\r\n"), String::new()),
        ("https://free.test/a".to_owned(), String::new(), format!("some text {SECRET} and more")),
        ("https://api.test/v1/a".to_owned(), String::new(), SECRET.to_owned()),
    ] {
        let answer = world.request("POST", &url, &header, &body).await;
        assert_eq!(answer.refusal(), refused, "{url} {header} {body}");
        assert!(!answer.text().contains(SECRET));
    }
    let near = SECRET.replace('9', "8");
    assert_eq!(world.request("POST", &format!("https://free.test/{near}"), "", &near).await.status, 200);
    for seen in [world.api.seen(), world.free.seen()].concat() {
        let text = format!("{}{}", seen.head, String::from_utf8_lossy(&seen.body));
        assert!(!text.contains(&SECRET[..8]) || text.contains(&near), "{text}");
    }
    world.audit.record(|it| it["reason"] == "CredentialInRequest").await;
    let log = world.audit.text();
    assert!(!log.contains(SECRET) && !log.contains(KEY_SECRET) && !log.contains(&encoded));
    assert!(!world.names.asked.lock().unwrap().iter().any(|name| name.contains(&SECRET.to_lowercase())));
}

#[tokio::test]
async fn a_credential_in_a_body_is_found_at_every_border_of_chunks() {
    let world = World::new().await;
    for at in 1..SECRET.len() {
        let (one, two) = SECRET.split_at(at);
        let body =
            format!("{:x}\r\nnote {one}\r\n{:x}\r\n{two} end\r\n0\r\n\r\n", one.len() + 5, two.len() + 4);
        let head = "POST https://free.test/ HTTP/1.1\r\nHost: free.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let answer = world.send(&format!("{head}{body}")).await;
        assert_eq!(answer.refusal(), (403, "CredentialInRequest".to_owned()), "split at {at}");
    }
    for seen in world.free.seen() {
        assert!(!seen.whole && !String::from_utf8_lossy(&seen.body).contains(&SECRET[..2]), "{seen:?}");
    }
}

#[tokio::test]
async fn a_large_body_goes_through_byte_by_byte_the_same() {
    let world = World::new().await;
    let body = "0123456789abcdef".repeat(64 * 1024);
    assert_eq!(world.request("POST", "https://api.test/v1/x", "", &body).await.status, 200);
    let seen = world.api.seen();
    assert!(seen[0].body == body.as_bytes());
    assert_eq!(seen[0].header("content-length"), Some(&*body.len().to_string()));
}

#[tokio::test]
async fn a_binding_that_the_policy_adds_is_not_used_before_it_was_read() {
    let world = World::new().await;
    world.mount(200, |policy| policy["bindings"][0]["path"] = "absent".into());
    world.audit.record(|it| it["event"] == "policy" && it["epoch"] == 200).await;
    let before = world.api.seen().len();
    let (status, _) = world.refusal("GET", "https://api.test/v1/x", "", "").await;
    assert_eq!((status, world.api.seen().len()), (503, before));
    // The value that was read before is still looked for.
    assert_eq!(
        world.refusal("GET", &format!("https://free.test/{SECRET}"), "", "").await.1,
        "CredentialInRequest"
    );
    world.vault_values.lock().unwrap().insert("absent".to_owned(), "a-new-Value-9876543210".to_owned());
    world.mount(201, |policy| policy["bindings"][0]["path"] = "absent".into());
    for _ in 0..200 {
        if world.get("https://api.test/v1/x").await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let seen = world.api.seen();
    assert_eq!(seen.last().unwrap().header("authorization"), Some("Bearer a-new-Value-9876543210"));
    assert_eq!(
        world.refusal("GET", &format!("https://free.test/{SECRET}"), "", "").await.1,
        "CredentialInRequest"
    );
}

#[tokio::test]
async fn a_credential_in_a_connect_is_refused_and_not_recorded() {
    let world = World::new().await;
    for (authority, header) in [
        (format!("{SECRET}.test:443"), String::new()),
        ("free.test:443".to_owned(), format!("X-Note: {SECRET}\r\n")),
    ] {
        let answer =
            world.send(&format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{header}\r\n")).await;
        assert_eq!(answer.refusal(), (403, "CredentialInRequest".to_owned()), "{authority} {header}");
    }
    world.audit.record(|it| it["event"] == "connect" && it["reason"] == "CredentialInRequest").await;
    assert!(!world.audit.text().to_lowercase().contains(&SECRET.to_lowercase()));
}
