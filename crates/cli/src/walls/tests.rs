//! The life of a pod's rules, in a real kernel: these need root.

use super::*;
use crate::args::IdentityChoice;
use crate::identity::Identity;
use crate::scene::{Scene, Sources};
use crate::walled_pod::{View, features};
use sidewall_policy::model::Identities;
use sidewall_sandbox::{Options, Prepared, Sandbox};
use std::path::Path;

const FILE: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: walls}
spec:
  containers:
  - {name: app, command: [/bin/true], ports: [{containerPort: 8080}]}
";

/// A policy that lets the pod reach some blocks.
fn policy(blocks: &[&str]) -> String {
    let peers: Vec<String> = blocks.iter().map(|block| format!("{{ipBlock: {{cidr: {block}}}}}")).collect();
    format!(
        "\
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {{name: closed}}
spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress], egress: [{{to: [{}], ports: [{{port: 443}}]}}]}}
",
        peers.join(", ")
    )
}

/// The pod's files with policies.
fn scene(dir: &Path, policies: &str) -> Scene {
    let file = dir.join("pod.yaml");
    std::fs::write(&file, format!("{FILE}{policies}")).unwrap();
    Scene::read(&Sources::new(&file, None, &[])).unwrap()
}

/// A pod, and walls that others may change: with ownership the kernel lets nobody.
fn pod(dir: &Path, without: impl FnOnce(Features) -> Features) -> (Prepared, View, Walls) {
    let scene = scene(dir, &policy(&["192.0.2.0/24"]));
    let features = features().unwrap();
    let options = Options { state_root: dir.to_owned(), ..Options::default() };
    let prepared = Sandbox::prepare(&scene.manifest, &options).unwrap();
    let identity = Identity::choose(IdentityChoice::Auto, features).unwrap();
    let view = View::new(&scene, prepared.pod().info(), identity).unwrap();
    let features = without(Features { owner_persist: false, ..features });
    let walls = Walls::open(prepared.pod(), features).unwrap();
    (prepared, view, walls)
}

#[track_caller]
fn raised(walls: &mut Walls, pod: &ResolvedPod) -> (u8, Entry) {
    let (Raised::Rules(generation), entry) = walls.raise(pod).unwrap() else { panic!("not selected") };
    // By reading them back.
    assert_eq!(walls.repair().unwrap(), None, "the kernel has something else");
    (generation.get(), entry)
}

#[test]
fn what_somebody_changed_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, view, mut walls) = pod(dir.path(), |features| features);
    assert!(walls.repair().unwrap().is_none(), "nothing is loaded yet");
    walls.guard(&view.subject).unwrap();
    let (first, _) = raised(&mut walls, &view.resolved);
    let mut somebody = Kernel::open(prepared.pod().netns()).unwrap();
    somebody.unload().unwrap();
    assert!(somebody.counters().map_or(0, |counters| counters.len()) == 0);
    let repaired = walls.repair().unwrap().expect("it was noticed");
    assert!(!repaired.differences.is_empty());
    assert!(!somebody.counters().unwrap().is_empty(), "the rules are there again");
    assert!(walls.repair().unwrap().is_none());
    assert_eq!(walls.last.map(Generation::get), Some(first), "they are the same");

    // Between a look and a change, too.
    somebody.unload().unwrap();
    let other = view.under(&scene(dir.path(), &policy(&["192.0.2.0/24", "198.51.100.0/24"])));
    let (_, entry) = raised(&mut walls, &other.resolved);
    assert_eq!(entry, Entry::Loaded(Some(Because::Moved)));
}

#[test]
fn rules_follow_by_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let (_prepared, view, mut walls) = pod(dir.path(), |features| features);
    walls.guard(&view.subject).unwrap();
    let (first, entry) = raised(&mut walls, &view.resolved);
    assert!(matches!(entry, Entry::Loaded(Some(_))), "{entry:?}");
    assert_eq!(raised(&mut walls, &view.resolved), (first, Entry::Nothing));

    // What is only more is added, and live flows keep their verdicts.
    let more = view.under(&scene(dir.path(), &policy(&["192.0.2.0/24", "198.51.100.0/24"])));
    let (generation, entry) = raised(&mut walls, &more.resolved);
    assert!(matches!(entry, Entry::Amended { added: 1, deleted: 0, chains: 0 }), "{entry:?}");
    assert_eq!(generation, first);

    // What is less is judged again.
    let (generation, entry) = raised(&mut walls, &view.resolved);
    assert!(matches!(entry, Entry::Amended { added: 0, deleted: 1, chains: 1.. }), "{entry:?}");
    assert_eq!(generation, first + 1);

    // A container that has started again in another cgroup, and its old cgroup when it is gone.
    let mut again = view.resolved.clone();
    let Identities::Cgroup { containers, .. } = &mut again.identities else { return };
    for cgroups in containers.values_mut() {
        cgroups.insert(u64::MAX - 1);
    }
    let (_, entry) = raised(&mut walls, &again);
    assert!(matches!(entry, Entry::Amended { added: 1.., deleted: 0, .. }), "{entry:?}");
    let (_, entry) = raised(&mut walls, &view.resolved);
    assert!(matches!(entry, Entry::Amended { added: 0, deleted: 1.., .. }), "{entry:?}");
}

#[test]
fn numbers_come_round_again_and_go_on_where_there_were_no_rules() {
    let dir = tempfile::tempdir().unwrap();
    let (_prepared, view, mut walls) = pod(dir.path(), |features| features);
    let other = view.under(&scene(dir.path(), &policy(&["198.51.100.0/24"])));
    let none = view.under(&scene(dir.path(), ""));
    for round in 0..2 * u32::from(Generation::COUNT) {
        let resolved = if round % 2 == 0 { &view.resolved } else { &other.resolved };
        let (generation, _) = raised(&mut walls, resolved);
        assert_eq!(u32::from(generation), round % u32::from(Generation::COUNT) + 1);
        if round % 7 == 0 {
            assert_eq!(walls.raise(&none.resolved).unwrap(), (Raised::None, Entry::Unloaded));
            assert_eq!(walls.repair().unwrap(), None);
        }
    }
}

#[test]
fn a_lesser_kernel_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let lesser = |features| Features { log: false, reject: false, device_egress: false, ..features };
    let (_prepared, view, mut walls) = pod(dir.path(), lesser);
    walls.guard(&view.subject).unwrap();
    raised(&mut walls, &view.resolved);
    let device = view.subject.interface.clone().unwrap();
    let missing = [Missing::Log, Missing::Reject, Missing::SecondLine { device }, Missing::Ownership];
    assert_eq!(*walls.missing(), BTreeSet::from(missing));
    // Changes are lessened, too.
    let more = view.under(&scene(dir.path(), &policy(&["192.0.2.0/24", "198.51.100.0/24"])));
    let (_, entry) = raised(&mut walls, &more.resolved);
    assert!(matches!(entry, Entry::Amended { added: 1, .. }), "{entry:?}");
    let (_, entry) = raised(&mut walls, &view.resolved);
    assert!(matches!(entry, Entry::Amended { deleted: 1, .. }), "{entry:?}");
}

#[test]
fn what_a_kernel_cannot_enforce_is_refused() {
    for lacks in [
        |features| Features { fib: false, ..features },
        |features| Features { ct_mark: false, ..features },
        |features| Features { inet: false, ..features },
        |features| Features { headers: false, ..features },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (prepared, view, mut walls) = pod(dir.path(), lacks);
        assert!(matches!(walls.guard(&view.subject), Err(Error::Lacking(_))));
        assert!(matches!(walls.raise(&view.resolved), Err(Error::Lacking(_))));
        let mut kernel = Kernel::open(prepared.pod().netns()).unwrap();
        assert!(kernel.counters().map_or(0, |counters| counters.len()) == 0, "something was loaded");
    }
}
