use serde_json::json;

use super::*;

fn function(method: &str, path: &str, query: &[&str], properties: Value) -> HttpFunction {
    serde_json::from_value(json!({
        "name": "f", "description": "d", "effect": "Read", "method": method, "path": path, "query": query,
        "parameters": { "type": "object", "properties": properties },
    }))
    .unwrap()
}

fn issues(method: &str) -> Template {
    let properties = json!({ "repo": {}, "n": {}, "q": {}, "page": {} });
    let mut function = function(method, "/repos/{repo}/issues/{n}", &["q", "page"], properties);
    if method == "POST" {
        function.parameters["properties"]["title"] = json!({});
    }
    Template::new("https://api.example.com/v1", &function).unwrap()
}

fn check(method: &str, arguments: Value, url: &str, body: Option<Value>) {
    let template = issues(method);
    let request = template.request(arguments.as_object().unwrap()).unwrap();
    assert_eq!(request.url(), url);
    assert_eq!(request.body.clone().map(Value::Object), body);
    let scope = template.scope(Source::Tool("t".to_owned())).unwrap();
    assert!(scope.path.matches(&request.path) && scope.host.matches(&request.target.host), "{url}");
}

#[test]
fn arguments_fill_their_places() {
    const BASE: &str = "https://api.example.com:443/v1/repos";
    check("GET", json!({ "repo": "a", "n": 7 }), &format!("{BASE}/a/issues/7"), None);
    check("GET", json!({ "repo": "ü b+c", "n": true }), &format!("{BASE}/%C3%BC%20b%2Bc/issues/true"), None);
    check("GET", json!({ "repo": "*", "n": "?x#y" }), &format!("{BASE}/%2A/issues/%3Fx%23y"), None);
    check("GET", json!({ "repo": "...", "n": -1.5 }), &format!("{BASE}/.../issues/-1.5"), None);
    check("GET", json!({ "repo": "{n}", "n": "{repo}" }), &format!("{BASE}/%7Bn%7D/issues/%7Brepo%7D"), None);
    check(
        "GET",
        json!({ "page": 2, "q": "a=b&c d/../e#f%2f", "repo": "a", "n": 1 }),
        &format!("{BASE}/a/issues/1?q=a%3Db%26c%20d%2F..%2Fe%23f%252f&page=2"),
        None,
    );
    check("GET", json!({ "page": "", "repo": "a", "n": 1 }), &format!("{BASE}/a/issues/1?page="), None);
    check(
        "POST",
        json!({ "repo": "a", "n": 1, "q": "x", "title": { "deep": [1] } }),
        &format!("{BASE}/a/issues/1?q=x"),
        Some(json!({ "title": { "deep": [1] } })),
    );
    check("POST", json!({ "repo": "a", "n": 1 }), &format!("{BASE}/a/issues/1"), Some(json!({})));
}

#[test]
fn arguments_cannot_change_the_structure() {
    for text in [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../admin",
        "..\\admin",
        "a\\b",
        "%2f",
        "%2e%2e",
        "a%",
        "..;",
        "a;b",
        "a\0",
        "a\r\nb",
        "\u{7f}",
        "\u{85}",
    ] {
        for (repo, n, at) in [(json!(text), json!(1), "repo"), (json!("a"), json!(text), "n")] {
            let arguments = json!({ "repo": repo, "n": n });
            let error = issues("GET").request(arguments.as_object().unwrap()).unwrap_err();
            assert_eq!(error, ArgumentError::Segment(at.to_owned()), "{text:?}");
        }
    }
}

#[test]
fn arguments_of_the_wrong_kind_are_refused() {
    let refused =
        |method: &str, arguments: Value| issues(method).request(arguments.as_object().unwrap()).unwrap_err();
    let name = |name: &str| name.to_owned();
    assert_eq!(refused("GET", json!({ "n": 1 })), ArgumentError::Missing(name("repo")));
    assert_eq!(refused("GET", json!({ "repo": "a", "n": 1, "x": 1 })), ArgumentError::Unknown(name("x")));
    assert_eq!(refused("POST", json!({ "repo": "a", "n": 1, "x": 1 })), ArgumentError::Unknown(name("x")));
    for value in [json!(null), json!([]), json!({})] {
        assert_eq!(refused("GET", json!({ "repo": value, "n": 1 })), ArgumentError::NotScalar(name("repo")));
        assert_eq!(
            refused("GET", json!({ "repo": "a", "n": 1, "q": value })),
            ArgumentError::NotScalar(name("q"))
        );
    }
    let long = json!({ "repo": "a".repeat(9000), "n": 1 });
    assert_eq!(refused("GET", long), ArgumentError::Length);
}

#[test]
fn a_base_url_may_have_no_path() {
    for (base, path, url, pattern) in [
        ("https://a", "/", "https://a:443/", "/"),
        ("https://a/", "/x", "https://a:443/x", "/x"),
        ("https://a/v1/", "/x/", "https://a:443/v1/x/", "/v1/x/"),
        ("http://[2001:db8::1]:8080/v1", "/", "http://[2001:db8::1]:8080/v1/", "/v1/"),
    ] {
        let template = Template::new(base, &function("GET", path, &[], json!({}))).unwrap();
        assert_eq!(template.request(&Map::new()).unwrap().url(), url);
        assert_eq!(template.scope(Source::Agent).unwrap().path.to_string(), pattern);
    }
}

#[test]
fn functions_that_could_not_work_are_refused() {
    let refused = |function: &HttpFunction| Template::new("https://a", function).unwrap_err();
    let name = |name: &str| name.to_owned();
    assert_eq!(refused(&function("TRACE", "/", &[], json!({}))).field(), Some("method"));
    assert_eq!(refused(&function("OPTIONS", "/", &[], json!({}))), TemplateError::Options);
    assert_eq!(refused(&function("GET", "/{a}", &[], json!({}))), TemplateError::Undeclared(name("a")));
    assert_eq!(refused(&function("GET", "/", &["q"], json!({}))), TemplateError::Undeclared(name("q")));
    let twice = function("GET", "/{a}/{a}", &[], json!({ "a": {} }));
    assert_eq!(refused(&twice), TemplateError::UsedTwice(name("a")));
    let twice = function("GET", "/{a}", &["a"], json!({ "a": {} }));
    assert_eq!(refused(&twice), TemplateError::UsedTwice(name("a")));
    for method in ["GET", "HEAD", "DELETE"] {
        let error = refused(&function(method, "/", &[], json!({ "body": {} })));
        assert!(matches!(error, TemplateError::NoPlace { argument, .. } if argument == "body"));
    }
    let mut schema = function("POST", "/", &[], json!({}));
    schema.parameters = json!({ "type": "array" });
    assert_eq!(refused(&schema), TemplateError::NotAnObject);
    schema.parameters = json!({ "type": "object", "properties": [] });
    assert_eq!(refused(&schema), TemplateError::NotAnObject);
    for key in ["$ref", "$dynamicRef"] {
        schema.parameters = json!({ "type": "object", "allOf": [{ key: "https://evil/x.json" }] });
        assert_eq!(refused(&schema), TemplateError::Reference(name("https://evil/x.json")));
        schema.parameters = json!({ "type": "object", "properties": { "a": { key: "#/$defs/a" } } });
        assert!(Template::new("https://a", &schema).is_ok());
    }
    // The schema itself, "properties", "a", and what is in it.
    let nested = |levels: usize| {
        let inner = (3..levels).fold(json!({}), |inner, _| json!({ "items": inner }));
        function("POST", "/", &[], json!({ "a": inner }))
    };
    assert!(Template::new("https://a", &nested(DEPTH_MAX)).is_ok());
    assert_eq!(refused(&nested(DEPTH_MAX + 1)), TemplateError::Depth);
    assert_eq!(Template::new("a", &function("GET", "/", &[], json!({}))).unwrap_err().field(), None);
}
