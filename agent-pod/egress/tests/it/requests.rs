//! Which requests go out, and what those are told that do not.

use crate::support::{As, Setup, TestCa, World, ip};

async fn check(world: &World, method: &str, url: &str, headers: &str, expected: (u16, &str)) {
    let (status, reason) = world.refusal(method, url, headers, "").await;
    assert_eq!((status, reason.as_str()), expected, "{method} {url} {headers:?}");
}

#[tokio::test]
async fn what_the_policy_allows_goes_out_and_nothing_else() {
    let world = World::new().await;
    for url in [
        "https://free.test/",
        "https://FREE.test./x?y=z",
        "https://a.wild.test/",
        "http://plain.test/a",
        "https://10.0.0.2/",
    ] {
        check(&world, "GET", url, "", (200, "-")).await;
    }
    let allowed = (world.free.seen().len(), world.plain.seen().len());
    for (method, url, expected) in [
        ("GET", "https://other.test/", (403, "NotDeclared")),
        ("GET", "https://wild.test/", (403, "NotDeclared")),
        ("GET", "https://a.b.wild.test/", (403, "NotDeclared")),
        ("GET", "https://evilwild.test/", (403, "NotDeclared")),
        ("GET", "https://free.test.evil.test/", (403, "NotDeclared")),
        ("GET", "https://tools-only.test/", (403, "NotDeclared")),
        ("GET", "https://free.test:8443/", (403, "PortNotAllowed")),
        ("GET", "http://free.test:443/", (403, "SchemeNotAllowed")),
        ("DELETE", "https://free.test/", (403, "MethodNotAllowed")),
        ("GET", "https://api.test/v2", (403, "PathNotAllowed")),
        ("GET", "https://api.test/v1-evil/x", (403, "PathNotAllowed")),
        ("GET", "https://api.test/V1/x", (403, "PathNotAllowed")),
        ("GET", "https://api.test/v1/../admin", (400, "PathMalformed")),
        ("GET", "https://api.test/v1/%2e%2e/admin", (400, "PathMalformed")),
        ("GET", "https://api.test/v1/..%2fadmin", (400, "PathMalformed")),
        ("GET", "https://api.test//v1/x", (400, "PathMalformed")),
        ("GET", "https://api.test/v1/..;/admin", (400, "PathMalformed")),
        ("TRACE", "https://free.test/", (400, "MethodUnknown")),
        ("get", "https://free.test/", (400, "MethodUnknown")),
        ("GET", "https://free.test@evil.test/", (400, "HostMalformed")),
        ("GET", "https://free.test:0/", (400, "HostMalformed")),
        ("GET", "https://2852039166/", (400, "HostMalformed")),
        ("GET", "https://0xA9FEA9FE/", (400, "HostMalformed")),
    ] {
        check(&world, method, url, "", expected).await;
    }
    assert_eq!((world.free.seen().len(), world.plain.seen().len()), allowed);
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn a_refusal_names_object_field_and_way_out_and_is_recorded() {
    let world = World::new().await;
    let error = &world.request("DELETE", "https://free.test/x?q=1", "", "").await.json()["error"];
    assert!(error["object"].as_str().unwrap().starts_with("Tool/"), "{error}");
    assert!(error["field"].as_str().unwrap().starts_with("spec."), "{error}");
    assert!(!error["help"].as_str().unwrap().is_empty());
    let record = world.audit.record(|it| it["event"] == "request" && it["method"] == "DELETE").await;
    for (field, expected) in [
        ("decision", "refuse"),
        ("reason", "MethodNotAllowed"),
        ("host", "free.test"),
        ("path", "/x"),
        ("source", "Agent"),
        ("scheme", "https"),
    ] {
        assert_eq!(record[field], expected, "{record}");
    }
    assert_eq!(
        (record["port"].as_u64(), record["status"].as_u64(), record["epoch"].as_u64()),
        (Some(443), Some(403), Some(100))
    );
    assert_eq!(world.audit.text().matches("DELETE").count(), 1);
}

#[tokio::test]
async fn hosts_must_agree() {
    let world = World::new().await;
    let ask = |first: &str, host: &str| format!("GET {first} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    for (first, host, expected) in [
        ("https://free.test/", "Host: free.test\r\n", (200, "-")),
        ("https://free.test/", "Host: free.test:443\r\n", (200, "-")),
        ("https://free.test/", "Host: evil.test\r\n", (400, "HostMismatch")),
        ("https://free.test/", "Host: free.test, evil.test\r\n", (400, "HostMismatch")),
        ("https://free.test/", "Host: free.test\r\nHost: evil.test\r\n", (400, "RequestMalformed")),
        ("https://free.test/", "", (400, "RequestMalformed")),
        ("https://free.test\\@evil.test/", "Host: free.test\r\n", (400, "RequestMalformed")),
    ] {
        let (status, reason) = world.send(&ask(first, host)).await.refusal();
        assert_eq!((status, reason.as_str()), expected, "{first} {host:?}");
    }
    assert_eq!(world.free.seen().len(), 2);
}

#[tokio::test]
async fn addresses_are_judged_and_pinned() {
    let world = World::new().await;
    let refused = |address: &'static str| {
        world.names.addresses.lock().unwrap().insert("free.test".to_owned(), vec![ip(address)]);
        let world = &world;
        async move { world.refusal("GET", "https://free.test/", "", "").await }
    };
    for (address, expected) in [
        ("127.0.0.1", "AddressForbidden"),
        ("169.254.169.254", "AddressForbidden"),
        ("169.254.170.2", "AddressForbidden"),
        ("168.63.129.16", "AddressForbidden"),
        ("100.100.100.200", "AddressForbidden"),
        ("0.0.0.0", "AddressForbidden"),
        ("224.0.0.1", "AddressForbidden"),
        ("255.255.255.255", "AddressForbidden"),
        ("::1", "AddressForbidden"),
        ("::", "AddressForbidden"),
        ("fe80::1", "AddressForbidden"),
        ("fd00:ec2::254", "AddressForbidden"),
        ("::ffff:127.0.0.1", "AddressForbidden"),
        ("::ffff:169.254.169.254", "AddressForbidden"),
        ("192.168.0.1", "PrivateAddressNotGranted"),
        ("100.64.0.1", "PrivateAddressNotGranted"),
        ("fd12::1", "PrivateAddressNotGranted"),
    ] {
        assert_eq!(refused(address).await, (403, expected.to_owned()), "{address}");
    }
    assert!(world.names.dialled.lock().unwrap().is_empty());
    // One bad address among good ones spoils them all.
    world
        .names
        .addresses
        .lock()
        .unwrap()
        .insert("free.test".to_owned(), vec![ip("10.0.0.2"), ip("127.0.0.1")]);
    assert_eq!(
        world.refusal("GET", "https://free.test/", "", "").await,
        (403, "AddressForbidden".to_owned())
    );
    world.names.addresses.lock().unwrap().insert("free.test".to_owned(), vec![ip("10.0.0.2")]);
    assert_eq!(world.get("https://free.test/").await.status, 200);
    // A name that goes elsewhere in the meantime is judged again, and the kept connection is not used for it.
    world.names.addresses.lock().unwrap().insert("free.test".to_owned(), vec![ip("127.0.0.1")]);
    assert_eq!(
        world.refusal("GET", "https://free.test/", "", "").await,
        (403, "AddressForbidden".to_owned())
    );
    assert_eq!(*world.names.dialled.lock().unwrap(), [(ip("10.0.0.2"), 443)]);
    for literal in ["169.254.169.254", "127.0.0.1", "[::1]"] {
        assert_eq!(world.refusal("GET", &format!("https://{literal}/"), "", "").await.0, 403, "{literal}");
    }
}

#[tokio::test]
async fn the_control_plane_is_nobodys_to_reach() {
    // The operator has the address of free.test and the API server that of plain.test; both are granted, with their range.
    let key = crate::support::new_key();
    let world = World::with(Setup {
        operator: Some(("10.0.0.2:8444".to_owned(), TestCa::new().der)),
        api_server: Some(ip("10.0.0.3")),
        key: Some(key),
        ..Setup::default()
    })
    .await;
    let refused = (403, "ControlPlaneNotReachable".to_owned());
    for _ in 0..1000 {
        // The sidecar has to look the operator up first.
        if world.refusal("GET", "https://10.0.0.2/", "", "").await == refused
            && world.get("https://free.test/").await.status == 403
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let seen = (world.free.seen().len(), world.plain.seen().len());
    for url in ["https://free.test/", "https://10.0.0.2/", "http://plain.test/"] {
        assert_eq!(world.refusal("GET", url, "", "").await, refused, "{url}");
    }
    for address in ["::ffff:10.0.0.2", "64:ff9b::a00:2", "10.0.0.3"] {
        world
            .names
            .addresses
            .lock()
            .unwrap()
            .insert("free.test".to_owned(), vec![ip("10.0.0.1"), ip(address)]);
        assert_eq!(world.refusal("GET", "https://free.test/", "", "").await, refused, "{address}");
    }
    assert_eq!((world.free.seen().len(), world.plain.seen().len()), seen);
    // The benign twins: another address of the range, and of that name.
    assert_eq!(world.get("https://api.test/v1/x").await.status, 200);
    world.names.addresses.lock().unwrap().insert("free.test".to_owned(), vec![ip("10.0.0.5")]);
    world.names.ports.lock().unwrap().insert((ip("10.0.0.5"), 443), world.free.address);
    assert_eq!(world.get("https://free.test/").await.status, 200);
}

#[tokio::test]
async fn vault_is_the_sidecars_alone() {
    let world = World::with(Setup {
        policy: Box::new(|policy| {
            let mut vault = policy["vaults"][0].clone();
            vault["name"] = "second".into();
            vault["address"] = "https://vault.test:8200".into();
            policy["vaults"].as_array_mut().unwrap().push(vault);
            // The same address under a name that was granted.
            let mut rule = policy["rules"][2].clone();
            rule["scope"]["host"] = "alias.test".into();
            rule["scope"]["port"] = 8200.into();
            policy["rules"].as_array_mut().unwrap().push(rule);
        }),
        ..Setup::default()
    })
    .await;
    world.names.addresses.lock().unwrap().insert("alias.test".to_owned(), vec![ip("10.0.0.4")]);
    let before = world.vault.seen().len();
    for url in ["https://vault.test:8200/v1/sys/health", "https://alias.test:8200/"] {
        assert_eq!(world.refusal("GET", url, "", "").await, (403, "VaultNotReachable".to_owned()), "{url}");
    }
    // Other forms of that address, and the same address when Vault's own name is not resolved for the moment.
    let alias = |address: &str| {
        world.names.addresses.lock().unwrap().insert("alias.test".to_owned(), vec![ip(address)]);
    };
    let refused = (403, "VaultNotReachable".to_owned());
    for address in ["::ffff:10.0.0.4", "64:ff9b::a00:4", "2002:a00:4::1"] {
        alias(address);
        assert_eq!(world.refusal("GET", "https://alias.test:8200/", "", "").await, refused, "{address}");
    }
    let own = world.names.addresses.lock().unwrap().remove("vault.test").unwrap();
    alias("10.0.0.4");
    assert_eq!(world.refusal("GET", "https://alias.test:8200/", "", "").await, refused);
    world.names.addresses.lock().unwrap().insert("vault.test".to_owned(), own);
    assert_eq!(world.vault.seen().len(), before);
    // Another server at that port.
    alias("10.0.0.2");
    world.names.ports.lock().unwrap().insert((ip("10.0.0.2"), 8200), world.free.address);
    assert_eq!(world.refusal("GET", "https://alias.test:8200/", "", "").await.1, "UpstreamTLS");
    assert_eq!(world.get("https://free.test/").await.status, 200);
}

#[tokio::test]
async fn a_vault_whose_address_was_never_known_is_not_reached_by_another_name() {
    let world = World::with(Setup {
        policy: Box::new(|policy| {
            let mut vault = policy["vaults"][0].clone();
            vault["name"] = "second".into();
            vault["address"] = "https://unknown.test:443".into();
            policy["vaults"].as_array_mut().unwrap().push(vault);
        }),
        ..Setup::default()
    })
    .await;
    assert_eq!(world.refusal("GET", "https://free.test/", "", "").await, (502, "NameNotResolved".to_owned()));
    assert!(world.free.seen().is_empty());
    assert_eq!(world.get("http://plain.test/").await.status, 200);
    world.names.addresses.lock().unwrap().insert("unknown.test".to_owned(), vec![ip("10.0.0.9")]);
    assert_eq!(world.get("https://free.test/").await.status, 200);
}

#[tokio::test]
async fn odd_requests_are_refused() {
    let world = World::new().await;
    for (method, headers, body, expected) in [
        ("GET", "Upgrade: websocket\r\nConnection: upgrade\r\n", "", (403, "UpgradeNotAllowed")),
        ("GET", "Upgrade: h2c\r\nHTTP2-Settings: x\r\n", "", (403, "UpgradeNotAllowed")),
        ("POST", "X-HTTP-Method-Override: DELETE\r\n", "x", (400, "MethodOverride")),
        ("POST", "X_HTTP_Method-Override: DELETE\r\n", "x", (400, "MethodOverride")),
        ("GET", "X-Original-URL: /admin\r\n", "", (400, "TargetOverride")),
        ("GET", "X_Rewrite_URL: /admin\r\n", "", (400, "TargetOverride")),
        ("GET", "X-Forwarded-Host: other.test\r\n", "", (400, "TargetOverride")),
        ("POST", "Expect: something\r\n", "x", (417, "ExpectationUnknown")),
        ("GET", "", "body", (400, "BodyNotAllowed")),
        ("GET", "Redoubt-Tool: weather\r\n", "", (403, "ToolNotAccepted")),
        ("POST", "Expect: 100-continue\r\n", "x", (200, "-")),
        ("GET", "X-Original-Request: 1\r\nX_Forwarded_For: 192.0.2.1\r\n", "", (200, "-")),
    ] {
        let (status, reason) = world.refusal(method, "https://free.test/", headers, body).await;
        assert_eq!((status, reason.as_str()), expected, "{method} {headers:?}");
    }
    assert_eq!(world.free.seen().len(), 2);
}

#[tokio::test]
async fn headers_of_the_connection_and_our_own_stay_here() {
    let world = World::new().await;
    world.free.answer(|_| {
        crate::support::ok("x").into_iter().map(|step| match step {
            crate::support::Step::Write(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                crate::support::Step::Write(
                    text.replace("\r\n\r\n", "\r\nRedoubt-Refused: Fake\r\nKeep-Alive: 5\r\nAlt-Svc: h3=\":443\"\r\nX-Kept: 1\r\n\r\n").into_bytes(),
                )
            }
            other => other,
        }).collect()
    });
    let headers = "X-Gone: 1\r\nX-Kept: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers\r\nProxy-Authorization: Basic eDp5\r\nRedoubt-Caller: me\r\nConnection: X-Gone\r\n";
    let answer = world.request("GET", "https://free.test/", headers, "").await;
    let seen = &world.free.seen()[0];
    for name in [
        "x-gone",
        "keep-alive",
        "proxy-connection",
        "te",
        "proxy-authorization",
        "redoubt-caller",
        "connection",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!((seen.header("x-kept"), seen.header("host")), (Some("1"), Some("free.test")));
    assert_eq!(
        (answer.header("redoubt-refused"), answer.header("alt-svc"), answer.header("keep-alive")),
        (None, None, None)
    );
    assert_eq!(answer.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn tools_act_for_the_tool_that_they_name() {
    let world = World::with(Setup { me: As::Tools, ..Setup::default() }).await;
    check(&world, "GET", "https://tools-only.test/", "Redoubt-Tool: weather\r\n", (200, "-")).await;
    check(&world, "GET", "https://tools-only.test/", "", (403, "ToolMissing")).await;
    check(&world, "GET", "https://tools-only.test/", "Redoubt-Tool: other\r\n", (403, "ToolUnknown")).await;
    check(
        &world,
        "GET",
        "https://tools-only.test/",
        "Redoubt-Tool: weather\r\nRedoubt-Tool: other\r\n",
        (400, "ToolMalformed"),
    )
    .await;
    check(&world, "GET", "https://free.test/", "Redoubt-Tool: weather\r\n", (403, "NotDeclared")).await;
    assert_eq!(world.api.seen().len(), 1);
    assert_eq!(world.api.seen()[0].header("redoubt-tool"), None);
    // A host with a binding that is not for this tool: no credential.
    check(&world, "GET", "https://api.test/v1/x", "Redoubt-Tool: weather\r\n", (200, "-")).await;
    assert_eq!(world.api.seen()[1].header("authorization"), None);
    let call =
        serde_json::json!({"tool": "weather", "function": "now", "callId": "1", "outcome": "ok\r\nfake"});
    assert_eq!(world.post_local("/v1/audit/tool-call", &call).await.status, 200);
    world.audit.record(|it| it["event"] == "tool-call" && it["tool"] == "weather").await;
    // What the brain calls a function cannot stand for the outcome of another call.
    let call = serde_json::json!({
        "tool": "weather", "function": "now 7 Executed", "callId": "8", "outcome": "UnknownFunction",
    });
    assert_eq!(world.post_local("/v1/audit/tool-call", &call).await.status, 200);
    let told = |it: &serde_json::Value| it["event"] == "tool-call" && it["callId"] == "8";
    let record = world.audit.record(told).await;
    assert_eq!(
        (&record["function"], &record["decision"], &record["reason"]),
        (&"now 7 Executed".into(), &"refuse".into(), &"UnknownFunction".into())
    );
    let call =
        serde_json::json!({"tool": "weather", "function": "now", "callId": "9", "outcome": "Executed"});
    assert_eq!(world.post_local("/v1/audit/tool-call", &call).await.status, 200);
    let record = world.audit.record(|it| it["event"] == "tool-call" && it["callId"] == "9").await;
    assert_eq!((&record["function"], &record["decision"]), (&"now".into(), &"allow".into()));
}

#[tokio::test]
async fn nothing_goes_out_before_the_jail_has_proven_itself() {
    let world = World::with(Setup { verified: false, ..Setup::default() }).await;
    check(&world, "GET", "https://free.test/", "", (403, "NotVerified")).await;
    let call = serde_json::json!({"tool": "weather", "function": "now", "callId": "1", "outcome": "ok"});
    assert_eq!(world.post_local("/v1/audit/tool-call", &call).await.refusal(), (403, "NotTools".to_owned()));
    let forged = serde_json::json!({"nonce": "guess", "passed": true, "checks": [{"name": "x", "passed": true, "detail": ""}]});
    assert_eq!(
        world.post_local("/v1/jail/verdict", &forged).await.refusal(),
        (403, "NonceUnknown".to_owned())
    );
    check(&world, "GET", "https://free.test/", "", (403, "NotVerified")).await;
    assert!(world.free.seen().is_empty());
    world.verify().await;
    check(&world, "GET", "https://free.test/", "", (200, "-")).await;
    world.audit.record(|it| it["event"] == "verdict" && it["decision"] == "allow").await;
}

#[tokio::test]
async fn processes_of_other_users_are_not_answered() {
    let world = World::with(Setup { me: As::Nobody, verified: false, ..Setup::default() }).await;
    assert!(world.raw(b"GET /v1/ca.pem HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").await.is_empty());
}
