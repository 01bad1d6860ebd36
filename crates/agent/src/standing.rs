//! Leaves on the node, for the time without an agent, which namespaces need no walls.

use sidewall_cni::names::Namespace;
use sidewall_cni::state::{Standing, State};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// The wait after the file could not be written.
const PAUSE: Duration = Duration::from_secs(5);

/// How every namespace stands.
pub type All = BTreeMap<Namespace, Standing>;

/// Where it is said how namespaces stand; the newest is written. Saying it does not wait.
#[derive(Debug)]
pub struct Standings(watch::Sender<Option<All>>);

impl Standings {
    /// Begins to write to a file. Must be called inside a Tokio runtime.
    pub fn start(path: PathBuf) -> Self {
        let (to, from) = watch::channel(None);
        tokio::spawn(write(path, from));
        Self(to)
    }

    /// Says how all namespaces stand now.
    pub fn put(&self, all: All) {
        self.0.send_if_modified(|now| {
            let other = now.as_ref() != Some(&all);
            *now = Some(all);
            other
        });
    }
}

async fn write(path: PathBuf, mut from: watch::Receiver<Option<All>>) {
    while from.changed().await.is_ok() {
        loop {
            let Some(all) = from.borrow_and_update().clone() else { break };
            let to = path.clone();
            let written = tokio::task::spawn_blocking(move || State::new(all).write(&to)).await;
            match written {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::error!("pods could not start without the agent where nothing selects them: {error}");
                }
                Err(_) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
