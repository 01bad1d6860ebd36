//! Finds sockets in a pod's network namespace that belong to another pod's process: a mesh's that listens inside the
//! application's namespace, for example. No rule of the pod's containers is about them.

use crate::enforceability::CgroupPlace;
use sidewall_netns::sockets::{Sockets, Which, foreign};
use sidewall_netns::{CgroupId, CgroupMap, Cgroups};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The most sockets of a pod that are looked at. Those that take from everybody come first.
const SOCKETS: usize = 4096;
/// The most cgroups of a node that are known.
const CGROUPS: usize = 65_536;
/// The most owners that are named.
const OWNERS: usize = 4;

/// Who can tell whose a socket is.
#[derive(Debug)]
pub struct Owners {
    cgroups: Option<Cgroups>,
    /// Directories that hold all pods, below the mount.
    pods: Vec<PathBuf>,
    /// An old one is never wrong: ids are given once, and cgroups keep their names.
    map: Mutex<Option<Arc<CgroupMap>>>,
}

impl Owners {
    /// By a cgroup tree in which pods are below these paths.
    pub fn new(cgroups: Option<Cgroups>, pods: &[PathBuf]) -> Self {
        let below = |path: &PathBuf| {
            let mount = cgroups.as_ref()?.mount();
            Some(mount.join(path.strip_prefix("/").unwrap_or(path)))
        };
        Self { pods: pods.iter().filter_map(below).collect(), cgroups, map: Mutex::default() }
    }

    /// The owners of sockets in a namespace who are another pod's processes, in words. `own` are the cgroups of the pod's
    /// containers: without one, nobody can be told from them.
    ///
    /// # Errors
    /// [`sidewall_netns::Error`] where the sockets or the cgroups can't be looked at.
    pub fn foreign(
        &self,
        sockets: &mut Sockets,
        own: &BTreeSet<CgroupPlace>,
    ) -> Result<BTreeSet<String>, sidewall_netns::Error> {
        let Some(cgroups) = self.cgroups.as_ref().filter(|_| !own.is_empty()) else { return Ok(BTreeSet::new()) };
        let listing = sockets.list(Which::Open, SOCKETS)?;
        let ids: BTreeSet<CgroupId> = listing.sockets.iter().filter_map(|socket| socket.cgroup).collect();
        let known: BTreeSet<CgroupId> = own.iter().map(|place| place.id).collect();
        if ids.is_subset(&known) {
            return Ok(BTreeSet::new());
        }
        let mut last = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let map = match &*last {
            Some(map) if ids.iter().all(|id| map.path(*id).is_some()) => Arc::clone(map),
            _ => Arc::clone(last.insert(Arc::new(CgroupMap::read(&cgroups.top(), CGROUPS)?))),
        };
        drop(last);
        // A container's processes may be in cgroups below its own; a sandbox's own process is beside it.
        let own: BTreeSet<CgroupId> = known
            .iter()
            .flat_map(|id| map.path(*id).map(|path| map.below(path)).unwrap_or_default())
            .chain(known.iter().copied())
            .collect();
        let owners = foreign(&listing.sockets, &own, &self.pods, &map);
        let owners: BTreeSet<String> =
            owners.map(|(_, path)| format!("another pod's process (cgroup {})", path.display())).collect();
        Ok(owners.into_iter().take(OWNERS).collect())
    }
}
