//! What the tests share. They need root and say so.

use sidewall_netns::{Cgroup, Cgroups};

/// Fails the test with a sentence where the privilege is missing.
pub fn need_root() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("\nUid:\t0\t0\t"), "this test makes namespaces and cgroups: run it as root");
}

/// A cgroup of this test, removed at the end with all that runs in it.
#[allow(dead_code)]
pub struct OwnCgroup(pub Cgroup);

#[allow(dead_code)]
impl OwnCgroup {
    pub fn new(name: &str) -> OwnCgroup {
        let top = Cgroups::find().unwrap().top();
        OwnCgroup(top.create(&format!("sidewall-netns-test-{}-{name}", std::process::id())).unwrap())
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        if let Err(e) = self.0.remove_tree() {
            eprintln!("left behind: {e}");
        }
    }
}
