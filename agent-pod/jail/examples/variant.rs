//! Puts the jail on without some of its rules and prints what the self-test found. For the tests: `variant DIR RULES`,
//! RULES being a JSON list of the rules to leave out.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use redoubt_jail::{fence, rules::Rule, rules::Rules, selftest};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, gone] = args.as_slice() else {
        // The check "execute-other" executes this file with another argument.
        return ExitCode::SUCCESS;
    };
    let found = || -> Result<String, Box<dyn std::error::Error>> {
        let gone: Vec<Rule> = serde_json::from_str(gone)?;
        let paths = fence::Paths { write: vec![directory.into()], ..fence::Paths::default() };
        let findings = selftest::run(Rules::without(&gone), fence::kernel_abi()?, paths)?;
        Ok(serde_json::to_string(&findings)?)
    };
    match found() {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
