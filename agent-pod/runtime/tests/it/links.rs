//! What brain and hands must not be able to do, as a fact about what they link.

use std::collections::{BTreeMap, BTreeSet};

/// Every package that `root` needs, in whatever way, as the lock file records it.
fn closure(root: &str) -> BTreeSet<String> {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
        let list =
            package.split_once("dependencies = [").map_or("", |(_, rest)| rest.split(']').next().unwrap());
        let list = list
            .lines()
            .map(|line| line.trim().trim_matches([',', '"']).split(' ').next().unwrap().to_owned());
        needs.entry(name.to_owned()).or_default().extend(list.filter(|name| !name.is_empty()));
    }
    let (mut found, mut open) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(name) = open.pop() {
        open.extend(
            needs.get(&name).unwrap_or_else(|| panic!("{name} is not in the lock file")).iter().cloned(),
        );
        if !found.insert(name) {
            // Seen before: its needs are already in hand.
            open.retain(|name| !found.contains(name));
        }
    }
    found
}

#[test]
fn brain_and_hands_cannot_link_the_vault_crate() {
    for package in ["redoubt-agent", "redoubt-tools"] {
        let found = closure(package);
        assert!(found.contains("redoubt-policy"), "the search works");
        for forbidden in ["redoubt-vault", "redoubt-scan", "redoubt-egress"] {
            assert!(!found.contains(forbidden), "{package} needs {forbidden}");
        }
    }
    assert!(closure("redoubt-egress").contains("redoubt-vault"), "the search finds it where it is");
}
