//! The one thread that forks processes which are to die with this one.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use crate::error::{Error, Result};
use crate::launch::Process;
use crate::ns::panic_text;

type Job = Box<dyn FnOnce() + Send>;

/// Runs `fork` on the lasting thread and waits for it.
pub(super) fn on_lasting_thread(fork: impl FnOnce() -> Result<Process> + Send + 'static) -> Result<Process> {
    static SPAWNER: OnceLock<Mutex<Option<Sender<Job>>>> = OnceLock::new();
    let (answer, wait) = channel();
    let job: Job = Box::new(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fork));
        // The caller below waits for this answer.
        let _ = answer.send(result);
    });
    {
        let mut spawner = SPAWNER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if spawner.is_none() {
            *spawner = Some(start()?);
        }
        let sent = spawner.as_ref().is_some_and(|s| s.send(job).is_ok());
        if !sent {
            return Err(gone());
        }
    }
    match wait.recv() {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Error::Panicked(panic_text(&*panic))),
        Err(_) => Err(gone()),
    }
}

fn start() -> Result<Sender<Job>> {
    let (jobs, queue) = channel::<Job>();
    thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            // The sender is static, so this never ends.
            for job in queue {
                job();
            }
        })
        .map_err(Error::Thread)?;
    Ok(jobs)
}

fn gone() -> Error {
    Error::Panicked("the thread that starts processes is gone".into())
}
