//! One look at the directories, and what it finds to do. Blocking: files are written down to the disk.

use super::state::{Installed, InstallerError, Network};
use sidewall_cni::entry::{self, Entry};
use sidewall_cni::install::{self, InstallError};
use sidewall_cni::plan::{self, Chained, Files, Plan, Skipped};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a file that can't be read may be one that is just being written.
pub(super) const SETTLE: Duration = Duration::from_millis(50);
/// How often at most a file that can't be read is thought to be one that is just being written.
const UNSETTLED_MAX: u32 = 10;
/// How often an [`uninstall`] begins again that somebody gets in the way of, and the pause in between.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Where what is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The runtime's directory of network configurations.
    pub configuration_directory: PathBuf,
    /// The directory in which it looks for plugins.
    pub program_directory: PathBuf,
    /// The plugin, where it is taken from.
    pub program: PathBuf,
    /// The plugin's settings.
    pub entry: Entry,
}

impl Options {
    /// Where the program is put.
    pub fn target(&self) -> PathBuf {
        self.program_directory.join(entry::TYPE)
    }
}

fn directory_failed(source: InstallError) -> InstallerError {
    InstallerError::Directory { source }
}

/// What a look has found.
#[derive(Debug)]
pub(super) enum Found {
    /// Everything is as it should be.
    Stands(Installed),
    /// Something was not, and is now.
    Changed(Installed),
    /// Something is not, but is not to be changed yet.
    Held(Installed),
    /// A file can't be read, or not be understood: it may be one that is just being written.
    Unsettled,
    /// Somebody else changed a file just then.
    Outrun,
    /// It can't be done.
    Failed(InstallerError),
}

#[derive(Debug)]
pub(super) struct Hands {
    options: Options,
    /// The program's source and its place when the one was last found to be like the other.
    placed: Option<(Print, Print)>,
    /// What could not be understood at the last look.
    unsettled: Option<Unsettled>,
}

#[derive(Debug)]
struct Unsettled {
    files: Files,
    since: Instant,
    /// How often they were others before, none of which could be understood.
    changes: u32,
}

impl Hands {
    pub(super) fn new(options: Options) -> Self {
        Self { options, placed: None, unsettled: None }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Looks, and changes what has to be changed if it `may`.
    pub(super) fn work(&mut self, may: bool) -> Found {
        self.look(may).unwrap_or_else(Found::Failed)
    }

    fn look(&mut self, may: bool) -> Result<Found, InstallerError> {
        let mut notes = Vec::new();
        // The program first: a chain that names one which is not there keeps every pod from starting. An older one will do.
        if let Err(error) = self.place() {
            if !is_program(&self.options.target()) {
                return Err(error);
            }
            notes.push(format!("the program there is another one than this agent's: {error}"));
        }
        let directory = &self.options.configuration_directory.clone();
        let files = install::read(directory).map_err(directory_failed)?;
        let plan = plan::install(&files, &self.options.entry);
        let clear = plan.as_ref().is_ok_and(|plan| plan.skipped.is_empty() || plan.steps.is_empty());
        if !clear && !self.has_settled(&files) {
            return Ok(Found::Unsettled);
        }
        if clear {
            self.unsettled = None;
        }
        let plan = plan.map_err(|source| InstallerError::Chain { directory: directory.clone(), source })?;
        notes.extend(plan.skipped.iter().map(|skipped| left(directory, skipped)));
        let installed =
            Installed { networks: plan.chained.iter().map(|chained| network(directory, chained)).collect(), notes };
        if plan.steps.is_empty() {
            return Ok(Found::Stands(installed));
        }
        if !may {
            return Ok(Found::Held(installed));
        }
        match install::apply(directory, &plan) {
            Ok(()) => Ok(Found::Changed(installed)),
            Err(InstallError::Changed(_)) => Ok(Found::Outrun),
            Err(source) => Err(directory_failed(source)),
        }
    }

    /// Whether what can't be understood has been the same for a while, so that it is no file that is just being written.
    fn has_settled(&mut self, files: &Files) -> bool {
        let (since, changes) = match &self.unsettled {
            Some(Unsettled { files: before, since, changes }) if before == files => (*since, *changes),
            Some(Unsettled { changes, .. }) => (Instant::now(), changes + 1),
            None => (Instant::now(), 0),
        };
        let settled = since.elapsed() >= SETTLE || changes >= UNSETTLED_MAX;
        self.unsettled = Some(Unsettled { files: files.clone(), since, changes: if settled { 0 } else { changes } });
        settled
    }

    /// Puts the program in place. Both files are read only when one of them is another than the last time.
    fn place(&mut self) -> Result<(), InstallerError> {
        let target = self.options.target();
        // Before they are read: who changes one after that gives it another print.
        let prints = Print::of(&self.options.program).zip(Print::of(&target));
        if prints.is_some() && self.placed == prints {
            return Ok(());
        }
        let fresh = install::place_program(&self.options.program, &self.options.program_directory)
            .map_err(|source| InstallerError::Program { source })?;
        if fresh {
            tracing::info!("put the CNI plugin into {}", target.display());
        }
        // What was put there just now may already be another's: that is seen at the next look.
        self.placed = prints.filter(|_| !fresh);
        Ok(())
    }
}

/// By what one sees that a file is another, or says something else: device, inode, mode, size, times of content and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print([i64; 6], u64, u64);

impl Print {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path).ok()?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Some(Self(
            [times[0], times[1], times[2], times[3], i64::from(meta.mode()), meta.size().cast_signed()],
            meta.dev(),
            meta.ino(),
        ))
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.size() > 0 && meta.mode() & 0o111 != 0)
}

fn network(directory: &Path, chained: &Chained) -> Network {
    let Chained { file, network, behind } = chained;
    Network { file: directory.join(file), name: network.clone(), behind: behind.clone() }
}

fn left(directory: &Path, skipped: &Skipped) -> String {
    format!("{} is left as it is: {}", directory.join(&skipped.file).display(), skipped.why)
}

/// Takes the plugin out of every chain, and says which files were changed. The program stays: runtimes remember the chains
/// of running pods, and need it when those end (see [`sidewall_cni`]).
///
/// No agent may be running that would put it back.
///
/// # Errors
/// [`InstallerError`]. Run it again when that is mended.
pub fn uninstall(options: &Options) -> Result<Vec<PathBuf>, InstallerError> {
    let directory = &options.configuration_directory;
    let mut changed = Vec::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(PAUSE);
        }
        let files = install::read(directory).map_err(directory_failed)?;
        let Plan { steps, skipped, .. } = plan::uninstall(&files);
        let done = steps.is_empty();
        // What can't be read, or does not even name it, does not have it.
        let may_have = |name: &str| matches!(files.get(name), Some(Ok(text)) if text.contains(entry::TYPE));
        let skipped: Vec<_> = skipped.into_iter().filter(|skipped| may_have(&skipped.file)).collect();
        let paths: Vec<_> = steps.iter().map(|step| directory.join(&step.name)).collect();
        match install::apply(directory, &Plan { steps, ..Plan::default() }) {
            Ok(()) => {}
            Err(InstallError::Changed(_)) => continue,
            Err(source) => return Err(directory_failed(source)),
        }
        changed.extend(paths);
        // What can't be read may be one that is just being written.
        if done && (skipped.is_empty() || attempt >= UNSETTLED_MAX) {
            changed.sort();
            changed.dedup();
            let files: Vec<_> = skipped.iter().map(|skipped| left(directory, skipped)).collect();
            return if files.is_empty() { Ok(changed) } else { Err(InstallerError::Left { files }) };
        }
    }
    Err(InstallerError::Restless { directory: directory.clone(), attempts: ATTEMPTS })
}
