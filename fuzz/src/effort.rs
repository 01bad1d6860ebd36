//! How long a target runs.

use std::time::Duration;

/// In every test run.
const SHORT: Duration = Duration::from_secs(5);
/// With `SIDEWALL_LONG=1`.
const LONG: Duration = Duration::from_secs(300);

/// How long one target runs: some seconds, or some minutes with `SIDEWALL_LONG=1` in the environment.
///
/// `BOLERO_RANDOM_TEST_TIME_MS` overrides it.
pub fn time() -> Duration {
    if std::env::var_os("SIDEWALL_LONG").is_some_and(|value| value == "1") { LONG } else { SHORT }
}
