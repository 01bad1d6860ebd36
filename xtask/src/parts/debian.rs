//! Debian packages, downloaded and unpacked into the cache; nothing is installed, and the machine's own lists stay as they are.

use std::path::{Path, PathBuf};

use super::{PartsError, at_once, in_one_of};
use crate::cache;
use crate::command;
use crate::packages::{self, Need};
use crate::report;

#[cfg(test)]
mod tests;

/// Packages that are unpacked together.
#[derive(Debug)]
pub struct Set {
    /// The folder in the cache; a new number when the list below changes.
    name: &'static str,
    /// From the machine's own release.
    own: &'static [&'static str],
    /// From the release [`LATER`].
    later: &'static [&'static str],
    /// Programs that tests look for.
    programs: &'static [&'static str],
    /// Where in the packages they are.
    folders: &'static [&'static str],
}

/// The release whose containerd knows NRI (Debian 12 has 1.6, which does not), and whose etcd and Go are as new as
/// Kubernetes asks. Its programs run on Debian 12; its runc would not.
const LATER: &str = "trixie";

/// What a node runs.
pub const NODE: &Set = &Set {
    name: "node-1",
    own: &["runc", "containernetworking-plugins", "busybox-static"],
    later: &["containerd"],
    programs: &["containerd", "containerd-shim-runc-v2", "ctr", "runc", "bridge", "host-local", "loopback", "busybox"],
    folders: &["usr/bin", "usr/sbin", "usr/lib/cni", "bin"],
};

/// What the API server keeps its objects in.
pub const ETCD: &Set =
    &Set { name: "etcd-1", own: &[], later: &["etcd-server"], programs: &["etcd"], folders: &["usr/bin"] };

/// The Go toolchain, for machines that have none that is new enough.
pub const GO: &Set = &Set {
    name: "go-1.24",
    own: &[],
    later: &["golang-1.24-go", "golang-1.24-src"],
    programs: &["go"],
    folders: &["usr/lib/go-1.24/bin"],
};

/// What unpacking takes.
const TOOLS: &[Need] = &[Need { program: "apt-get", package: "apt" }, Need { program: "dpkg-deb", package: "dpkg" }];

/// The folders with the set's programs; none when the given folders have them all.
pub fn ensure(given: &[PathBuf], set: &Set) -> Result<Vec<PathBuf>, PartsError> {
    if set.programs.iter().all(|program| in_one_of(given, program)) {
        return Ok(Vec::new());
    }
    let root = cache::tool(set.name)?;
    if !root.is_dir() {
        packages::ensure(TOOLS)?;
        let names = [set.own, set.later].concat().join(" ");
        report::step(&format!("unpack the packages {names} into {} (once)", root.display()));
        at_once(&root, |folder| {
            download(&folder.join("own"), set.own, None)?;
            download(&folder.join("later"), set.later, Some(&later()?))?;
            unpack(folder)
        })?;
    }
    let folders: Vec<PathBuf> = set.folders.iter().map(|name| root.join(name)).filter(|path| path.is_dir()).collect();
    match set.programs.iter().find(|program| !in_one_of(&folders, program)) {
        None => Ok(folders),
        Some(program) => Err(PartsError::Missing {
            packages: format!("{} in {}", [set.own, set.later].concat().join(" "), root.display()),
            program: (*program).to_owned(),
        }),
    }
}

/// Downloads packages into the folder, with lists and caches of its own. `source` is a deb822 stanza in place of the
/// machine's sources.
fn download(folder: &Path, names: &[&str], source: Option<&str>) -> Result<(), PartsError> {
    if names.is_empty() {
        return Ok(());
    }
    let (lists, parts) = (folder.join("lists"), folder.join("sources"));
    for made in [&lists.join("partial"), &parts] {
        std::fs::create_dir_all(made).map_err(PartsError::file("make", made))?;
    }
    let mut options = vec![
        format!("-oDir::State::Lists={}", lists.display()),
        "-oDir::Cache::pkgcache=".into(),
        "-oDir::Cache::srcpkgcache=".into(),
        "-oAcquire::Languages=none".into(),
        "-oAcquire::Retries=3".into(),
        // The folder belongs to whoever runs this, so apt's own user could not write there.
        "-oAPT::Sandbox::User=root".into(),
        "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
    ];
    if let Some(stanza) = source {
        let path = parts.join("later.sources");
        std::fs::write(&path, stanza).map_err(PartsError::file("write", &path))?;
        options.push("-oDir::Etc::sourcelist=/dev/null".into());
        options.push(format!("-oDir::Etc::sourceparts={}", parts.display()));
    }
    let apt = |words: &[&str]| {
        let mut apt = command::program("apt-get");
        apt.arg("-qq").args(&options).args(words).current_dir(folder).stdout(std::io::stderr());
        apt
    };
    command::run(&mut apt(&["update"]))?;
    Ok(command::run(apt(&["download"]).args(names))?)
}

/// Unpacks what was downloaded below the folder into it, and removes the packages.
fn unpack(folder: &Path) -> Result<(), PartsError> {
    for from in ["own", "later"].map(|name| folder.join(name)).iter().filter(|from| from.is_dir()) {
        for entry in std::fs::read_dir(from).map_err(PartsError::file("read", from))? {
            let path = entry.map_err(PartsError::file("read", from))?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                command::run(command::program("dpkg-deb").arg("-x").arg(&path).arg(folder))?;
            }
        }
        std::fs::remove_dir_all(from).map_err(PartsError::file("remove", from))?;
    }
    Ok(())
}

/// The machine's own Debian archive with the later release.
fn later() -> Result<String, PartsError> {
    let mut files = Vec::new();
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let named = |path: &PathBuf| path.extension().is_some_and(|end| end == "sources" || end == "list");
        files.extend(entries.flatten().map(|entry| entry.path()).filter(named));
        files.sort();
    }
    files.push("/etc/apt/sources.list".into());
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.into_iter().find_map(|text| archive(&text)).ok_or(PartsError::NoArchive)
}

/// The first Debian archive that a sources file names, in either of apt's formats (sources.list(5)), as a stanza for [`LATER`].
fn archive(text: &str) -> Option<String> {
    let stanza = |uri: &str, signed: &str| {
        let signed = if signed.is_empty() { String::new() } else { format!("Signed-By: {signed}\n") };
        format!("Types: deb\nURIs: {uri}\nSuites: {LATER}\nComponents: main\n{signed}")
    };
    // Security updates have an archive of their own, which has no packages that were never updated.
    let main = |uri: &str| uri.trim_end_matches('/').ends_with("/debian");
    for part in text.split("\n\n") {
        let field = |name: &str| part.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let types = field("Types:").split_ascii_whitespace().any(|kind| kind == "deb");
        if let Some(uri) = field("URIs:").split_ascii_whitespace().find(|uri| types && main(uri)) {
            return Some(stanza(uri, field("Signed-By:")));
        }
    }
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let rest = rest.trim();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let signed = options.split_ascii_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        if let Some(uri) = rest.split_ascii_whitespace().next().filter(|uri| main(uri)) {
            return Some(stanza(uri, signed.unwrap_or_default()));
        }
    }
    None
}
