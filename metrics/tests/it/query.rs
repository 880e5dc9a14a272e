//! What a query asks for: names of samples with the labels that it picks.

use redoubt_metrics::{Metric, Values, all};

/// Names that begin like ours, each with its matchers: label and value.
pub fn selectors(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let word = rest.get(start..).unwrap();
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        rest = after;
        if ["redoubt_operator_", "redoubt_egress_", "process_"].iter().any(|prefix| name.starts_with(prefix))
        {
            let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            found.push((name.to_owned(), inside.map(|(inside, _)| matchers(inside)).unwrap_or_default()));
        }
    }
    found
}

fn matchers(inside: &str) -> Vec<(String, String)> {
    let each = inside.split(',').filter_map(|one| {
        let at = one.find(['=', '!'])?;
        let (label, value) = one.split_at(at);
        Some((label.trim().to_owned(), value.trim_matches(['=', '!', '~', '"', ' ']).to_owned()))
    });
    each.flat_map(|(label, value)| {
        value.split('|').map(|one| (label.clone(), one.to_owned())).collect::<Vec<_>>()
    })
    .collect()
}

/// What no metric has of all that `text` names. `families` are fine in prose, not in queries.
pub fn unknown(text: &str, families: bool) -> Vec<String> {
    let named = |metric: &Metric, name: &str| {
        metric.samples().iter().any(|sample| sample == name) || families && metric.family() == name
    };
    let mut unknown = Vec::new();
    for (name, matchers) in selectors(text) {
        // In prose there are other words that begin like this.
        if families && name.starts_with("process_") {
            continue;
        }
        let Some(metric) = all().find(|metric| named(metric, &name)) else {
            unknown.push(name);
            continue;
        };
        for (label, value) in matchers {
            let known = metric.labels.iter().any(|(known, values)| {
                *known == label
                    && match values {
                        Values::Of(values) => values.contains(&value.as_str()),
                        Values::Reasons | Values::Version => true,
                    }
            });
            if !known {
                unknown.push(format!("{name}{{{label}=\"{value}\"}}"));
            }
        }
    }
    unknown
}

#[test]
fn what_does_not_exist_is_noticed() {
    let check = |text: &str, expected: &[&str]| assert_eq!(unknown(text, false), expected, "{text}");
    check("rate(redoubt_operator_visits_total{kind=\"Agent\", result=~\"done|failed\"}[5m]) > up", &[]);
    check("redoubt_operator_visits", &["redoubt_operator_visits"]);
    assert!(unknown("`redoubt_operator_visits`", true).is_empty(), "a family, in prose");
    check("redoubt_operator_visit_total + redoubt_operator_leader", &["redoubt_operator_visit_total"]);
    check("redoubt_operator_leader{kind=\"Agent\"}", &["redoubt_operator_leader{kind=\"Agent\"}"]);
    check(
        "redoubt_operator_visits_total{result=~\"done|fail\"}",
        &["redoubt_operator_visits_total{result=\"fail\"}"],
    );
    check(
        "sum(redoubt_operator_queue_wait_seconds_buckets)",
        &["redoubt_operator_queue_wait_seconds_buckets"],
    );
}
