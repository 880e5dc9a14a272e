//! The table in docs/jail.md is the list of checks in the code.

use redoubt_jail::checks::{self, Ring};

#[test]
fn the_page_lists_every_check() {
    let mut table = String::from("| check | tries to | must end with |\n| --- | --- | --- |\n");
    for check in checks::all() {
        let when = match check.ring {
            Ring::Landlock => " (before seccomp)",
            Ring::Seccomp => "",
            Ring::Closing => " (at the end)",
        };
        table += &format!("| `{}` | {}{when} | {} |\n", check.name, check.tries, check.expected);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/jail.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains(&table), "docs/jail.md must contain this table:\n{table}");
}
