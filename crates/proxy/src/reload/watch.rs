//! Users and certificates that are watched: what has changed is read and checked as a whole; a bad version is refused with an
//! error in the log, and the old one stays.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{FileCounts, Files, Snapshot};

/// Takes over new contents, or says why not.
pub type Apply = Box<dyn FnMut(&[Zeroizing<Vec<u8>>]) -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// Some files that are watched together.
pub struct Watch {
    /// The fields that name them, each with what became of the files.
    what: Vec<(String, Arc<FileCounts>)>,
    files: Files,
    in_force: [u8; 32],
    /// The newest version is not the one in force.
    stale: bool,
    /// What was last said about them, so that it is said once.
    complaint: Option<String>,
    apply: Apply,
}

/// What a look at watched files found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing new.
    Same,
    /// A new version, which is in force now.
    Applied,
    /// What is in force is the newest version again, after one that was refused or could not be read.
    Restored,
    /// A new version that is refused (or no version): the old one stays. Says why.
    Refused(String),
}

impl Watch {
    /// Watches files from the version that is in force on.
    pub fn new(files: Vec<PathBuf>, from: &Snapshot, apply: Apply) -> Self {
        let files = Files::new(files, from);
        Self { what: Vec::new(), files, in_force: from.digest(), stale: false, complaint: None, apply }
    }

    /// By which names they are called in the log and in the metrics: the fields that name the files.
    pub fn call(&mut self, what: Vec<(String, Arc<FileCounts>)>) {
        for (_, counts) in &what {
            counts.is_now(self.stale);
        }
        self.what = what;
    }

    /// Looks at the files once.
    pub fn look(&mut self) -> Found {
        let found = match self.files.look() {
            Ok(Some(new)) if new.digest() == self.in_force => Found::Same,
            Ok(Some(new)) => match (self.apply)(&new.contents) {
                Ok(()) => {
                    self.in_force = new.digest();
                    Found::Applied
                }
                Err(error) => Found::Refused(error.to_string()),
            },
            Ok(None) => Found::Same,
            Err(error) => Found::Refused(error.to_string()),
        };
        match found {
            Found::Same if self.stale && self.files.digest() == self.in_force => {
                self.stale = false;
                Found::Restored
            }
            Found::Applied => {
                self.stale = false;
                found
            }
            Found::Refused(_) => {
                self.stale = true;
                found
            }
            found => found,
        }
    }

    /// The same, told in the log and in the metrics.
    pub fn look_and_tell(&mut self) {
        let found = self.look();
        if found == Found::Same {
            return;
        }
        let what = self.what.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>().join(", ");
        let files = self.files.names();
        let counts = || self.what.iter().map(|(_, counts)| counts);
        match found {
            Found::Same => {}
            Found::Applied => {
                self.complaint = None;
                counts().for_each(|counts| counts.was_applied());
                tracing::info!(what, files, "the new version is in force");
            }
            Found::Restored => {
                self.complaint = None;
                counts().for_each(|counts| counts.is_now(false));
                tracing::info!(what, files, "the version in force is the newest again");
            }
            Found::Refused(why) => {
                if self.complaint.as_ref() != Some(&why) {
                    counts().for_each(|counts| counts.was_refused());
                    tracing::error!(what, files, why, "the new version is refused; the old one stays");
                    self.complaint = Some(why);
                }
            }
        }
    }
}
