//! Which processes a container has, seen from its node.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The processes of a container could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Not an identifier as a Pod's status has it.
    #[error("{0:?} is not the ID of a container: 12 to 64 hexadecimal digits, perhaps after containerd://")]
    Id(String),
    /// The folder of processes could not be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file or folder.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No process has it in its cgroup's path.
    #[error("no process of this PID namespace belongs to container {0}")]
    None(String),
}

/// The processes whose cgroup's path holds the container's ID. `proc` is `/proc` of the node.
pub fn processes_of_container(proc: &Path, id: &str) -> Result<Vec<u32>, ContainerError> {
    let bare = id.split_once("://").map_or(id, |parts| parts.1);
    if !(12..=64).contains(&bare.len()) || !bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ContainerError::Id(id.to_owned()));
    }
    let failed = |path: &Path, source| ContainerError::Read { name: path.display().to_string(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).map_err(|source| failed(proc, source))? {
        let entry = entry.map_err(|source| failed(proc, source))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path().join("cgroup");
        match fs::read_to_string(&path) {
            Ok(text) if text.lines().any(|line| line.contains(bare)) => found.push(pid),
            Ok(_) => {}
            // It has ended meanwhile: ESRCH, which has no kind, or no such file.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {}
            Err(source) => return Err(failed(&path, source)),
        }
    }
    found.sort_unstable();
    if found.is_empty() { Err(ContainerError::None(bare.to_owned())) } else { Ok(found) }
}

const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_the_path_of_their_cgroup() {
        let folder = std::env::temp_dir().join(format!("redoubt-proc-{}", std::process::id()));
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (pid, cgroup) in [
            ("12", format!("0::/kubepods/besteffort/pod1/{id}\n")),
            ("7", format!("0::/kubepods.slice/cri-containerd-{id}.scope\n")),
            ("9", "0::/init.scope\n".to_owned()),
            ("self", format!("0::/{id}\n")),
        ] {
            fs::create_dir_all(folder.join(pid)).unwrap();
            fs::write(folder.join(pid).join("cgroup"), cgroup).unwrap();
        }
        let check = |id: &str| processes_of_container(&folder, id);
        assert_eq!(check(id).unwrap(), [7, 12]);
        assert_eq!(check(&format!("containerd://{id}")).unwrap(), [7, 12]);
        assert!(matches!(check(&"a".repeat(64)), Err(ContainerError::None(_))));
        assert!(matches!(check("abc"), Err(ContainerError::Id(_))));
        assert!(matches!(check("../../../../etc"), Err(ContainerError::Id(_))));
        fs::remove_dir_all(folder).unwrap();
    }
}
