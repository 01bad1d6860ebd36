//! Whose sockets they are. Pure: [`super::list`] and [`CgroupMap::read`] ask the kernel.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Socket;
use crate::cgroup::{CgroupId, CgroupMap};

/// Where the process was that made a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// In the pod.
    Pod,
    /// In another pod: the cgroup's directory. The socket is foreign.
    OtherPod(&'a Path),
    /// On the node, outside all pods: the kubelet, the runtime's port-forward, an administrator.
    Node(&'a Path),
    /// In a cgroup that is not on the map: a newer one, or one that is gone (a container's before the last restart). Where
    /// the map is older than the list, read it anew and ask again.
    Unknown(CgroupId),
    /// The kernel does not tell.
    Untold,
}

/// Tells where a socket comes from. `own`: the pod's cgroups, those below them too ([`CgroupMap::below`]), and if they are
/// remembered those of containers that have ended. `pods`: the directories below which all pods' cgroups are, as the map
/// names them.
///
/// A map that is old is not wrong: the kernel gives no id twice, and cgroups v2 can't be renamed or moved.
///
/// A process that is moved to another cgroup afterwards leaves its sockets' as they were; and a socket may be handed on.
pub fn origin<'a>(socket: &Socket, own: &BTreeSet<CgroupId>, pods: &[PathBuf], map: &'a CgroupMap) -> Origin<'a> {
    let Some(id) = socket.cgroup else { return Origin::Untold };
    if own.contains(&id) {
        return Origin::Pod;
    }
    match map.path(id) {
        // Not those directories themselves: in them no pod's processes are.
        Some(path) if pods.iter().any(|top| path != top && path.starts_with(top)) => Origin::OtherPod(path),
        Some(path) => Origin::Node(path),
        None => Origin::Unknown(id),
    }
}

/// The sockets of other pods' processes, with the directories of those processes' cgroups.
pub fn foreign<'a>(
    sockets: &'a [Socket],
    own: &'a BTreeSet<CgroupId>,
    pods: &'a [PathBuf],
    map: &'a CgroupMap,
) -> impl Iterator<Item = (&'a Socket, &'a Path)> {
    sockets.iter().filter_map(move |socket| match origin(socket, own, pods, map) {
        Origin::OtherPod(path) => Some((socket, path)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::{Protocol, State};

    fn socket(cgroup: Option<u64>) -> Socket {
        Socket {
            protocol: Protocol::Tcp,
            local: Some("0.0.0.0:15008".parse().unwrap()),
            remote: None,
            device: None,
            state: Some(State::Listen),
            uid: 0,
            cgroup: cgroup.map(CgroupId),
            inode: 1,
        }
    }

    fn map() -> CgroupMap {
        CgroupMap::of([
            (1, "/cg"),
            (2, "/cg/kubepods"),
            (3, "/cg/kubepods/pod-a"),
            (4, "/cg/kubepods/pod-a/c"),
            (5, "/cg/kubepods/pod-a/c/deeper"),
            (6, "/cg/kubepods/pod-ab"),
            (7, "/cg/kubepods/pod-ab/ztunnel"),
            (8, "/cg/kubepods-of-somebody"),
            (9, "/cg/system/kubelet"),
        ])
    }

    #[test]
    fn other_pods_sockets_are_foreign_and_the_nodes_are_not() {
        let (map, pods) = (map(), [PathBuf::from("/cg/kubepods")]);
        let own = map.below(Path::new("/cg/kubepods/pod-a"));
        assert_eq!(own, [3, 4, 5].map(CgroupId).into());
        let of = |id: u64| origin(&socket(Some(id)), &own, &pods, &map);
        for id in [3, 4, 5] {
            assert_eq!(of(id), Origin::Pod, "{id}");
        }
        assert_eq!(of(6), Origin::OtherPod(Path::new("/cg/kubepods/pod-ab")));
        assert_eq!(of(7), Origin::OtherPod(Path::new("/cg/kubepods/pod-ab/ztunnel")));
        for (id, path) in [(1, "/cg"), (2, "/cg/kubepods"), (8, "/cg/kubepods-of-somebody"), (9, "/cg/system/kubelet")]
        {
            assert_eq!(of(id), Origin::Node(Path::new(path)));
        }
        assert_eq!(of(99), Origin::Unknown(CgroupId(99)));
        assert_eq!(origin(&socket(None), &own, &pods, &map), Origin::Untold);

        let sockets = [None, Some(4), Some(7), Some(9), Some(99)].map(socket);
        let found: Vec<_> = foreign(&sockets, &own, &pods, &map).collect();
        assert_eq!(found, [(&sockets[2], Path::new("/cg/kubepods/pod-ab/ztunnel"))]);
    }

    #[test]
    fn a_container_that_is_gone_may_be_remembered() {
        let (map, pods) = (map(), [PathBuf::from("/cg/kubepods")]);
        let own = [4, 99].map(CgroupId).into();
        assert_eq!(origin(&socket(Some(99)), &own, &pods, &map), Origin::Pod);
    }
}
