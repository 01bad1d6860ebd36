//! Takes what a subscription gives somewhere, on a thread of its own.

use crate::hub::{Next, Subscription};
use sidewall_flow::Record;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long the thread may take to see that it should end.
const PATIENCE: Duration = Duration::from_millis(200);

/// Takes records somewhere until it is dropped. What waits by then is still taken.
#[derive(Debug)]
pub struct Drain {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drain {
    /// Calls `take` with every record; `take` may wait, and loses records while it does. Its first failure of a row is
    /// logged; what failed is not tried again.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start<E: std::fmt::Display>(
        subscription: Subscription,
        mut take: impl FnMut(&Record) -> Result<(), E> + Send + 'static,
    ) -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let run = move || {
            let mut failing = false;
            loop {
                // First: what was published before the end was asked for is in the queue then.
                let last = until.load(Ordering::Acquire);
                match subscription.next(if last { Duration::ZERO } else { PATIENCE }) {
                    Next::Record(record) => match take(&record) {
                        Ok(()) => failing = false,
                        Err(error) if !failing => {
                            failing = true;
                            tracing::error!(%error, "flow records are not written");
                        }
                        Err(_) => {}
                    },
                    Next::Nothing if !last => {}
                    Next::Nothing | Next::Ended => return,
                }
            }
        };
        let thread = thread::Builder::new().name("flow-drain".into()).spawn(run)?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}
