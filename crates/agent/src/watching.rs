//! Notices when somebody changes a pod's rules or devices, without asking: one thread for all pods, which sleeps while nothing
//! happens.

use crate::found::Message;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use sidewall_netfilter::Watch;
use sidewall_netns::{LinkWatch, NetNs};
use sidewall_runtime_ids::SandboxId;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long it is waited after something was noticed: changes come several at once, our own too.
const TOGETHER: Duration = Duration::from_millis(20);
/// How many descriptors that have something to say are asked for at once.
const READY: usize = 64;

/// The kernel's notices of a namespace. They keep it alive.
#[derive(Debug)]
pub struct Notices {
    rules: Watch,
    devices: LinkWatch,
}

/// Listens to many namespaces. Clones are the same listener; its thread ends when nobody has one, or a [`Watching`], any
/// more and something happens, or with the process.
#[derive(Clone, Debug)]
pub struct Watcher(Arc<Shared>);

/// Listens to a namespace until it is dropped.
#[derive(Debug)]
pub struct Watching {
    shared: Arc<Shared>,
    number: u64,
}

#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    last: u64,
    by_number: BTreeMap<u64, (SandboxId, Notices)>,
}

impl Notices {
    /// Opens the kernel's notices of a namespace. Blocks, for a fraction of a millisecond.
    ///
    /// # Errors
    /// In words: where the namespace can't be entered, or there are too many descriptors.
    pub fn open(netns: &NetNs) -> Result<Self, String> {
        let rules = Watch::open(netns).map_err(|error| error.to_string())?;
        let devices = LinkWatch::open(netns).map_err(|error| error.to_string())?;
        Ok(Self { rules, devices })
    }
}

impl Watcher {
    /// Starts the thread, which tells `to` what it notices.
    ///
    /// # Errors
    /// The system's word.
    pub fn start(to: mpsc::UnboundedSender<Message>) -> io::Result<Self> {
        let shared = Arc::new(Shared { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, all: Mutex::default() });
        let run = Arc::downgrade(&shared);
        thread::Builder::new().name("watcher".into()).spawn(move || listen(&run, &to))?;
        Ok(Self(shared))
    }

    /// Listens to a namespace.
    ///
    /// # Errors
    /// The system's word where its descriptors can't be waited for.
    pub fn watch(&self, sandbox: SandboxId, notices: Notices) -> io::Result<Watching> {
        let mut all = self.0.all();
        all.last += 1;
        let number = all.last;
        for (descriptor, data) in [(notices.rules.as_fd(), rules(number)), (notices.devices.as_fd(), devices(number))] {
            self.0.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, data))?;
        }
        all.by_number.insert(number, (sandbox, notices));
        drop(all);
        Ok(Watching { shared: Arc::clone(&self.0), number })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Closing them takes them off the list of what is waited for.
        self.shared.all().by_number.remove(&self.number);
    }
}

impl Shared {
    fn all(&self) -> MutexGuard<'_, All> {
        // Whoever panicked changed one entry.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened behind a descriptor.
    fn drain(&self, data: u64) -> Option<(SandboxId, bool)> {
        let mut all = self.all();
        let (sandbox, notices) = all.by_number.get_mut(&(data / 2))?;
        let of_devices = data == devices(data / 2);
        let changed = if of_devices { notices.devices.drain().changed } else { notices.rules.drain().changed };
        changed.then(|| (sandbox.clone(), of_devices))
    }
}

const fn rules(number: u64) -> u64 {
    number * 2
}

const fn devices(number: u64) -> u64 {
    number * 2 + 1
}

fn listen(shared: &Weak<Shared>, to: &mpsc::UnboundedSender<Message>) {
    let mut ready = [EpollEvent::empty(); READY];
    while let Some(shared) = shared.upgrade() {
        let count = match shared.epoll.wait(&mut ready, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!("changes in pods are found out by looking only: {error}");
                return;
            }
        };
        let mut happened: BTreeMap<SandboxId, bool> = BTreeMap::new();
        for event in &ready[..count] {
            if let Some((sandbox, of_devices)) = shared.drain(event.data()) {
                *happened.entry(sandbox).or_default() |= of_devices;
            }
        }
        for (sandbox, devices) in happened {
            if to.send(Message::Stirred { sandbox, devices }).is_err() {
                return;
            }
        }
        drop(shared);
        thread::sleep(TOGETHER);
    }
}
