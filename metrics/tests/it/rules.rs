//! Alert rules, runbooks and documents: each metric they name exists, each alert has a runbook and each runbook an alert.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::query::unknown;
use super::{files, root};

const RUNBOOKS: &str = "https://github.com/redoubt-dev/redoubt/blob/main/docs/runbooks/";

fn alerts() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("charts/redoubt/files/alerts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(file.as_object().unwrap().len(), 1, "only groups");
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn runbooks() -> BTreeSet<String> {
    let pages = files(&root().join("docs/runbooks"), ".md");
    pages.iter().map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What is wrong with a rule.
fn faults(rule: &Value, runbooks: &BTreeSet<String>) -> Vec<String> {
    let name = rule["alert"].as_str().unwrap_or_default();
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("{name}: {what}"));
        }
    };
    let known = ["alert", "expr", "for", "labels", "annotations"];
    for field in rule.as_object().unwrap().keys() {
        must(known.contains(&field.as_str()), format!("{field} is no field of a rule"));
    }
    must(name.starts_with("Redoubt"), "no name".to_owned());
    let severity = rule["labels"]["severity"].as_str();
    must(severity.is_some_and(|it| ["warning", "critical"].contains(&it)), "no severity".to_owned());
    must(
        rule["annotations"]["summary"].as_str().is_some_and(|it| it.ends_with('.')),
        "no summary".to_owned(),
    );
    let link = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
    must(link == format!("{RUNBOOKS}{name}.md"), format!("runbook_url is not that of its page: {link:?}"));
    must(runbooks.contains(name), format!("docs/runbooks/{name}.md is missing"));
    let expression = rule["expr"].as_str().unwrap_or_default();
    must(expression.contains("redoubt_"), "it asks for nothing of ours".to_owned());
    for named in unknown(expression, false) {
        must(false, format!("{named} does not exist"));
    }
    faults
}

#[test]
fn each_alert_has_a_runbook_and_asks_for_what_there_is() {
    let (alerts, runbooks) = (alerts(), runbooks());
    assert!(alerts.len() >= 15);
    let faults_of_all: Vec<_> = alerts.iter().flat_map(|rule| faults(rule, &runbooks)).collect();
    assert_eq!(faults_of_all, Vec::<String>::new());
    let names: BTreeSet<_> = alerts.iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), alerts.len(), "each name once");
    assert_eq!(runbooks, names, "a runbook without an alert, or the other way round");
    // The check itself sees what it is there for.
    let spoilt = [
        ("alert", Value::from("RedoubtOther")),
        ("expr", "sum(redoubt_operator_leaders) == 0".into()),
        ("labels", serde_json::json!({"severity": "page"})),
        ("annotations", serde_json::json!({"summary": "It is so."})),
        ("expression", "1".into()),
    ];
    for (field, value) in spoilt {
        let mut rule = alerts[0].clone();
        rule[field] = value;
        assert!(!faults(&rule, &runbooks).is_empty(), "{field}");
    }
}

#[test]
fn each_runbook_says_what_to_look_at_and_what_to_do() {
    for name in runbooks() {
        let text = std::fs::read_to_string(root().join(format!("docs/runbooks/{name}.md"))).unwrap();
        let parts = [
            &format!("# {name}\n"),
            "**Symptom.** ",
            "**What it means.** ",
            "\n## Check\n",
            "\n```",
            "\n## What to do\n",
        ];
        for part in parts {
            assert!(text.contains(part), "{name}: no {part:?}");
        }
    }
}

/// Everything in a `promql` block, one query for each line that does not go on.
fn queries(text: &str) -> Vec<String> {
    let blocks = text.split("```promql\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.flat_map(|block| block.lines().map(str::to_owned)).collect()
}

#[test]
fn documents_name_what_there_is() {
    let documents = files(&root().join("docs"), ".md");
    assert!(documents.len() > 20);
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let mut missing = unknown(&text, true);
        missing.extend(queries(&text).iter().flat_map(|query| unknown(query, false)));
        assert_eq!(missing, Vec::<String>::new(), "{}", document.display());
    }
}

/// By the grammar of Prometheus, not by ours.
#[test]
fn every_query_is_promql() {
    let mut all: Vec<_> = alerts().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    for document in files(&root().join("docs"), ".md") {
        all.extend(queries(&std::fs::read_to_string(document).unwrap()));
    }
    assert!(all.len() > 25, "those of the runbooks are among them");
    parse(&all).unwrap();
    let error = parse(&["sum(redoubt_operator_leader".to_owned()]).unwrap_err();
    assert!(error.contains("sum(redoubt_operator_leader"), "{error}");
    let range = parse(&["rate(redoubt_operator_visits_total)".to_owned()]);
    assert!(range.is_err(), "rate takes a range");
}

fn parse(expressions: &[String]) -> Result<(), String> {
    let made = Command::new(root().join("e2e/venv")).stderr(Stdio::inherit()).output().unwrap();
    assert!(made.status.success(), "e2e/venv failed; it says why above");
    let python = String::from_utf8(made.stdout).unwrap();
    let mut child = Command::new(python.trim())
        .arg(root().join("e2e/tests/referees/promql.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(serde_json::to_string(expressions).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        format!("{} expressions", expressions.len())
    );
    Ok(())
}
