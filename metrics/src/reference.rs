//! The reference of the metrics in Markdown.

use std::fmt::Write as _;

use crate::table::{Kind, Metric, Values};
use crate::{egress, operator, process};

/// The reference.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "<!-- Printed from the lists in metrics/src; do not edit. cargo run --package redoubt-metrics -- docs/reference/metrics.md -->\n\
         # Metrics\n\n\
         How they are scraped, and what is alerted on: [observability](../observability.md). A label has no other values than\n\
         those listed, and none of them comes from an object, a request or a server.\n",
    );
    section(&mut out, "The operator", "Of each replica.", operator::ALL);
    let where_asked = "Of each agent's pod, where the platform team lets them be scraped.";
    section(&mut out, "The egress sidecar", where_asked, egress::ALL);
    section(
        &mut out,
        "Processes",
        "Of each program, under the names that Prometheus' own clients use.",
        process::ALL,
    );
    out
}

fn section(out: &mut String, title: &str, text: &str, metrics: &[&Metric]) {
    let _ = write!(
        out,
        "\n## {title}\n\n{text}\n\n| metric | type | labels | what it tells |\n| --- | --- | --- | --- |\n"
    );
    for metric in metrics {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
            Kind::Info => "info",
        };
        let name = match metric.kind {
            Kind::Histogram(_) => metric.family(),
            Kind::Counter | Kind::Gauge | Kind::Info => metric.samples().concat(),
        };
        let labels: Vec<_> = metric.labels.iter().map(|(name, values)| label(name, *values)).collect();
        let _ = writeln!(out, "| `{name}` | {kind} | {} | {} |", labels.join("; "), metric.text());
    }
}

fn label(name: &str, values: Values) -> String {
    match values {
        Values::Of(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{name}`: {}", values.join(", "))
        }
        Values::Reasons => format!("`{name}`: [reasons of conditions](api.md#reasons-of-conditions)"),
        Values::Version => format!("`{name}`: of the program"),
    }
}
