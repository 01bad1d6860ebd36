//! Waiting for something to become true.

use std::time::{Duration, Instant};

use crate::error::{BedError, Result};

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `look` until it gives a value. `Err` of the inner result says what was seen instead; the last one is in the error.
///
/// # Errors
/// [`BedError::Late`] after `limit`, and whatever error `look` gives up with.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match look()? {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() > limit => return Err(BedError::Late { what: what.into(), limit, last }),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
