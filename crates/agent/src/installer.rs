//! Puts the CNI plugin into the pods' network chain, and keeps it there.
//!
//! The chain is somebody else's file: a network plugin's installer writes it when it starts, when it is upgraded, some
//! whenever it differs from what they want. While our entry is missing, pods start without their guard. So the
//! directory is watched, what was rewritten is put right within milliseconds, and who fights over it is told of.
//!
//! What has to change is decided by [`sidewall_cni::plan`]; here it is carried out, again and again.

mod eyes;
mod hands;
mod state;

pub use hands::{Options, uninstall};
pub use state::{Installed, InstallerError, InstallerState, InstallerStatus, Network};

use eyes::{Eyes, Seen};
use hands::{Found, Hands, SETTLE};
use nix::sys::eventfd::{EfdFlags, EventFd};
use sidewall_cni::contest::Contest;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How often everything is looked at though nothing was noticed.
const RECHECK: Duration = Duration::from_secs(10);
/// The same where the directories can't be watched.
const BLIND: Duration = Duration::from_secs(1);
/// The shortest time between two looks: somebody may write without a pause.
const BREATH: Duration = Duration::from_millis(5);

/// Keeps the plugin in the pods' chain as long as it [runs](Installer::run).
#[derive(Debug)]
pub struct Installer {
    hands: Hands,
    status: watch::Sender<InstallerStatus>,
}

impl Installer {
    /// An installer that does nothing yet.
    pub fn new(options: Options) -> Self {
        Self { hands: Hands::new(options), status: watch::Sender::new(InstallerStatus::default()) }
    }

    /// How it stands, from now on.
    pub fn status(&self) -> watch::Receiver<InstallerStatus> {
        self.status.subscribe()
    }

    /// Installs the plugin, and puts it right whenever somebody changes something, until `stop`. What is installed then
    /// stays: without the agent pods wait, and do not start without walls.
    ///
    /// The work is done on a thread of its own: it waits for the disk.
    ///
    /// # Errors
    /// The system's, where it has no thread or no descriptor left.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (ended, has_ended) = oneshot::channel::<()>();
        let told = End(end.clone());
        thread::Builder::new().name("installer".into()).spawn(move || {
            keep(self.hands, &self.status, &end);
            // Dropped, which says it, when this ends in whatever way.
            drop(ended);
        })?;
        tokio::pin!(has_ended);
        tokio::select! {
            () = stop => {}
            _ = &mut has_ended => return Ok(()),
        }
        drop(told);
        let _ = has_ended.await;
        Ok(())
    }
}

/// Ends the thread when it is dropped.
struct End(Arc<EventFd>);

impl Drop for End {
    fn drop(&mut self) {
        // It can only fail where it has been written 2⁶⁴ times.
        let _ = self.0.write(1);
    }
}

fn keep(mut hands: Hands, status: &watch::Sender<InstallerStatus>, end: &EventFd) {
    let (mut eyes, mut contest) = (Eyes::default(), Contest::default());
    loop {
        // First the watch, then the look: what changes from now on is noticed, whatever is seen.
        let sees = eyes.turn_to(hands.options());
        let begun = Instant::now();
        let wait = contest.wait(begun);
        let found = hands.work(wait.is_zero());
        let contested = contest.is_contested(Instant::now());
        let rest = match found {
            Found::Stands(installed) => {
                let state = if contested { InstallerState::Contested } else { InstallerState::Installed };
                publish(status, state(installed));
                Rest::Watch(RECHECK)
            }
            Found::Changed(changed) => {
                contest.changed(Instant::now());
                tracing::info!("put sidewall-cni into the chain: {changed}");
                status.send_modify(|status| status.changes += 1);
                Rest::Wait(Duration::ZERO)
            }
            Found::Held(installed) => {
                publish(status, InstallerState::Contested(installed));
                Rest::Wait(wait)
            }
            Found::Unsettled => Rest::Watch(SETTLE),
            Found::Outrun => Rest::Wait(BREATH),
            Found::Failed(error) => {
                publish(status, InstallerState::NotInstalled { reason: error.to_string() });
                Rest::Watch(RECHECK)
            }
        };
        let seen = match rest {
            Rest::Wait(time) => eyes::rest(end, time),
            Rest::Watch(time) => match eyes.see(end, if sees { time } else { time.min(BLIND) }) {
                Seen::End => Seen::End,
                _ => eyes::rest(end, BREATH.saturating_sub(begun.elapsed())),
            },
        };
        if seen == Seen::End {
            return;
        }
    }
}

/// What to do until the next look.
enum Rest {
    /// Nothing.
    Wait(Duration),
    /// Wait for something to change.
    Watch(Duration),
}

fn publish(status: &watch::Sender<InstallerStatus>, state: InstallerState) {
    status.send_if_modified(|status| {
        if status.state == state {
            return false;
        }
        match &state {
            InstallerState::Installed(_) | InstallerState::Starting => tracing::info!("CNI plugin: {state}"),
            InstallerState::Contested(_) | InstallerState::NotInstalled { .. } => tracing::warn!("CNI plugin: {state}"),
        }
        status.state = state;
        true
    });
}

#[cfg(test)]
mod tests;
