//! Notices that somebody changes something in the directories (`inotify(7)`).
//!
//! Watched are the directories themselves; every directory above them, for one that is not there yet, or is replaced; and
//! where links in the directory of configurations lead to.

use super::hands::Options;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use sidewall_cni::choose::is_configuration;
use sidewall_cni::entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most steps from link to link; the kernel goes no further either.
const LINKS_MAX: usize = 40;

/// What is of interest. Not each write: a file that is being written says nothing yet.
fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

/// Which names in a directory are of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    These(BTreeSet<OsString>),
}

impl Names {
    fn add(&mut self, other: &Names) {
        match (&mut *self, other) {
            (Names::These(all), Names::These(others)) => all.extend(others.iter().cloned()),
            _ => *self = Names::All,
        }
    }

    fn covers(&self, name: &OsStr) -> bool {
        match self {
            Names::All => true,
            Names::These(names) => names.contains(name),
        }
    }
}

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Somebody has changed something.
    News,
    /// Nothing.
    Nothing,
    /// It is time to end.
    End,
}

#[derive(Debug, Default)]
pub(super) struct Eyes {
    inotify: Option<Inotify>,
    /// What is watched, by the descriptors' numbers.
    watched: BTreeMap<i32, (WatchDescriptor, Names)>,
    /// What was said of not being able to.
    complained: bool,
}

impl Eyes {
    /// Watches what is to be watched now. Whether it can; a directory that is not there is watched by those above it.
    pub(super) fn turn_to(&mut self, options: &Options) -> bool {
        match self.watch(options) {
            Ok(()) => {
                self.complained = false;
                true
            }
            Err(error) => {
                if !self.complained {
                    tracing::warn!(
                        "can't watch {} and {}: {error}; changes are noticed a second late: raise the sysctls \
                         fs.inotify.max_user_instances and max_user_watches",
                        options.configuration_directory.display(),
                        options.program_directory.display()
                    );
                }
                self.complained = true;
                // What is left of it may be told of what is not watched any more.
                *self = Self { complained: true, ..Self::default() };
                false
            }
        }
    }

    fn watch(&mut self, options: &Options) -> io::Result<()> {
        let inotify = match self.inotify.take() {
            Some(inotify) => inotify,
            None => Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?,
        };
        let mut watched: BTreeMap<i32, (WatchDescriptor, Names)> = BTreeMap::new();
        for (directory, names) in wanted(options) {
            match inotify.add_watch(&directory, mask()) {
                Ok(descriptor) => {
                    let there = watched.entry(descriptor.as_raw()).or_insert_with(|| (descriptor, names.clone()));
                    there.1.add(&names);
                }
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (number, (descriptor, _)) in &self.watched {
            if !watched.contains_key(number) {
                // It may be gone already, with its directory.
                let _ = inotify.rm_watch(*descriptor);
            }
        }
        self.watched = watched;
        self.inotify = Some(inotify);
        Ok(())
    }

    /// Waits until somebody has changed something, but only so long.
    pub(super) fn see(&self, end: &EventFd, limit: Duration) -> Seen {
        let Some(inotify) = &self.inotify else { return rest(end, limit) };
        let deadline = Instant::now() + limit;
        loop {
            let mut waiting =
                [PollFd::new(end.as_fd(), PollFlags::POLLIN), PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, left(deadline)) {
                Ok(0) => return Seen::Nothing,
                Ok(_) if waiting[0].any() == Some(true) => return Seen::End,
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                // There is none that could be; whoever looks anew does no harm, but must not do it without a pause.
                Err(_) => return rest(end, limit),
            }
            let Ok(events) = inotify.read_events() else { continue };
            let is_news = |number: i32, name: Option<&OsStr>| match (self.watched.get(&number), name) {
                (Some((_, names)), Some(name)) => names.covers(name) && !is_passing(name),
                // The directory itself, or more than there was room for.
                _ => true,
            };
            if events.iter().any(|event| is_news(event.wd.as_raw(), event.name.as_deref())) {
                return Seen::News;
            }
        }
    }
}

/// Does nothing for a time.
pub(super) fn rest(end: &EventFd, time: Duration) -> Seen {
    let deadline = Instant::now() + time;
    loop {
        match poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], left(deadline)) {
            Ok(0) => return Seen::Nothing,
            Err(Errno::EINTR) => {}
            _ => return Seen::End,
        }
    }
}

/// The time until then, in whole milliseconds and not less.
fn left(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

/// A file of our own that will be renamed to what counts.
fn is_passing(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".sidewall"))
}

/// Which directories are to be watched, and what in them, from the top down: what comes to be while it is looked at is then
/// noticed in the directory above.
fn wanted(options: &Options) -> Vec<(PathBuf, Names)> {
    let only = |name: &OsStr| Names::These([name.to_owned()].into());
    let mut wanted = Vec::new();
    let directories =
        [(&options.program_directory, only(OsStr::new(entry::TYPE))), (&options.configuration_directory, Names::All)];
    for (directory, names) in directories {
        let mut above: Vec<_> = directory.ancestors().collect();
        above.reverse();
        for pair in above.windows(2) {
            if let Some(name) = pair[1].file_name() {
                wanted.push((pair[0].to_owned(), only(name)));
            }
        }
        wanted.push((directory.clone(), names));
    }
    for link in links(&options.configuration_directory) {
        let mut at = link;
        for _ in 0..LINKS_MAX {
            let Ok(to) = fs::read_link(&at) else { break };
            // `join` takes an absolute path as it is.
            at = at.parent().unwrap_or(Path::new("/")).join(to);
            if let (Some(directory), Some(name)) = (at.parent(), at.file_name()) {
                wanted.push((directory.to_owned(), only(name)));
            }
        }
    }
    wanted
}

/// The configurations that are links.
fn links(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_link = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_symlink()) && is_configuration(&entry.file_name().to_string_lossy())
    };
    entries.flatten().filter(is_link).take(sidewall_cni::install::FILES_MAX).map(|entry| entry.path()).collect()
}
