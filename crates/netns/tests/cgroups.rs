//! Cgroups against the real kernel. Needs root.

mod common;

use std::time::{Duration, Instant};

use common::{OwnCgroup, need_root};
use sidewall_netns::{Cgroups, Error, Launch};

#[test]
fn levels_and_ids_are_those_that_packet_rules_compare() {
    need_root();
    let own = OwnCgroup::new("ids");
    let child = own.0.create("a").unwrap();
    assert_eq!((own.0.level(), child.level()), (1, 2));
    assert_ne!(own.0.id().unwrap(), child.id().unwrap());
    assert_eq!(own.0.open("a").unwrap().id().unwrap(), child.id().unwrap());
    assert_eq!(Cgroups::find().unwrap().open(child.path()).unwrap(), child);
    assert!(matches!(own.0.open("b"), Err(Error::File { .. })));
    child.remove().unwrap();
    child.remove().unwrap();
    assert!(child.id().is_err());
}

#[test]
fn kill_ends_the_whole_subtree_and_remove_tree_leaves_nothing() {
    need_root();
    let own = OwnCgroup::new("kill");
    let deep = own.0.create("a").unwrap().create("b").unwrap();
    // A shell with a child of its own, which no signal to the shell would reach.
    let mut process = Launch::new("/bin/sh")
        .args(["-c", "sleep 1000 & wait"])
        .env("PATH", "/usr/bin:/bin")
        .cgroup(&deep)
        .spawn()
        .unwrap();
    let start = Instant::now();
    while deep.procs().unwrap().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(10), "the shell has not started its child");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(deep.procs().unwrap().contains(&(process.pid() as i32)));
    assert!(own.0.procs().unwrap().is_empty(), "procs lists one level only");
    own.0.remove_tree().unwrap();
    assert!(!own.0.path().exists());
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(process.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_busy_cgroup_is_reported_with_its_processes() {
    need_root();
    let own = OwnCgroup::new("busy");
    let mut process = Launch::new("/bin/sleep").args(["1000"]).cgroup(&own.0).spawn().unwrap();
    let result = own.0.remove_within(Duration::from_millis(50));
    process.kill().unwrap();
    match result {
        Err(Error::CgroupBusy { pids, .. }) => assert_eq!(pids, [process.pid() as i32]),
        other => panic!("{other:?}"),
    }
}
