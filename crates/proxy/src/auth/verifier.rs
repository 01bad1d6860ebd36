//! Hashing passwords away from the threads that serve requests.
//!
//! A bcrypt hash takes a tenth of a second of a core on purpose, and whoever sends a wrong password makes us spend it.
//! So the number of hashes at a time is bounded (the threads), the number of requests that wait is bounded (then they
//! are told to come again), and many requests with the same credential wait for one hash.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::CredentialId;
use crate::htpasswd::Users;
use crate::secret::Password;

/// Too many requests wait for a password hash already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be verified")]
pub struct Busy;

/// A few threads that verify passwords, for the whole process. They end when the last handle is dropped.
pub struct Verifier {
    shared: Arc<Shared>,
    most_waiting: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    hashed: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Who waits for which credential, the first of them too.
    waiting: HashMap<CredentialId, Vec<oneshot::Sender<bool>>>,
    /// How many wait in all.
    waiters: usize,
    closed: bool,
}

struct Job {
    id: CredentialId,
    users: Arc<Users>,
    name: String,
    password: Password,
    pick: u64,
}

impl Verifier {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(threads: NonZeroUsize, most_waiting: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), work: Condvar::new(), hashed: AtomicU64::new(0) });
        let verifier = Self { shared, most_waiting };
        for index in 0..threads.get() {
            let shared = Arc::clone(&verifier.shared);
            thread::Builder::new().name(format!("password-{index}")).spawn(move || work(&shared))?;
        }
        Ok(verifier)
    }

    /// How many passwords were hashed since the start.
    pub fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Relaxed)
    }

    /// Whether the password is the user's. Requests with the same credential share one hash.
    ///
    /// # Errors
    ///
    /// [`Busy`] when too many wait already.
    pub async fn verify(
        &self,
        id: CredentialId,
        users: Arc<Users>,
        name: &str,
        password: Password,
        pick: u64,
    ) -> Result<bool, Busy> {
        let receiver = {
            let mut queue = lock(&self.shared.queue);
            if queue.waiters >= self.most_waiting {
                return Err(Busy);
            }
            let (sender, receiver) = oneshot::channel();
            queue.waiters += 1;
            let same = queue.waiting.entry(id).or_default();
            same.push(sender);
            if same.len() == 1 {
                queue.jobs.push_back(Job { id, users, name: name.to_owned(), password, pick });
                self.shared.work.notify_one();
            }
            receiver
        };
        // A thread that died answers nobody: deny.
        Ok(receiver.await.unwrap_or(false))
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.work.notify_all();
    }
}

fn work(shared: &Shared) {
    loop {
        let mut queue = lock(&shared.queue);
        let job = loop {
            if queue.closed {
                return;
            }
            if let Some(job) = queue.jobs.pop_front() {
                break job;
            }
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        // Whose clients have all gone away need not be hashed.
        if !queue.waiting.get(&job.id).is_some_and(|all| all.iter().any(|sender| !sender.is_closed())) {
            queue.forget(&job.id);
            continue;
        }
        drop(queue);
        shared.hashed.fetch_add(1, Ordering::Relaxed);
        let matches = job.users.verify(&job.name, &job.password, job.pick);
        let waiting = lock(&shared.queue).forget(&job.id);
        for sender in waiting {
            // A client that has gone away does not matter.
            let _ = sender.send(matches);
        }
    }
}

impl Queue {
    /// Removes all who wait for a credential.
    fn forget(&mut self, id: &CredentialId) -> Vec<oneshot::Sender<bool>> {
        let waiting = self.waiting.remove(id).unwrap_or_default();
        self.waiters = self.waiters.saturating_sub(waiting.len());
        waiting
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
