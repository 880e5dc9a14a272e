//! The list of metrics keeps Prometheus' conventions, and the reference is printed from it.

use std::collections::BTreeSet;

use redoubt_metrics::{Exposition, Kind, Metric, Values, all, operator};

use super::root;

/// What is wrong with a metric.
fn faults(metric: &Metric) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{}: {what}", metric.name));
        }
    };
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    must(word(metric.name), "a name is in lower case");
    must(
        ["redoubt_operator_", "redoubt_egress_", "process_"].iter().any(|it| metric.name.starts_with(it)),
        "no prefix",
    );
    let ends = ["_total", "_count", "_sum", "_bucket", "_info", "_seconds", "_bytes", "_milliseconds", "_ms"];
    must(!ends.iter().any(|end| metric.name.ends_with(end)), "suffixes are added");
    must(metric.text().ends_with('.') && !metric.text().contains(['\n', '"', '\\']), "help is one sentence");
    if let Kind::Histogram(bounds) = metric.kind {
        must(metric.unit.is_some(), "a histogram has a unit");
        must(!bounds.is_empty() && bounds.is_sorted_by(|a, b| a < b), "bounds rise");
        must(bounds.len() <= 15, "few buckets");
    }
    let mut series = 1;
    for (name, values) in metric.labels {
        must(
            word(name) && !["le", "instance", "job", "pod", "namespace"].contains(name),
            "a label's name is taken",
        );
        if let Values::Of(values) = values {
            must(
                !values.is_empty() && values.iter().collect::<BTreeSet<_>>().len() == values.len(),
                "values differ",
            );
            must(
                values
                    .iter()
                    .all(|value| value.chars().all(|c| c.is_ascii_alphanumeric() || ['_', '-'].contains(&c))),
                "values are words",
            );
            series *= values.len();
        }
    }
    must(series <= 100, "few series");
    faults
}

#[test]
fn every_metric_keeps_the_conventions_and_is_there_once() {
    assert!(all().count() > 20);
    assert_eq!(all().flat_map(faults).collect::<Vec<_>>(), Vec::<String>::new());
    let names: BTreeSet<_> = all().flat_map(Metric::samples).collect();
    assert_eq!(names.len(), all().map(|metric| metric.samples().len()).sum::<usize>());
    // The check itself sees what it is there for.
    let bad = Metric {
        name: "operator_visits_total",
        kind: Kind::Histogram(&[2.0, 1.0]),
        unit: None,
        labels: &[("namespace", Values::Of(&["a", "a"])), ("x", Values::Of(&["https://host/"]))],
        help: "visits",
    };
    assert_eq!(faults(&bad).len(), 8, "{:?}", faults(&bad));
}

#[test]
fn the_reference_is_that_of_the_list() {
    let found = std::fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap_or_default();
    let expected = redoubt_metrics::reference::markdown();
    assert!(
        found == expected,
        "docs/reference/metrics.md is not what the list says; run: cargo run --package redoubt-metrics -- docs/reference/metrics.md"
    );
    for metric in all() {
        assert!(expected.contains(&metric.family()), "{}", metric.name);
    }
}

#[test]
fn series_that_are_few_are_there_from_the_beginning() {
    let mut out = Exposition::default();
    let counters = out.counters::<1>(&operator::LEASE_WRITES);
    let begun = |result: &str, value: u8| {
        let line = format!("redoubt_operator_lease_writes_total{{result=\"{result}\"}} {value}\n");
        assert!(out.encode().unwrap().contains(&line), "{line}{}", out.encode().unwrap());
    };
    begun("failed", 0);
    counters.add(["failed"]);
    begun("failed", 1);
    begun("done", 0);
}
