//! An attempt, and the denial counters beside it: whichever moves first.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use sidewall_netfilter::Kernel;
use sidewall_sandbox::prober::wire::Request;
use sidewall_sandbox::prober::{Connect, Outcome, Prober};

use crate::error::Error;

/// How often counters are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long an answer is still waited for after a counter moved, which may have been another's; and how long a datagram
/// may take to meet the rules.
const GRACE: Duration = Duration::from_millis(60);

/// What came of it.
pub struct Came {
    /// What the sender saw; none where it was still waiting when the answer was clear.
    pub outcome: Option<Outcome>,
    /// The denial counters that went up.
    pub denied: Vec<String>,
}

/// Connects. It is over when the sender is connected, when it has failed, or when a denial was counted and no connection
/// followed. Of a `silent` one no answer is expected at all.
///
/// # Errors
/// The probe ended, or the counters could not be read.
pub fn run(
    prober: &Prober,
    connect: Connect,
    silent: bool,
    mut denials: impl FnMut() -> Result<BTreeMap<String, u64>, Error>,
) -> Result<Came, Error> {
    let before = denials()?;
    let pending = prober.ask(Request::Connect(connect))?;
    let (tell, told) = channel();
    // It ends at the attempt's deadline, heard or not.
    thread::spawn(move || tell.send(pending.wait()));
    let begun = Instant::now();
    let mut since: Option<Instant> = None;
    loop {
        let outcome = match told.recv_timeout(LOOK) {
            Ok(outcome) => Some(outcome?),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) if silent => None,
            Err(RecvTimeoutError::Disconnected) => Some(Outcome::Timeout),
        };
        if !silent && matches!(outcome, Some(Outcome::Connected { .. })) {
            return Ok(Came { outcome, denied: Vec::new() });
        }
        let denied = moved(&before, &denials()?);
        if !denied.is_empty() {
            since.get_or_insert_with(Instant::now);
        }
        let over = match since {
            _ if silent => begun.elapsed() > GRACE,
            Some(since) => outcome.is_some() || since.elapsed() > GRACE,
            None => outcome.is_some(),
        };
        if over {
            return Ok(Came { outcome, denied });
        }
    }
}

/// How often each place of a pod's rules has denied something.
///
/// # Errors
/// [`Error::Netlink`].
pub fn denials(kernel: &mut Kernel) -> Result<BTreeMap<String, u64>, Error> {
    /// ENOENT, `errno(3)`: there is no table, so nothing is denied.
    const NO_TABLE: i32 = 2;
    match kernel.counters() {
        Ok(counters) => Ok(counters
            .into_iter()
            .filter(|(name, _)| name.starts_with("deny/"))
            .map(|(name, count)| (name, count.packets))
            .collect()),
        Err(error) if error.code() == Some(NO_TABLE) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// A duration as the probes count it.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn moved(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<String> {
    after
        .iter()
        .filter(|(name, count)| before.get(*name).unwrap_or(&0) != *count)
        .map(|(name, _)| name.clone())
        .collect()
}
