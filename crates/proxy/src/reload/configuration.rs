//! The configuration file, watched: a new version is read, everything that it needs is prepared, and then it replaces the old
//! one as a whole. One that cannot be put in force changes nothing.
//!
//! ConfigMaps and Secrets reach a pod at different moments and in any order. A version that names a file which is not there
//! yet is refused for now and tried again once a second, as is one whose port is somebody else's; one that is wrong in itself
//! waits for the file to change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::counts::{CONFIGURATION, FileCounts, ReloadCounts};
use super::files::{Files, Snapshot};
use crate::config::LoadError;
use crate::fleet::Fleet;
use crate::phase::Phase;
use crate::prepare::{ConfigSource, Prepared, Refused, StartError, VersionError};
use crate::sources::Sources;
use crate::version::{Version, verifier};

/// A file that was changed is read when it has stayed as it is for so long: half a file may be a configuration, too.
const QUIET: Duration = Duration::from_millis(100);

/// The configuration in force, everything that belongs to it, and what might replace it.
pub struct Reloader {
    file: PathBuf,
    files: Files,
    in_force: [u8; 32],
    current: Arc<ArcSwap<Version>>,
    sources: Sources,
    fleet: Fleet,
    /// A version that was refused and might be put in force later.
    candidate: Option<Snapshot>,
    /// What was last said, so that it is said once.
    complaint: Option<String>,
    reloads: Arc<ReloadCounts>,
    counts: Arc<FileCounts>,
    phase: watch::Receiver<Phase>,
}

impl Reloader {
    /// Puts the first version in force, and is ready for the next.
    ///
    /// # Errors
    ///
    /// As of any version. What serves goes on to serve nothing.
    pub fn new(
        prepared: Prepared,
        mut fleet: Fleet,
        reloads: Arc<ReloadCounts>,
        phase: watch::Receiver<Phase>,
    ) -> Result<Self, VersionError> {
        let mut sources = Sources::default();
        let (version, source) =
            deploy(prepared, None, &mut fleet, &mut sources, &reloads).map_err(|refused| refused.error)?;
        let ConfigSource { file, snapshot, hash } = source;
        tracing::info!(what = CONFIGURATION, file = %file.display(), %hash, "the configuration is in force");
        let counts = reloads.of(CONFIGURATION);
        Ok(Self {
            files: Files::new(vec![file.clone()], &snapshot),
            file,
            in_force: snapshot.digest(),
            current: Arc::new(ArcSwap::new(version)),
            sources,
            fleet,
            candidate: None,
            complaint: None,
            reloads,
            counts,
            phase,
        })
    }

    /// The version in force, whichever that is when it is asked.
    pub fn current(&self) -> Arc<ArcSwap<Version>> {
        Arc::clone(&self.current)
    }

    /// Looks at all files once. `at_once` says that somebody has asked for it: then a file is taken as it is.
    pub fn look(&mut self, at_once: bool) {
        // First, so that files which the new version does not name are not missed any more.
        self.look_at_configuration(at_once);
        self.sources.look();
    }

    fn look_at_configuration(&mut self, at_once: bool) {
        if *self.phase.borrow() != Phase::Serving || (!at_once && self.files.are_being_written(QUIET)) {
            return;
        }
        match self.files.look() {
            Ok(Some(new)) => self.candidate = Some(new),
            Ok(None) => {}
            Err(error) => return self.refuse(&VersionError::Load(LoadError::Read(error))),
        }
        match self.candidate.take() {
            Some(new) if new.digest() != self.in_force => self.try_version(new),
            _ if self.files.digest() == self.in_force => self.restored(),
            _ => {}
        }
    }

    fn try_version(&mut self, snapshot: Snapshot) {
        let prepared = match Prepared::new(&self.file, snapshot, &self.sources) {
            Ok(prepared) => prepared,
            Err(refused) => return self.refused(*refused),
        };
        let before = self.current.load_full();
        match deploy(prepared, Some(&before), &mut self.fleet, &mut self.sources, &self.reloads) {
            Ok((version, source)) => {
                let (file, hash) = (self.file.display(), &version.hash);
                tracing::info!(what = CONFIGURATION, %file, %hash, before = %before.hash, "the new version is in force");
                self.in_force = source.snapshot.digest();
                self.current.store(version);
                self.counts.was_applied();
                self.complaint = None;
            }
            Err(refused) => self.refused(*refused),
        }
    }

    fn refused(&mut self, Refused { error, snapshot }: Refused) {
        self.refuse(&error);
        if error.may_heal() {
            self.candidate = Some(snapshot);
        }
    }

    fn refuse(&mut self, error: &VersionError) {
        let all = error.to_string();
        if self.complaint.as_ref() == Some(&all) {
            return;
        }
        self.counts.was_refused();
        let (file, in_force) = (self.file.display(), &self.current.load().hash);
        let tried_again = error.may_heal();
        // A line for every problem, so that each can be found.
        for why in all.lines() {
            tracing::error!(
                what = CONFIGURATION, %file, why, tried_again, %in_force, "the new version is refused; the old one stays"
            );
        }
        self.complaint = Some(all);
    }

    /// The file is again what is in force, after versions that were not.
    fn restored(&mut self) {
        if self.complaint.take().is_some() {
            self.counts.is_now(false);
            let (file, hash) = (self.file.display(), &self.current.load().hash);
            tracing::info!(what = CONFIGURATION, %file, %hash, "the version in force is the newest again");
        }
    }
}

/// Opens what a version needs, and puts it in force.
fn deploy(
    prepared: Prepared,
    before: Option<&Version>,
    fleet: &mut Fleet,
    sources: &mut Sources,
    reloads: &ReloadCounts,
) -> Result<(Arc<Version>, ConfigSource), Box<Refused>> {
    let Prepared { source, config, listeners, needs } = prepared;
    let equipped =
        verifier(&config.limits, before).and_then(|verifier| Ok::<_, StartError>((verifier, fleet.open(&config)?)));
    let (verifier, opened) = match equipped {
        Ok(equipped) => equipped,
        Err(error) => return Err(source.refused(error)),
    };
    // From here on nothing can fail.
    let version = Arc::new(Version { config, listeners, hash: source.hash.clone(), verifier });
    fleet.deploy(&version, opened);
    sources.adopt(needs, reloads);
    Ok((version, source))
}
