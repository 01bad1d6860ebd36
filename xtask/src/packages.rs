//! Debian packages that a chore needs: found by the programs they bring, installed when a program is missing.
//!
//! Looking for programs rather than packages lets the chores run on other distributions, where somebody has installed
//! the same programs under other names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::privileges::{self, PrivilegeError};
use crate::report;

#[cfg(test)]
mod tests;

/// A program, and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The program, as it is looked for on the path.
    pub program: &'static str,
    /// The package of Debian 12 and later.
    pub package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// For the tests that work in network namespaces. `nft` is the oracle that rules are compared with; Sidewall itself
/// runs no such program.
pub const KERNEL: &[Need] = &[need("nft", "nftables"), need("ip", "iproute2"), need("nsenter", "util-linux")];

/// For the tests with nodes and clusters; the programs of nodes and clusters themselves are [`crate::parts`].
pub const NODE: &[Need] = KERNEL;

/// For the proxy's tests: other programs' password hashes and certificates.
pub const PROXY: &[Need] = &[need("openssl", "openssl"), need("htpasswd", "apache2-utils")];

/// For the demo: what its pod's containers and its `curl` lines run.
pub const DEMO: &[Need] = &[need("curl", "curl")];

/// For `bench walls`: what we are compared with.
pub const BENCH_WALLS: &[Need] =
    &[need("iptables", "iptables"), need("nft", "nftables"), need("ip", "iproute2"), need("nsenter", "util-linux")];

/// For the advisory database, which cargo-deny fetches with git.
pub const LINT: &[Need] = &[need("git", "git")];

/// Why the packages are not there.
#[derive(Debug, Error)]
pub enum PackageError {
    /// There is no `apt-get`.
    #[error("missing programs: {programs}; this is no Debian, so install them in this system's own way")]
    NotDebian {
        /// The programs, comma separated.
        programs: String,
    },
    /// Only root installs packages.
    #[error("missing programs; installing them {source}, or let root run `apt-get install {packages}`")]
    NotRoot {
        /// The packages, as `apt-get` takes them.
        packages: String,
        /// What is lacking.
        source: PrivilegeError,
    },
    /// `apt-get` failed.
    #[error("cannot install {packages}: see what apt-get printed above")]
    Install {
        /// The packages, as `apt-get` takes them.
        packages: String,
        /// How it ended.
        #[source]
        source: CommandError,
    },
    /// `apt-get` was content, and still a program is missing.
    #[error("installed {packages}, and still these programs are missing: {programs}")]
    StillMissing {
        /// The packages, as `apt-get` takes them.
        packages: String,
        /// The programs, comma separated.
        programs: String,
    },
}

/// Installs what is missing of `needs`. Touches nothing, and asks no server, when everything is there.
///
/// # Errors
/// When something is missing and cannot be installed.
pub fn ensure(needs: &[Need]) -> Result<(), PackageError> {
    let missing = Missing::of(needs, on_path);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.packages();
    if !on_path("apt-get") {
        return Err(PackageError::NotDebian { programs: missing.programs() });
    }
    match privileges::require_root() {
        // Packages need the user, not the capabilities of the kernel tests.
        Ok(()) | Err(PrivilegeError::Capability(_)) => {}
        Err(source) => return Err(PackageError::NotRoot { packages, source }),
    }
    report::step(&format!("install {packages} ({} not found)", missing.programs()));
    command::run(
        command::program("sh")
            .args(["-c", include_str!("packages/install.sh"), "install-packages"])
            .args(missing.0.keys())
            .env("DEBIAN_FRONTEND", "noninteractive")
            // apt-get's chatter must not stand between the results on standard output.
            .stdout(Stdio::from(io::stderr())),
    )
    .map_err(|source| PackageError::Install { packages: packages.clone(), source })?;
    let still = Missing::of(needs, on_path);
    if still.is_empty() { Ok(()) } else { Err(PackageError::StillMissing { packages, programs: still.programs() }) }
}

/// Missing programs by the package that brings them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing(BTreeMap<&'static str, BTreeSet<&'static str>>);

impl Missing {
    fn of(needs: &[Need], is_there: impl Fn(&str) -> bool) -> Self {
        let mut missing = Self::default();
        for need in needs.iter().filter(|need| !is_there(need.program)) {
            missing.0.entry(need.package).or_default().insert(need.program);
        }
        missing
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn packages(&self) -> String {
        self.0.keys().copied().collect::<Vec<_>>().join(" ")
    }

    fn programs(&self) -> String {
        self.0.values().flatten().copied().collect::<Vec<_>>().join(", ")
    }
}

/// Whether an executable file of that name is in one of the searched folders.
fn on_path(program: &str) -> bool {
    command::search_path().iter().any(|folder| is_program(&folder.join(program)))
}

/// Whether an executable file is there.
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
