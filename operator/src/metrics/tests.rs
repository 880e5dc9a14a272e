use std::io;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use redoubt_crds::{Agent, Tool};

use super::*;

fn value(out: &Exposition, sample: &str) -> f64 {
    let text = out.encode().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn visits_are_counted_by_how_they_end_and_leave_the_queue() {
    let (metrics, out) = Metrics::new();
    let of = |name: &str| ObjectRef::<Agent>::new(name).within("team");
    let depth = |expected: f64| {
        assert_eq!(value(&out, "redoubt_operator_queue_depth{kind=\"Agent\"}"), expected);
        assert_eq!(value(&out, "redoubt_operator_queue_depth{kind=\"Tool\"}"), 1.0);
    };
    metrics.queued(&ObjectRef::<Tool>::new("a").within("team"));
    for name in ["a", "b", "b", "c", "gone"] {
        metrics.queued(&of(name));
    }
    depth(4.0);
    let judge = |judged: &Visited| *judged;
    metrics.visit(of("a"), async { Ok::<_, Visited>(1) }, judge).await.unwrap();
    metrics.visit(of("b"), async { Err::<u8, _>(Visited::Stale) }, judge).await.unwrap_err();
    // One that comes again while nothing is heard of it.
    metrics.visit(of("b"), async { Err::<u8, _>(Visited::Failed) }, judge).await.unwrap_err();
    depth(2.0);
    let gone = controller::Error::<io::Error, io::Error>::ObjectNotFound(Box::new(of("gone").erase()));
    metrics.not_visited(&gone);
    depth(1.0);
    let visits = |result: &str| {
        value(&out, &format!("redoubt_operator_visits_total{{kind=\"Agent\",result=\"{result}\"}}"))
    };
    assert_eq!(["done", "stale", "failed"].map(visits), [1.0; 3]);
    assert_eq!(value(&out, "redoubt_operator_visit_duration_seconds_count{kind=\"Agent\"}"), 3.0);
    assert_eq!(value(&out, "redoubt_operator_queue_wait_seconds_count{kind=\"Agent\"}"), 2.0);
    metrics.forget_queued();
    assert_eq!(value(&out, "redoubt_operator_queue_depth{kind=\"Tool\"}"), 0.0);
}

#[test]
fn writes_are_counted_by_what_became_of_them() {
    let (metrics, out) = Metrics::new();
    let check = |method: Method, end: Result<StatusCode, bool>, verb: &str, result: &str| {
        let sample = format!("redoubt_operator_api_writes_total{{verb=\"{verb}\",result=\"{result}\"}}");
        let before = value(&out, &sample);
        metrics.written(&method, end, Duration::from_millis(3));
        assert_eq!(value(&out, &sample), before + 1.0, "{method} {end:?}");
    };
    check(Method::POST, Ok(StatusCode::CREATED), "create", "done");
    check(Method::PUT, Ok(StatusCode::OK), "update", "done");
    check(Method::PATCH, Ok(StatusCode::CONFLICT), "patch", "conflict");
    check(Method::PATCH, Ok(StatusCode::UNPROCESSABLE_ENTITY), "patch", "refused");
    check(Method::DELETE, Ok(StatusCode::FORBIDDEN), "delete", "refused");
    check(Method::PATCH, Ok(StatusCode::TOO_MANY_REQUESTS), "patch", "failed");
    check(Method::PATCH, Ok(StatusCode::SERVICE_UNAVAILABLE), "patch", "failed");
    check(Method::PATCH, Err(false), "patch", "unanswered");
    check(Method::PATCH, Err(true), "patch", "fenced");
    let took = "redoubt_operator_api_write_duration_seconds_count{verb=\"patch\"}";
    assert_eq!(value(&out, took), 5.0, "what was not sent took no time");
}

#[test]
fn kinds_are_those_of_the_list() {
    assert_eq!(kind::<Agent>(), "Agent");
    assert_eq!(kind::<crate::index::WatchedAgent>(), "Agent");
    assert_eq!(kind::<Pod>(), "Pod");
    assert_eq!(kind::<ConfigMap>(), "ConfigMap");
    assert_eq!(kind::<k8s_openapi::api::core::v1::Secret>(), OTHER);
    assert!(list::VISITED.iter().all(|kind| list::WATCHED.contains(kind)));
    assert!(list::REFERRED.iter().all(|kind| list::VISITED.contains(kind)));
    assert_eq!(list::REFERRED.len() + 1, list::VISITED.len());
}
