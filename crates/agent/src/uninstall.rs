//! Takes away from a node everything that the agent ever made there.

use crate::config::Config;
use crate::installer;
use sidewall_cni::install::read;
use sidewall_cni::plan;
use sidewall_netfilter::Kernel;
use sidewall_netns::{NetNs, NsId};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Takes everything away, and says what. In this order: the plugin's entries, so that no pod asks an agent that is gone; rules;
/// what was remembered; the plugin itself, which DEL of pods that run may still need until its entries are out of the
/// runtime's cache, last.
///
/// # Errors
/// Where something can't be taken away. The rest is.
pub fn uninstall(config: &Config, keep_rules: bool, dry_run: bool) -> anyhow::Result<()> {
    if UnixStream::connect(&config.paths.cni_socket).is_ok() {
        anyhow::bail!(
            "an agent runs on this node, and would put everything back: end it first (delete its DaemonSet, or send it SIGTERM)"
        );
    }
    let mut problems = Vec::new();
    let mut remove = Removal { dry_run, problems: &mut problems };
    remove.entries(config);
    if !keep_rules {
        remove.rules();
    }
    let paths = &config.paths;
    remove.tree(&paths.memory);
    for file in [&paths.cni_state, &paths.cni_socket, &paths.flow_socket] {
        remove.file(file);
    }
    remove.file(&config.cni.program_directory.join(sidewall_cni::entry::TYPE));
    for directory in [&paths.memory, &paths.cni_state, &paths.cni_socket].into_iter().filter_map(|path| path.parent()) {
        remove.empty_directory(directory);
    }
    match problems.len() {
        0 => Ok(()),
        number => {
            problems.iter().for_each(|problem| eprintln!("sidewall-agent: {problem}"));
            anyhow::bail!("{number} things could not be taken away; run it again when that is mended")
        }
    }
}

struct Removal<'a> {
    dry_run: bool,
    problems: &'a mut Vec<String>,
}

impl Removal<'_> {
    fn say(&self, what: &str) {
        println!("{}{what}", if self.dry_run { "would be " } else { "" });
    }

    fn entries(&mut self, config: &Config) {
        let directory = &config.cni.configuration_directory;
        if self.dry_run {
            match read(directory) {
                Ok(files) => plan::uninstall(&files)
                    .steps
                    .iter()
                    .for_each(|step| self.say(&format!("restored: {}", directory.join(&step.name).display()))),
                Err(error) => self.problems.push(error.to_string()),
            }
            return;
        }
        match installer::uninstall(&config.installation()) {
            Ok(changed) => changed.iter().for_each(|path| self.say(&format!("restored: {}", path.display()))),
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    /// Our tables in every network namespace of the node, wherever a process or a mount still leads there.
    fn rules(&mut self) {
        let own = NetNs::current().map(|netns| netns.id()).ok();
        for (id, netns) in namespaces() {
            if Some(id) == own {
                continue;
            }
            let result = Kernel::open(&netns).map_err(|error| error.to_string()).and_then(|mut kernel| {
                if !kernel.has_tables().map_err(|error| error.to_string())? {
                    return Ok(false);
                }
                if !self.dry_run {
                    kernel.unload().map_err(|error| error.to_string())?;
                }
                Ok(true)
            });
            match result {
                Ok(true) => self.say(&format!("removed: the rules in the network namespace {id}")),
                Ok(false) => {}
                Err(error) => self.problems.push(format!("the network namespace {id}: {error}")),
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if fs::symlink_metadata(path).is_err() {
            return;
        }
        self.say(&format!("removed: {}", path.display()));
        if !self.dry_run {
            self.check(path, fs::remove_file(path));
        }
    }

    fn tree(&mut self, path: &Path) {
        if !path.is_dir() {
            return;
        }
        self.say(&format!("removed: {}", path.display()));
        if !self.dry_run {
            self.check(path, fs::remove_dir_all(path));
        }
    }

    /// Somebody else's directory stays where it has anything of his.
    fn empty_directory(&mut self, path: &Path) {
        if !self.dry_run && fs::remove_dir(path).is_ok() {
            self.say(&format!("removed: {}", path.display()));
        }
    }

    fn check(&mut self, path: &Path, result: io::Result<()>) {
        if let Err(error) = result
            && error.kind() != io::ErrorKind::NotFound
        {
            self.problems.push(format!("{} stays: {error}", path.display()));
        }
    }
}

/// Every network namespace that a process or a named mount leads to.
fn namespaces() -> BTreeMap<NsId, NetNs> {
    let named = ["/run/netns", "/var/run/netns"].into_iter().filter_map(|directory| fs::read_dir(directory).ok());
    let named = named.flatten().filter_map(Result::ok).map(|entry| entry.path());
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).filter_map(|entry| {
        let number = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        number.then(|| entry.path().join("ns/net"))
    });
    let paths: Vec<PathBuf> = named.chain(processes).collect();
    let mut all = BTreeMap::new();
    for path in paths {
        // Most processes share the node's own; a descriptor is kept for each namespace once.
        if let Ok(netns) = NetNs::from_path(&path) {
            all.entry(netns.id()).or_insert(netns);
        }
    }
    all
}
