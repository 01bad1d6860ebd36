//! Directories of the cgroup v2 tree: found, made, read, emptied, removed.

mod map;

pub use map::CgroupMap;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// How long [`Cgroup::remove`] waits for processes that are on their way out.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// What netfilter's `socket cgroupv2` compares: the inode number of the cgroup's directory.
///
/// A 64-bit kernel never gives it twice in its life, not to a cgroup of the same name either: it counts on (`kernfs_node`'s
/// id). A removed cgroup's id goes on to mean the sockets that were made in it, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The cgroup v2 tree as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    mount: PathBuf,
    /// How deep the mount's top lies below the root of this process's cgroup namespace.
    depth: u32,
}

impl Cgroups {
    /// Finds where cgroup2 is mounted. On hybrid hosts that is not /sys/fs/cgroup.
    ///
    /// # Errors
    /// [`Error::NoCgroup2`], [`Error::ForeignCgroup2`], [`Error::File`].
    pub fn find() -> Result<Cgroups> {
        let path = "/proc/self/mountinfo";
        let text = fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
        Cgroups::parse(&text)
    }

    /// Reads `proc_pid_mountinfo(5)`: the fourth field is the part of the file system that is mounted, relative to
    /// the reader's cgroup namespace; the fifth the mount point; the type follows the lone `-`.
    fn parse(mountinfo: &str) -> Result<Cgroups> {
        let mut foreign = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            if right.split(' ').next() != Some("cgroup2") {
                continue;
            }
            let mut fields = left.split(' ').skip(3);
            let (Some(root), Some(mount)) = (fields.next(), fields.next()) else {
                continue;
            };
            let (root, mount) = (unescape(root), PathBuf::from(unescape(mount)));
            if Path::new(&root).components().any(|c| c == Component::ParentDir) {
                foreign.get_or_insert(Error::ForeignCgroup2 { mount, root });
                continue;
            }
            return Ok(Cgroups { mount, depth: depth_of(Path::new(&root)) });
        }
        Err(foreign.unwrap_or(Error::NoCgroup2))
    }

    /// Where the tree is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The top of the tree, as mounted.
    pub fn top(&self) -> Cgroup {
        Cgroup { tree: self.clone(), path: self.mount.clone() }
    }

    /// The cgroup of a directory inside the mount.
    ///
    /// # Errors
    /// [`Error::OutsideCgroup2`], [`Error::File`] when it isn't there.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Cgroup> {
        let path = path.as_ref();
        let inside = path.starts_with(&self.mount) && !path.components().any(|c| c == Component::ParentDir);
        if !inside {
            return Err(Error::OutsideCgroup2 { path: path.into(), mount: self.mount.clone() });
        }
        fs::metadata(path.join("cgroup.procs")).map_err(|e| Error::file("open", path, e))?;
        Ok(Cgroup { tree: self.clone(), path: path.into() })
    }
}

/// One cgroup v2 directory. Dropping the value leaves the directory: who makes one also removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    tree: Cgroups,
    path: PathBuf,
}

impl Cgroup {
    /// Makes the sub-directory `name`; it may be there already. Needs no controllers.
    ///
    /// # Errors
    /// [`Error::CgroupName`], [`Error::File`].
    pub fn create(&self, name: &str) -> Result<Cgroup> {
        let child = self.child(name)?;
        match fs::create_dir(&child.path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::file("create", &child.path, e)),
            _ => Ok(child),
        }
    }

    /// Opens the sub-directory `name`.
    ///
    /// # Errors
    /// [`Error::CgroupName`], [`Error::File`] when it isn't there.
    pub fn open(&self, name: &str) -> Result<Cgroup> {
        let child = self.child(name)?;
        fs::metadata(&child.path).map_err(|e| Error::file("open", &child.path, e))?;
        Ok(child)
    }

    fn child(&self, name: &str) -> Result<Cgroup> {
        // Files of a cgroup are `cgroup.*`, `memory.*` and so on; a directory could shadow none of them, but '/' and
        // '..' would lead out of the tree.
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\n']) {
            return Err(Error::CgroupName(name.to_owned()));
        }
        Ok(Cgroup { tree: self.tree.clone(), path: self.path.join(name) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's name.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
    }

    /// The id that packet rules compare. Ids are not reused while the system runs.
    ///
    /// # Errors
    /// [`Error::File`] when the directory is gone.
    pub fn id(&self) -> Result<CgroupId> {
        let meta = fs::metadata(&self.path).map_err(|e| Error::file("read", &self.path, e))?;
        Ok(CgroupId(meta.st_ino()))
    }

    /// The level for `socket cgroupv2 level N`: the depth below the root that a loader in this process's cgroup
    /// namespace sees. `a/b` is level 2.
    pub fn level(&self) -> u32 {
        let below = self.path.strip_prefix(&self.tree.mount).unwrap_or(Path::new(""));
        self.tree.depth + depth_of(below)
    }

    /// The processes directly in this cgroup, as this process's pid namespace numbers them (0: not in it).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn procs(&self) -> Result<Vec<i32>> {
        let path = self.path.join("cgroup.procs");
        let text = fs::read_to_string(&path).map_err(|e| Error::file("read", &path, e))?;
        Ok(text.lines().filter_map(|l| l.parse().ok()).collect())
    }

    /// Moves a process of this process's pid namespace into the cgroup.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn add(&self, pid: i32) -> Result<()> {
        let path = self.path.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(|e| Error::file("write", &path, e))
    }

    /// Opens `cgroup.procs` for writing, for a process to put itself in after `fork`.
    pub(crate) fn procs_file(&self) -> Result<File> {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).map_err(|e| Error::file("open", &path, e))
    }

    /// Sub-directories, in order of their names.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn children(&self) -> Result<Vec<Cgroup>> {
        let entries = fs::read_dir(&self.path).map_err(|e| Error::file("read", &self.path, e))?;
        let mut children = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::file("read", &self.path, e))?;
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                children.push(Cgroup { tree: self.tree.clone(), path: entry.path() });
            }
        }
        children.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(children)
    }

    /// Kills every process in this cgroup and below it, also those that are forking just then.
    /// Does not wait for their end. A cgroup that is gone has no processes.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn kill(&self) -> Result<()> {
        let path = self.path.join("cgroup.kill");
        match OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => io::Write::write_all(&mut file, b"1").map_err(|e| Error::file("write", &path, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.path.exists() => self.kill_one_by_one(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::file("open", &path, e)),
        }
    }

    /// For kernels before 5.14, which have no `cgroup.kill`: freeze, so that nothing can fork away, kill, thaw.
    fn kill_one_by_one(&self) -> Result<()> {
        let freeze = self.path.join("cgroup.freeze");
        let frozen = fs::write(&freeze, "1").is_ok();
        let result = self.kill_tree();
        if frozen {
            fs::write(&freeze, "0").map_err(|e| Error::file("write", &freeze, e))?;
        }
        result
    }

    fn kill_tree(&self) -> Result<()> {
        for child in self.children()? {
            child.kill_tree()?;
        }
        for pid in self.procs()?.into_iter().filter(|p| *p > 0) {
            // A process that ended meanwhile is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Removes the directory, which must have no sub-directories. Waits up to 5 s for processes that are ending.
    /// A directory that is gone counts as removed.
    ///
    /// # Errors
    /// [`Error::CgroupBusy`], [`Error::File`].
    pub fn remove(&self) -> Result<()> {
        self.remove_within(BUSY_LIMIT)
    }

    /// [`Cgroup::remove`] with a limit of one's own.
    ///
    /// # Errors
    /// As [`Cgroup::remove`].
    pub fn remove_within(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                    if start.elapsed() >= limit {
                        return Err(Error::CgroupBusy {
                            path: self.path.clone(),
                            pids: self.procs().unwrap_or_default(),
                            waited_ms: start.elapsed().as_millis(),
                        });
                    }
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(e) => return Err(Error::file("remove", &self.path, e)),
            }
        }
    }

    /// Kills what runs in the whole subtree and removes it, deepest first.
    ///
    /// # Errors
    /// As [`Cgroup::kill`] and [`Cgroup::remove`].
    pub fn remove_tree(&self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        self.kill()?;
        self.remove_below()
    }

    fn remove_below(&self) -> Result<()> {
        match self.children() {
            Ok(children) => children.iter().try_for_each(Cgroup::remove_below)?,
            Err(_) if !self.path.exists() => return Ok(()),
            Err(e) => return Err(e),
        }
        self.remove()
    }
}

/// The number of names in a path, the leading `/` not counted.
fn depth_of(path: &Path) -> u32 {
    path.components().filter(|c| matches!(c, Component::Normal(_))).count() as u32
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |b: &[u8]| std::str::from_utf8(b).ok().and_then(|s| u8::from_str_radix(s, 8).ok());
        match tail.get(..3).filter(|_| first == b'\\').and_then(octal) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(tree: &Cgroups, below: &str) -> u32 {
        Cgroup { tree: tree.clone(), path: tree.mount.join(below) }.level()
    }

    #[test]
    fn finds_the_v2_tree_of_a_hybrid_host() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let tree = Cgroups::parse(text).unwrap();
        assert_eq!(tree.mount(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(level(&tree, ""), 0);
        assert_eq!(level(&tree, "a/b"), 2);
    }

    #[test]
    fn a_mounted_subtree_adds_its_depth() {
        let tree = Cgroups::parse("1 1 0:1 /kube/pod /mnt/a\\040b rw - cgroup2 none rw\n").unwrap();
        assert_eq!(tree.mount(), Path::new("/mnt/a b"));
        assert_eq!(level(&tree, "c"), 3);
    }

    #[test]
    fn a_tree_outside_the_cgroup_namespace_is_refused_unless_another_serves() {
        let outside = "1 1 0:1 /../.. /x rw - cgroup2 none rw\n";
        assert!(matches!(Cgroups::parse(outside), Err(Error::ForeignCgroup2 { .. })));
        let both = format!("{outside}2 1 0:1 / /y rw - cgroup2 none rw\n");
        assert_eq!(Cgroups::parse(&both).unwrap().mount(), Path::new("/y"));
        assert!(matches!(Cgroups::parse("1 1 0:1 / / rw - ext4 none rw\n"), Err(Error::NoCgroup2)));
    }

    #[test]
    fn names_can_not_lead_out_of_the_tree() {
        let top = Cgroups { mount: "/nowhere".into(), depth: 0 }.top();
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(matches!(top.child(bad), Err(Error::CgroupName(_))), "{bad:?}");
        }
        assert!(matches!(top.tree.open("/nowhere/../etc"), Err(Error::OutsideCgroup2 { .. })));
    }
}
