//! Which cgroup is which id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::{Cgroup, CgroupId};
use crate::error::{Error, Result};

/// The cgroups of a part of the tree by their ids, as they were at one moment.
///
/// An id stays what it is: none is given twice, and a cgroup v2 can't be renamed or moved. So an old map only knows too
/// much of what has gone, and too little of what has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMap {
    paths: BTreeMap<CgroupId, PathBuf>,
    complete: bool,
}

impl CgroupMap {
    /// Reads a cgroup and all below it, at most `limit` of them; those that are less deep come first, so that whoever makes
    /// a great many in his own hides nobody else's. A thousand take some tens of milliseconds.
    ///
    /// # Errors
    /// [`Error::File`]. What goes away meanwhile is left out, but for the first.
    pub fn read(top: &Cgroup, limit: usize) -> Result<CgroupMap> {
        let mut map = CgroupMap { paths: BTreeMap::from([(top.id()?, top.path().to_owned())]), complete: true };
        let mut next = VecDeque::from([top.path().to_owned()]);
        while let Some(directory) = next.pop_front() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if is_gone(&error) && directory != top.path() => continue,
                Err(error) => return Err(Error::file("read", directory, error)),
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if is_gone(&error) => break,
                    Err(error) => return Err(Error::file("read", directory, error)),
                };
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if map.paths.len() >= limit {
                    map.complete = false;
                    return Ok(map);
                }
                // The number in the directory is the inode's, which is the id.
                map.paths.insert(CgroupId(entry.ino()), entry.path());
                next.push_back(entry.path());
            }
        }
        Ok(map)
    }

    /// Whether nothing was left out for the limit.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The directory of a cgroup.
    pub fn path(&self, id: CgroupId) -> Option<&Path> {
        self.paths.get(&id).map(PathBuf::as_path)
    }

    /// The ids of a cgroup and of all below it.
    pub fn below(&self, directory: &Path) -> BTreeSet<CgroupId> {
        self.paths.iter().filter(|(_, path)| path.starts_with(directory)).map(|(id, _)| *id).collect()
    }

    /// All, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = (CgroupId, &Path)> {
        self.paths.iter().map(|(id, path)| (*id, path.as_path()))
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(paths: [(u64, &str); N]) -> CgroupMap {
        CgroupMap { paths: paths.into_iter().map(|(id, path)| (CgroupId(id), path.into())).collect(), complete: true }
    }
}

/// A cgroup that is removed while it is read is not there (ENOENT) or not alive (ENODEV).
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
