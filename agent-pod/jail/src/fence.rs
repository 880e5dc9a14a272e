//! Landlock: which files, no TCP, no abstract sockets and no signals to outside.

use crate::rules::{Rule, Rules};
use crate::sys;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::path::{Path, PathBuf};

/// The oldest Landlock ABI the jail works with: the first that knows TCP (Linux 6.7).
pub const LEAST_ABI: i32 = 4;

/// The first Landlock ABI with scopes for signals and abstract unix sockets (Linux 6.12).
pub const SCOPES_ABI: i32 = 6;

/// The first Landlock ABI that logs what it denies (Linux 6.15).
const LOGGING_ABI: i32 = 7;

/// Read without being asked for: roots for TLS. Left out where they are missing.
const ALWAYS_READ: &[&str] = &["/etc/ssl", "/dev/random", "/dev/urandom"];

/// Read and written without being asked for. Left out where they are missing.
const ALWAYS_WRITE: &[&str] = &["/dev/null"];

/// What of the file system stays open.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Directories and files to read and write.
    pub write: Vec<PathBuf>,
    /// Directories and files to read.
    pub read: Vec<PathBuf>,
    /// The only file that may be executed.
    pub command: Option<PathBuf>,
}

/// The fence could not be put up.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The kernel has no Landlock, it is off, or it is too old.
    #[error("{found}, and the jail needs Landlock ABI {LEAST_ABI} (Linux 6.7) or newer")]
    Unsupported {
        /// What the kernel has.
        found: String,
    },
    /// An allowed path cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        source: Box<landlock::PathFdError>,
    },
    /// Allowed is `/`, or a path that is not absolute.
    #[error("{} is not a path that can be allowed: it must be absolute and not /", .0.display())]
    TooWide(PathBuf),
    /// The kernel refused a rule.
    #[error("Landlock refused the rules: {0}")]
    Rules(#[from] Box<RulesetError>),
    /// Less was enforced than asked for.
    #[error("Landlock enforced only a part of the rules")]
    Partial,
}

impl From<RulesetError> for FenceError {
    fn from(error: RulesetError) -> Self {
        FenceError::Rules(Box::new(error))
    }
}

/// The Landlock ABI of the running kernel, if it is new enough.
pub fn kernel_abi() -> Result<i32, FenceError> {
    accept_abi(sys::landlock_abi())
}

/// Accepts the kernel's Landlock ABI or says why not. Takes the answer of the kernel.
pub fn accept_abi(answer: std::io::Result<i32>) -> Result<i32, FenceError> {
    let found = match answer {
        Ok(abi) if abi >= LEAST_ABI => return Ok(abi),
        Ok(abi) => format!("the kernel has Landlock ABI {abi}"),
        Err(error) => format!("the kernel has no Landlock, or it is turned off ({error})"),
    };
    Err(FenceError::Unsupported { found })
}

/// Puts the fence up for this thread and all that come of it. Needs `no_new_privs`.
pub fn put_up(rules: Rules, abi: i32, paths: &Paths) -> Result<(), FenceError> {
    if !rules.has(Rule::Domain) {
        return Ok(());
    }
    let known = if abi >= 5 { ABI::V5 } else { ABI::V4 };
    let writing = AccessFs::from_write(known);
    let mut files = BitFlags::<AccessFs>::empty();
    if rules.has(Rule::FsWrite) {
        files |= writing;
    }
    if rules.has(Rule::FsRead) {
        files |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    if rules.has(Rule::FsExecute) {
        files |= AccessFs::Execute;
    }
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if !files.is_empty() {
        ruleset = ruleset.handle_access(files)?;
    }
    if rules.has(Rule::TcpBind) {
        ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
    }
    if rules.has(Rule::TcpConnect) {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    if abi >= SCOPES_ABI && rules.has(Rule::ScopeAbstract) {
        ruleset = ruleset.scope(Scope::AbstractUnixSocket)?;
    }
    if abi >= SCOPES_ABI && rules.has(Rule::ScopeSignal) {
        ruleset = ruleset.scope(Scope::Signal)?;
    }
    let mut created = ruleset.create()?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    // No devices are made, whatever the path, and none is told anything by ioctl.
    let changing = (writing & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)) | reading;
    let mut grants: Vec<(PathBuf, BitFlags<AccessFs>)> = Vec::new();
    let present = |list: &[&str]| -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).filter(|path| path.exists()).collect()
    };
    grants.extend(present(ALWAYS_READ).into_iter().map(|path| (path, reading)));
    grants.extend(present(ALWAYS_WRITE).into_iter().map(|path| (path, changing)));
    grants.extend(paths.read.iter().map(|path| (path.clone(), reading)));
    grants.extend(paths.write.iter().map(|path| (path.clone(), changing)));
    grants.extend(paths.command.iter().map(|path| (path.clone(), AccessFs::Execute | AccessFs::ReadFile)));
    for (path, access) in grants {
        let access = access & files & rights_of(&path, known);
        if access.is_empty() {
            continue;
        }
        let opened = PathFd::new(&path)
            .map_err(|source| FenceError::Path { path: path.clone(), source: Box::new(source) })?;
        created = created.add_rule(PathBeneath::new(opened, access))?;
    }
    // Setting no_new_privs is a rule of its own.
    if abi >= LOGGING_ABI {
        // The self-test's attempts are no incidents for the node's audit log.
        created = created.log_same_exec(false)?;
    }
    let status = created.no_new_privs(false).restrict_self()?;
    if status.ruleset == RulesetStatus::FullyEnforced { Ok(()) } else { Err(FenceError::Partial) }
}

/// Refuses paths that would open everything.
pub fn accept_paths(paths: &Paths) -> Result<(), FenceError> {
    let mut all = paths.read.iter().chain(&paths.write).chain(&paths.command);
    let bad = all.find(|path| {
        !path.is_absolute() || path.canonicalize().is_ok_and(|canonical| canonical == Path::new("/"))
    });
    bad.map_or(Ok(()), |path| Err(FenceError::TooWide(path.clone())))
}

/// Whether a path lies below one of those that may be written.
pub fn is_writable(paths: &Paths, path: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = canonical(path);
    paths.write.iter().any(|allowed| path.starts_with(canonical(allowed)))
}

/// Whether a path lies below one of those that may be read.
pub fn is_readable(paths: &Paths, path: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = canonical(path);
    is_writable(paths, &path) || paths.read.iter().any(|allowed| path.starts_with(canonical(allowed)))
}

/// The rights that mean something for what is at the path: the kernel refuses others.
fn rights_of(path: &Path, abi: ABI) -> BitFlags<AccessFs> {
    if path.is_dir() { AccessFs::from_all(abi) } else { AccessFs::from_file(abi) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn kernels_that_are_accepted() {
        let check = |answer: io::Result<i32>, expected: Result<i32, &str>| {
            let found = accept_abi(answer).map_err(|error| error.to_string());
            assert_eq!(
                found.as_ref().copied().map_err(|text| text.split(',').next().unwrap_or_default()),
                expected
            );
        };
        check(Ok(4), Ok(4));
        check(Ok(7), Ok(7));
        check(Ok(3), Err("the kernel has Landlock ABI 3"));
        check(Ok(0), Err("the kernel has Landlock ABI 0"));
        let off = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        check(Err(off), Err("the kernel has no Landlock"));
    }

    #[test]
    fn paths_that_are_too_wide() {
        let check = |path: &str, accepted: bool| {
            let paths = Paths { write: vec![path.into()], ..Paths::default() };
            assert_eq!(accept_paths(&paths).is_ok(), accepted, "{path}");
        };
        check("/workspace", true);
        check("/", false);
        check("//", false);
        check("/proc/..", false);
        check("workspace", false);
        check("", false);
    }
}
