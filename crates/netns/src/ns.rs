//! A network namespace, held by descriptor; and the guarded thread on which work inside it happens.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};

/// Which network namespace: the device and inode of its nsfs file. Two descriptors with the same pair are the same
/// namespace; a path or a process id can come to mean another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsId {
    /// `st_dev` of the namespace's file.
    pub device: u64,
    /// `st_ino` of the namespace's file.
    pub inode: u64,
}

impl fmt::Display for NsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

/// A network namespace. It lives as long as a descriptor to it, a process or a socket in it does; nothing is
/// bind-mounted, so nothing is left when this process dies.
#[derive(Clone, Debug)]
pub struct NetNs {
    file: Arc<File>,
    id: NsId,
}

impl NetNs {
    /// Makes a namespace without a name. It has a loopback device that is down, and nothing else.
    ///
    /// # Errors
    /// [`Error::Unshare`] without CAP_SYS_ADMIN.
    pub fn new() -> Result<NetNs> {
        // The thread that unshares is thrown away: no other work can ever run in the new namespace by accident.
        let file = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::Unshare(e.into()))?;
            open_ns(Path::new("/proc/thread-self/ns/net"))
        })??;
        NetNs::from_file(file, Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens the namespace that a file stands for: `/proc/PID/ns/net`, `/run/netns/NAME`, `/proc/PID/fd/N`.
    ///
    /// # Errors
    /// [`Error::OpenNs`] when the file can't be opened, [`Error::NotANetNs`] when it is something else.
    pub fn from_path(path: impl AsRef<Path>) -> Result<NetNs> {
        let path = path.as_ref();
        NetNs::from_file(open_ns(path)?, path)
    }

    /// The namespace of a process's main thread. The id of a process can be reused: compare [`NetNs::id`] with what
    /// was recorded before trusting it.
    ///
    /// # Errors
    /// As [`NetNs::from_path`].
    pub fn from_pid(pid: u32) -> Result<NetNs> {
        NetNs::from_path(format!("/proc/{pid}/ns/net"))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// As [`NetNs::from_path`].
    pub fn current() -> Result<NetNs> {
        NetNs::from_path("/proc/thread-self/ns/net")
    }

    /// Takes a descriptor that was received from elsewhere (another process, an inherited one).
    ///
    /// # Errors
    /// [`Error::NotANetNs`] when it is something else.
    pub fn from_fd(fd: OwnedFd) -> Result<NetNs> {
        NetNs::from_file(File::from(fd), Path::new("the descriptor"))
    }

    fn from_file(file: File, path: &Path) -> Result<NetNs> {
        // Entering would tell too, but only later and on another thread; NS_GET_NSTYPE asks without entering.
        if ns_type(file.as_fd()) != Some(libc::CLONE_NEWNET) {
            return Err(Error::NotANetNs(path.into()));
        }
        let meta = file.metadata().map_err(|source| Error::OpenNs { path: path.into(), source })?;
        let id = NsId { device: meta.st_dev(), inode: meta.st_ino() };
        Ok(NetNs { file: Arc::new(file), id })
    }

    /// Another, independent descriptor for the same namespace.
    ///
    /// # Errors
    /// [`Error::OpenNs`] when the descriptor limit is reached. `clone()` shares the descriptor and can't fail.
    pub fn try_clone(&self) -> Result<NetNs> {
        let path = Path::new("a second descriptor");
        let file = self.file.try_clone().map_err(|source| Error::OpenNs { path: path.into(), source })?;
        Ok(NetNs { file: Arc::new(file), id: self.id })
    }

    /// Which namespace this is.
    pub fn id(&self) -> NsId {
        self.id
    }

    /// Runs `work` inside the namespace, on a thread of its own that ends with it, and waits for the result.
    ///
    /// Sockets made there stay in the namespace and may afterwards be used from any thread. Because the thread is
    /// never used again, a failure can't leave a runtime's worker in the wrong namespace. Threads that `work` starts
    /// are in the namespace too.
    ///
    /// # Errors
    /// [`Error::Enter`] without CAP_SYS_ADMIN, [`Error::Panicked`] when `work` panicked.
    pub fn run<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        on_own_thread(|| {
            self.enter()?;
            Ok(work())
        })?
    }

    /// Starts a thread that stays inside the namespace for the whole of `work`, and does not wait for it.
    /// For servers and relays; the namespace is entered before this returns.
    ///
    /// # Errors
    /// [`Error::Thread`], [`Error::Enter`].
    pub fn spawn<F>(&self, name: &str, work: F) -> Result<thread::JoinHandle<()>>
    where
        F: FnOnce() + Send + 'static,
    {
        let ns = self.clone();
        let (entered, wait) = std::sync::mpsc::sync_channel(1);
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let result = ns.enter();
                let ok = result.is_ok();
                // The spawner waits for exactly this message, so it is there to receive it.
                let _ = entered.send(result);
                if ok {
                    work();
                }
            })
            .map_err(Error::Thread)?;
        match wait.recv() {
            Ok(result) => result.map(|()| handle),
            Err(_) => Err(Error::Panicked("the thread ended before it entered".into())),
        }
    }

    /// Only for threads that end afterwards.
    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| Error::Enter { ns: self.id, source: e.into() })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for NetNs {}

/// Runs a closure on a fresh thread and joins it, whatever happens.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work).map_err(Error::Thread)?;
        thread.join().map_err(|panic| Error::Panicked(panic_text(&*panic)))
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "no message".to_owned(),
    }
}

fn open_ns(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::OpenNs { path: path.into(), source })
}

/// `ioctl_nsfs(2)`, NS_GET_NSTYPE: which kind of namespace a descriptor stands for, `None` when it is not one.
fn ns_type(fd: BorrowedFd<'_>) -> Option<i32> {
    use std::os::fd::AsRawFd;
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument and touches no memory of ours; the descriptor is borrowed and open.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
    (kind >= 0).then_some(kind)
}
