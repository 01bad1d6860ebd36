//! Whether this process may make network namespaces and load rules. What needs that fails without it; it is never
//! skipped.

use std::io;

use thiserror::Error;

/// Why the tests that need a kernel cannot run.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// Not root.
    #[error("needs root, to make network namespaces and load rules in them: run it as root")]
    NotRoot,
    /// Root by name only, as in an unprivileged container.
    #[error("is root but lacks {0}: run it where root may make network namespaces (for a container: privileged)")]
    Capability(&'static str),
    /// The kernel did not say.
    #[error("cannot read /proc/self/status, which says what this process may do: {0}")]
    Unreadable(#[from] io::Error),
    /// The kernel said it in a way that we do not know.
    #[error("/proc/self/status has no `{0}` line that can be read")]
    NoLine(&'static str),
}

/// Checks that this process is root with the capabilities that the kernel tests use.
///
/// # Errors
/// When it is not, saying what is lacking.
pub fn require_root() -> Result<(), PrivilegeError> {
    judge(&std::fs::read_to_string("/proc/self/status")?)
}

/// Bits of `CapEff`, from capabilities(7).
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

fn judge(status: &str) -> Result<(), PrivilegeError> {
    let line = |name: &'static str| {
        status.lines().find_map(|line| line.strip_prefix(name)).ok_or(PrivilegeError::NoLine(name))
    };
    // The columns are the real, the effective, the saved and the file system's user.
    let effective = line("Uid:")?.split_ascii_whitespace().nth(1).ok_or(PrivilegeError::NoLine("Uid:"))?;
    if effective != "0" {
        return Err(PrivilegeError::NotRoot);
    }
    let capabilities =
        u64::from_str_radix(line("CapEff:")?.trim(), 16).map_err(|_| PrivilegeError::NoLine("CapEff:"))?;
    match NEEDED.iter().find(|(bit, _)| capabilities >> bit & 1 == 0) {
        Some((_, name)) => Err(PrivilegeError::Capability(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: &str, capabilities: &str) -> String {
        format!("Name:\txtask\nUid:\t{uid}\nGid:\t0\t0\t0\t0\nCapEff:\t{capabilities}\n")
    }

    #[test]
    fn full_root_passes() {
        judge(&status("0\t0\t0\t0", "000001ffffffffff")).unwrap();
    }

    #[test]
    fn the_effective_user_counts() {
        let error = judge(&status("0\t1000\t1000\t1000", "0")).unwrap_err();
        assert!(matches!(error, PrivilegeError::NotRoot));
    }

    #[test]
    fn root_without_capabilities_is_told_which() {
        // What a container runtime grants by default.
        let error = judge(&status("0\t0\t0\t0", "00000000a80425fb")).unwrap_err();
        assert!(matches!(error, PrivilegeError::Capability("CAP_NET_ADMIN")), "{error}");
        let error = judge(&status("0\t0\t0\t0", "0000000000001000")).unwrap_err();
        assert!(matches!(error, PrivilegeError::Capability("CAP_SYS_ADMIN")), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_no_root() {
        assert!(matches!(judge(""), Err(PrivilegeError::NoLine("Uid:"))));
        assert!(matches!(judge(&status("0 0 0 0", "zz")), Err(PrivilegeError::NoLine("CapEff:"))));
    }
}
