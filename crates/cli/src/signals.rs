//! SIGINT and SIGTERM.

use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Error;

/// Calls `on_signal` with how many of SIGINT, SIGTERM and SIGHUP have come, each time one does.
///
/// # Errors
/// [`Error::System`].
pub fn watch(on_signal: impl Fn(usize) + Send + 'static) -> Result<(), Error> {
    let system = |action| move |source| Error::System { action, source };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(system("catch signals"))?;
    let run = move || signals.forever().enumerate().for_each(|(before, _)| on_signal(before + 1));
    thread::Builder::new().name("signals".into()).spawn(run).map_err(system("start a thread"))?;
    Ok(())
}
