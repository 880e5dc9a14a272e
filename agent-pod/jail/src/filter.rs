//! From lists of calls to seccomp programs, and their installation.

use crate::allowed::{self, Allow, Test, When};
use crate::denied;
use crate::rules::{Rule, Rules};
use crate::sys;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a refused call returns: `EBADRQC`, "invalid request code".
///
/// The kernel returns it from none of the calls that the jail looks at, so it says "refused by this filter", where
/// `EPERM` or `EACCES` could also mean that the caller lacks a right or that another rule stood in the way. When more
/// filters than one answer with an error, the kernel takes the one installed last: this one, not the container's.
pub const REFUSED: i32 = libc::EBADRQC;

/// What a call returns that is said not to exist.
pub const ABSENT: i32 = libc::ENOSYS;

/// Highest system-call number that the self-test tries; Linux has given out less than 500.
pub const LAST_NUMBER: i64 = 1023;

/// Bit of x32 calls in the system-call number.
pub const X32_BIT: u32 = 0x4000_0000;

/// A filter could not be built or installed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The compiler refused a list: an error in this crate.
    #[error("the seccomp filter does not compile: {0}")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel refused the program.
    #[error("the kernel did not take the seccomp filter: {0}")]
    Install(#[source] std::io::Error),
}

/// Installs the allow-list and what is said not to exist. It stays for good, also over exec.
pub fn install(rules: Rules, process: u32) -> Result<(), FilterError> {
    let mut list = allowed::list(process);
    list.extend(let_through(rules, &list));
    let mut program = compile(list, rules, SeccompAction::Errno(REFUSED as u32), SeccompAction::Allow)?;
    if !rules.has(Rule::ForeignAbi) {
        program = without_abi_check(program);
    }
    load(&program)?;
    install_refusals(allowed::absent(rules), rules, ABSENT)
}

/// Installs what is refused only after the self-test.
pub fn install_closing(rules: Rules) -> Result<(), FilterError> {
    install_refusals(allowed::closing(rules), rules, REFUSED)
}

fn install_refusals(list: Vec<Allow>, rules: Rules, errno: i32) -> Result<(), FilterError> {
    if list.is_empty() {
        return Ok(());
    }
    let mut program = compile(list, rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32))?;
    if !rules.has(Rule::ForeignAbi) {
        program = without_abi_check(program);
    }
    load(&program)
}

fn load(program: &BpfProgram) -> Result<(), FilterError> {
    sys::install_filter(program).map_err(FilterError::Install)
}

/// `uretprobe` and `uprobe` of x86-64: the kernel (6.13 and newer) lets them past every seccomp filter, because it
/// makes them itself when a process is probed, and kills with SIGILL who calls them otherwise. Nothing to try.
const PAST_SECCOMP: [i64; 2] = [335, 336];

/// Calls that are on no list of what is allowed and in no group: those that no one has thought of.
pub fn unlisted(process: u32) -> Vec<i64> {
    let mut known: BTreeSet<i64> = allowed::list(process).into_iter().map(|(number, _)| number).collect();
    known.extend(denied::GROUPS.iter().flat_map(|(_, calls)| calls.iter().map(|call| call.number)));
    known.extend([libc::SYS_clone3, libc::SYS_memfd_create]);
    if cfg!(target_arch = "x86_64") {
        known.extend(PAST_SECCOMP);
    }
    (0..=LAST_NUMBER).filter(|number| !known.contains(number)).collect()
}

/// What a set with rules missing lets through; nothing in production.
fn let_through(rules: Rules, list: &[Allow]) -> Vec<Allow> {
    let gone = |rule: Rule| !rules.has(rule);
    let groups = denied::GROUPS.iter().filter(|(rule, _)| gone(*rule));
    let mut more: Vec<i64> = groups.flat_map(|(_, calls)| calls.iter().map(|call| call.number)).collect();
    if gone(Rule::Clone3) {
        more.push(libc::SYS_clone3);
    }
    if gone(Rule::MemoryFiles) {
        more.push(libc::SYS_memfd_create);
    }
    if gone(Rule::Unlisted) {
        let allowed: BTreeSet<i64> = list.iter().map(|(number, _)| *number).collect();
        // A filter has no room for more; the kernel knows none above.
        more.extend(unlisted(0).into_iter().filter(|number| *number < 512 && !allowed.contains(number)));
    }
    more.into_iter().map(|number| (number, When::Always)).collect()
}

fn compile(
    list: Vec<Allow>,
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let mut by_number = BTreeMap::new();
    for (number, when) in list {
        by_number.insert(number, conditions(when, rules)?);
    }
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(by_number, otherwise, listed, arch)?.try_into()?)
}

/// The conditions of one call; none means any arguments. Tests of rules that are gone are left out.
fn conditions(when: When, rules: Rules) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let lists = match when {
        When::Always => Vec::new(),
        When::All(tests) => {
            let kept: Vec<Test> =
                tests.into_iter().filter(|(rule, _)| rules.has(*rule)).map(|(_, test)| test).collect();
            if kept.is_empty() { Vec::new() } else { vec![kept] }
        }
        When::OneOf(rule, lists) if rules.has(rule) => lists,
        When::OneOf(..) => Vec::new(),
    };
    lists
        .into_iter()
        .map(|tests| SeccompRule::new(tests.into_iter().map(condition).collect::<Result<_, _>>()?))
        .collect()
}

fn condition(test: Test) -> Result<SeccompCondition, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq};
    match test {
        Test::Is(arg, value) => SeccompCondition::new(arg, Dword, Eq, value.into()),
        Test::IsLong(arg, value) => SeccompCondition::new(arg, Qword, Eq, value),
        Test::IsBut(arg, mask, value) => {
            SeccompCondition::new(arg, Dword, MaskedEq((!mask).into()), value.into())
        }
    }
}

/// The program without its first three instructions, which kill callers of another interface, and with x32 let
/// through. Only a set of rules without [`Rule::ForeignAbi`] comes here.
fn without_abi_check(program: BpfProgram) -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let x32 =
        [step(LOAD, 0, 0, 0), step(JUMP_IF_SET, 0, 1, X32_BIT), step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW)];
    x32.into_iter().chain(program.into_iter().skip(3)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_on_the_allow_list() {
        let allowed: BTreeSet<i64> = allowed::list(1).into_iter().map(|(number, _)| number).collect();
        for (rule, calls) in denied::GROUPS {
            for call in *calls {
                assert!(!allowed.contains(&call.number), "{rule:?} {} is allowed", call.name);
            }
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let list = allowed::list(1);
        let numbers: BTreeSet<i64> = list.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers.len(), list.len());
    }

    #[test]
    fn production_lets_nothing_more_through() {
        assert_eq!(let_through(Rules::ALL, &allowed::list(1)), vec![]);
    }
}
