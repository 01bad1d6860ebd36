//! A program's bill of materials: every crate that is compiled into it, as CycloneDX 1.6 in JSON
//! (<https://cyclonedx.org/docs/1.6/json/>). It has no serial number and no time, so that the same crates give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use thiserror::Error;

use crate::command::{self, CommandError};
use crate::workspace::Workspace;

/// Why a bill can't be written.
#[derive(Debug, Error)]
pub enum SbomError {
    /// Cargo does not say what is in a program.
    #[error(transparent)]
    Cargo(#[from] CommandError),
    /// What cargo says is not understood.
    #[error("`cargo tree` says {line:?}, which is no crate, version and licence")]
    Line {
        /// What it says.
        line: String,
    },
    /// The lock file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    /// An SPDX expression; empty where none is given.
    licence: String,
}

/// The bill of the programs of some packages together, for a target.
///
/// # Errors
/// [`SbomError`].
pub fn of(
    workspace: &Workspace,
    name: &str,
    version: &str,
    packages: &[&str],
    target: &str,
) -> Result<Vec<u8>, SbomError> {
    let mut crates = BTreeSet::new();
    for package in packages {
        // As the build resolves features: this package's alone. What runs at build time only is in no program.
        let arguments = ["tree", "--locked", "-e", "normal,no-proc-macro", "--prefix", "none", "-f", "{p}|{l}"];
        let said = command::output(workspace.cargo().args(arguments).args(["-p", package, "--target", target]))?;
        for line in String::from_utf8_lossy(&said).lines().filter(|line| !line.trim().is_empty()) {
            crates.insert(read(line).ok_or_else(|| SbomError::Line { line: line.to_owned() })?);
        }
    }
    let path = workspace.root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).map_err(|source| SbomError::Lock { path, source })?;
    let bill = bill(name, version, &crates, &checksums(&lock));
    Ok(format!("{bill:#}\n").into_bytes())
}

/// A line of `cargo tree -f '{p}|{l}'`: `serde v1.0.0 (proc-macro)|MIT OR Apache-2.0`, and ` (*)` where it was told before.
fn read(line: &str) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let licence = licence.trim_end_matches(" (*)").trim();
    Some(Crate { name: name.to_owned(), version: version.to_owned(), licence: licence.to_owned() })
}

/// The SHA-256 of each crate that came from the registry, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut all = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) = (value("name"), value("version"), value("checksum")) {
            all.insert((name, version), checksum);
        }
    }
    all
}

fn bill(name: &str, version: &str, crates: &BTreeSet<Crate>, checksums: &BTreeMap<(String, String), String>) -> Value {
    let component = |each: &Crate| {
        let mut component = json!({"type": "library", "name": each.name, "version": each.version});
        // What is ours is in no registry.
        if let Some(checksum) = checksums.get(&(each.name.clone(), each.version.clone())) {
            let url = format!("pkg:cargo/{}@{}", each.name, each.version);
            component["bom-ref"] = url.clone().into();
            component["purl"] = url.into();
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        if !each.licence.is_empty() {
            // Old manifests write a slash where SPDX has OR.
            component["licenses"] = json!([{"expression": each.licence.replace('/', " OR ")}]);
        }
        component
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": crates.iter().map(component).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_becomes_components_with_their_checksums() {
        let lines = [
            "sidewall-oci v0.1.0 (/somewhere/crates/oci)|Apache-2.0",
            "slab v0.4.2|MIT (*)",
            "x v1.0.0|MIT/Apache-2.0",
        ];
        let crates: BTreeSet<Crate> = lines.iter().map(|line| read(line).unwrap()).collect();
        let lock = "version = 4\n\n[[package]]\nname = \"slab\"\nversion = \"0.4.2\"\nsource = \"registry\"\nchecksum = \"abc\"\n\n\
                    [[package]]\nname = \"sidewall-oci\"\nversion = \"0.1.0\"\ndependencies = [\n \"slab\",\n]\n";
        let bill = bill("sidewall-agent", "0.1.0", &crates, &checksums(lock));
        assert_eq!(bill["metadata"]["component"]["name"], "sidewall-agent");
        let [ours, slab, x] = bill["components"].as_array().unwrap().as_slice() else { panic!("{bill}") };
        assert_eq!((&ours["name"], ours.get("purl")), (&json!("sidewall-oci"), None));
        assert_eq!(slab["purl"], "pkg:cargo/slab@0.4.2");
        assert_eq!(slab["hashes"][0]["content"], "abc");
        assert_eq!(slab["licenses"][0]["expression"], "MIT");
        assert_eq!(x["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }

    #[test]
    fn a_line_that_is_no_crate_is_not_guessed_at() {
        for line in ["", "[build-dependencies]", "slab", "slab 0.4.2|MIT", "slab v0.4.2"] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_agents_bill_has_what_the_agent_is_made_of() {
        let workspace = Workspace::find().unwrap();
        let target = crate::toolchain::static_target();
        let write = || of(&workspace, "sidewall-agent", "0.1.0", &["sidewall-agent", "sidewall-cni"], &target).unwrap();
        let bill = write();
        assert_eq!(bill, write());
        let bill: Value = serde_json::from_slice(&bill).unwrap();
        let components = bill["components"].as_array().unwrap();
        let names: BTreeSet<&str> = components.iter().filter_map(|component| component["name"].as_str()).collect();
        assert!(["sidewall-netfilter", "tokio", "rustls", "kube"].iter().all(|name| names.contains(name)), "{names:?}");
        // For tests, and at build time, only.
        assert!(["proptest", "insta", "clap_derive"].iter().all(|name| !names.contains(name)), "{names:?}");
        let registry = components.iter().filter(|component| component.get("purl").is_some());
        assert!(
            registry.clone().count() > 50
                && registry
                    .clone()
                    .all(|component| component["hashes"][0]["content"].as_str().is_some_and(|hash| hash.len() == 64))
        );
    }
}
