//! One error variant for each cause, with what the reader can do about it.

use std::io;
use std::path::PathBuf;

use crate::launch::Step;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on namespaces, cgroups, links or processes failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `unshare(CLONE_NEWNET)` failed.
    #[error("can't make a network namespace: {0}; this needs root (CAP_SYS_ADMIN)")]
    Unshare(#[source] io::Error),
    /// `setns` failed.
    #[error("can't enter the network namespace {ns}: {source}; this needs root (CAP_SYS_ADMIN)")]
    Enter {
        /// The namespace, as `device:inode`.
        ns: crate::NsId,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A namespace file can't be opened.
    #[error("can't open the network namespace {}: {source}; is the process or the mount still there?", path.display())]
    OpenNs {
        /// Which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path names something that is not a network namespace.
    #[error("{} is not a network namespace", .0.display())]
    NotANetNs(PathBuf),
    /// A thread could not be started.
    #[error("can't start a thread: {0}; is the process limit reached?")]
    Thread(#[source] io::Error),
    /// The closure that ran inside a namespace panicked.
    #[error("the work inside the network namespace panicked: {0}")]
    Panicked(String),
    /// No cgroup2 file system is mounted.
    #[error("no cgroup2 file system in /proc/self/mountinfo; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified)")]
    NoCgroup2,
    /// The cgroup2 mount shows a part of the tree outside this process's cgroup namespace, so levels can't be counted.
    #[error("the cgroup2 mount at {} shows {root:?}, outside this process's cgroup namespace; mount cgroup2 afresh", mount.display())]
    ForeignCgroup2 {
        /// Where it is mounted.
        mount: PathBuf,
        /// What /proc/self/mountinfo says is mounted there.
        root: String,
    },
    /// A cgroup name contains `/`, is empty, or is `.` or `..`.
    #[error("{0:?} can't be the name of a cgroup")]
    CgroupName(String),
    /// A path lies outside the cgroup2 mount.
    #[error("{} is not inside the cgroup2 mount {}", path.display(), mount.display())]
    OutsideCgroup2 {
        /// The path asked for.
        path: PathBuf,
        /// Where cgroup2 is mounted.
        mount: PathBuf,
    },
    /// A file could not be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `open`, `create` or `remove`.
        action: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup still has processes after all attempts to end them.
    #[error("the cgroup {} is still busy (processes {pids:?}) after {waited_ms} ms", path.display())]
    CgroupBusy {
        /// Which cgroup.
        path: PathBuf,
        /// The processes that are left.
        pids: Vec<i32>,
        /// How long it was tried, in milliseconds.
        waited_ms: u128,
    },
    /// The rtnetlink socket failed.
    #[error("rtnetlink: {0}")]
    Netlink(#[source] io::Error),
    /// The sockets of a namespace can't be listed.
    #[error("can't list the sockets of the network namespace: {0}; was the kernel built with CONFIG_INET_DIAG?")]
    SocketDiag(#[source] io::Error),
    /// The kernel refused a link, address or route request.
    #[error("can't {action}: {source}")]
    Link {
        /// What was asked, with names.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's rtnetlink answer could not be read.
    #[error("the kernel's rtnetlink answer can't be read: {0}")]
    NetlinkAnswer(String),
    /// A list was disturbed each time that it was asked for.
    #[error("can't {action}: it changed {attempts} times while it was read; try again later")]
    Restless {
        /// What was asked.
        action: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A link does not carry packets although it should by now.
    #[error("the link {name:?} is not operational after {waited_ms} ms; is its other end up?")]
    LinkNotReady {
        /// The link.
        name: String,
        /// How long it was waited for, in milliseconds.
        waited_ms: u128,
    },
    /// There is no link of that name.
    #[error("there is no link {0:?} in this namespace")]
    NoLink(String),
    /// A link name is empty, longer than 15 bytes, or has characters the kernel refuses.
    #[error("{0:?} can't be the name of a link: 1 to 15 bytes without '/', ':' and white space")]
    LinkName(String),
    /// A sysctl key is not of the form `net.…` with plain words.
    #[error("{0:?} is not a network sysctl (net.… with plain words)")]
    SysctlKey(String),
    /// A name or argument of a process contains a NUL byte.
    #[error("the command {0:?} can't be run: a NUL byte, or no program name")]
    Command(String),
    /// The new process failed before its program ran.
    #[error("can't start {program}: {step}: {source}")]
    Launch {
        /// The program to be run.
        program: String,
        /// The step that failed.
        step: Step,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::File { action, path: path.into(), source }
    }

    /// The kernel's error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        let mut cause: &dyn std::error::Error = self;
        while let Some(next) = cause.source() {
            if let Some(io) = next.downcast_ref::<io::Error>() {
                return io.raw_os_error();
            }
            cause = next;
        }
        None
    }
}
