//! The life of a pod's rules, in a real kernel: these need root.

use super::*;
use crate::identity::Identity;
use crate::scene::{Scene, Sources};
use crate::walled_pod::{View, features};
use sidewall_sandbox::{Options, Prepared, Sandbox};

const FILE: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: walls}
spec:
  containers:
  - {name: app, command: [/bin/true], ports: [{containerPort: 8080}]}
---
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: closed}
spec: {podSelector: {}}
";

/// A pod, and walls that others may change: with ownership the kernel lets nobody.
fn pod(dir: &std::path::Path) -> (Prepared, View, Walls) {
    let file = dir.join("pod.yaml");
    std::fs::write(&file, FILE).unwrap();
    let scene = Scene::read(&Sources::new(&file, None, &[])).unwrap();
    let features = Features { owner_persist: false, ..features().unwrap() };
    let options = Options { state_root: dir.to_owned(), ..Options::default() };
    let prepared = Sandbox::prepare(&scene.manifest, &options).unwrap();
    let identity = Identity::choose(crate::args::IdentityChoice::Auto, features).unwrap();
    let view = View::new(&scene, prepared.pod().info(), identity, features).unwrap();
    let walls = Walls::open(prepared.pod(), features).unwrap();
    (prepared, view, walls)
}

#[test]
fn what_somebody_changed_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, view, mut walls) = pod(dir.path());
    assert!(walls.repair().unwrap().is_none(), "nothing is loaded yet");
    walls.guard(&view.subject).unwrap();
    let first = walls.raise(&view.resolved).unwrap();
    assert!(walls.repair().unwrap().is_none());
    let mut somebody = Kernel::open(prepared.pod().netns()).unwrap();
    somebody.unload().unwrap();
    assert!(somebody.counters().map_or(0, |counters| counters.len()) == 0);
    let differences = walls.repair().unwrap().expect("it was noticed");
    assert!(!differences.is_empty());
    assert!(!somebody.counters().unwrap().is_empty(), "the rules are there again");
    assert!(walls.repair().unwrap().is_none());
    let Raised::Rules(first) = first else { panic!("not selected") };
    assert_eq!(walls.last, Some(first.next()), "as a new generation");
}

#[test]
fn numbers_come_round_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_prepared, view, mut walls) = pod(dir.path());
    for round in 0..=u32::from(Generation::COUNT) {
        let Raised::Rules(generation) = walls.raise(&view.resolved).unwrap() else { panic!("not selected") };
        assert_eq!(u32::from(generation.get()), round % u32::from(Generation::COUNT) + 1);
    }
}
