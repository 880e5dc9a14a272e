//! Each check fails when the rules it names are taken out, and no other check does.

use crate::rig::{Directory, as_agent, is_root};
use redoubt_jail::checks::{self, Outcome};
use redoubt_jail::rules::{Rule, Rules};
use redoubt_jail::selftest::Findings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The jail without these rules, put on by a process of its own; what it says on standard error when it cannot.
fn findings(command: impl Fn(&Path) -> Command, gone: &[Rule]) -> Result<Findings, String> {
    let directory = Directory::new();
    let program = directory.program("variant");
    let gone = serde_json::to_string(gone).unwrap();
    let output = command(&program).arg(directory.path()).arg(gone).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

fn open(findings: &Findings) -> BTreeMap<String, String> {
    let open = findings.0.iter().filter_map(|finding| match &finding.outcome {
        Outcome::Open { how } => Some((finding.name.clone(), how.clone())),
        Outcome::Refused { .. } | Outcome::Unavailable { .. } => None,
    });
    open.collect()
}

/// Names of the checks whose refusal can only come from the jail, in this place and for this user.
fn by_jail(findings: &Findings) -> BTreeSet<String> {
    let by_jail = |outcome: &Outcome| matches!(outcome, Outcome::Refused { by_jail: true, .. });
    findings
        .0
        .iter()
        .filter(|finding| by_jail(&finding.outcome))
        .map(|finding| finding.name.clone())
        .collect()
}

fn every_check_needs_its_rules(command: impl Fn(&Path) -> Command + Copy, privileged: bool) {
    let all = findings(command, &[]).unwrap();
    assert_eq!(open(&all), BTreeMap::new(), "the whole jail holds");
    let live = by_jail(&all);
    let checks = checks::all();
    let mut sets: BTreeSet<Vec<Rule>> = checks.iter().map(|check| check.rules.clone()).collect();
    sets.extend(Rule::LIST.iter().map(|rule| vec![*rule]));
    let mut turned: BTreeSet<String> = BTreeSet::new();
    for gone in sets.iter().filter(|gone| !gone.is_empty()) {
        let rules = Rules::without(gone);
        let found = findings(command, gone);
        if gone.contains(&Rule::NoNewPrivs) && !privileged {
            // The kernel itself refuses Landlock to a process without it: no start.
            assert!(found.is_err_and(|error| error.contains("Landlock refused")), "{gone:?}");
            continue;
        }
        let found = open(&found.unwrap_or_else(|error| panic!("{gone:?}: {error}")));
        let expected: BTreeSet<String> = checks
            .iter()
            .filter(|check| live.contains(&check.name) && !check.rules.iter().any(|rule| rules.has(*rule)))
            .map(|check| check.name.clone())
            .collect();
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), expected, "without {gone:?}: {found:?}");
        turned.extend(found.into_keys());
    }
    let same: BTreeSet<String> = live.difference(&turned).cloned().collect();
    let excused: &[&str] = if privileged { &[] } else { &["no-new-privileges"] };
    assert_eq!(same, excused.iter().map(|name| (*name).to_owned()).collect(), "these no test can turn red");
}

#[test]
fn every_check_needs_its_rules_as_the_agents_user() {
    every_check_needs_its_rules(as_agent, false);
}

#[test]
fn every_check_needs_its_rules_as_this_user() {
    every_check_needs_its_rules(|program| Command::new(program), is_root());
}

/// Checks that nothing but the jail closes, wherever it runs: none of them may pass for another reason.
#[test]
fn what_the_jail_alone_closes() {
    let live = by_jail(&findings(as_agent, &[]).unwrap());
    let elsewhere = |name: &str| name.starts_with("write:") || name.starts_with("read:") || name == "kernel";
    let names: Vec<String> = checks::all().into_iter().map(|check| check.name).collect();
    let missing: Vec<&String> =
        names.iter().filter(|name| !elsewhere(name) && !live.contains(*name)).collect();
    assert_eq!(missing, Vec::<&String>::new());
    for name in ["write:/proc/self/comm", "write:/tmp", "read:/proc/self/environ", "read:/etc/passwd"] {
        assert!(live.contains(name), "{name}");
    }
}
