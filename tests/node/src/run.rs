//! How a run of tests goes: one cluster at a time, and short or long.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One cluster at a time: two would only make each other slow.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether tests that can go on for long are to do so: `SIDEWALL_LONG` is set, and not to nothing.
pub fn long() -> bool {
    std::env::var_os("SIDEWALL_LONG").is_some_and(|value| !value.is_empty())
}
