//! Cgroups for a test's containers, below one of the test's own.

use sidewall_netns::{Cgroup, Cgroups};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How the names of all of them begin: `sidewall-test-PID-N`.
const PREFIX: &str = "sidewall-test-";

/// Makes a cgroup that nobody else has; whoever asked for it removes it with all that is below.
///
/// The first time in a process it takes away what tests have left that were killed, and so could not.
///
/// # Errors
/// There is no cgroup v2, or no right to it.
pub fn make() -> sidewall_netns::Result<Cgroup> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SWEPT: Once = Once::new();
    let top = Cgroups::find()?.top();
    SWEPT.call_once(|| sweep(&top));
    top.create(&format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// What can't be taken away harms nobody, and the next one tries again.
fn sweep(top: &Cgroup) {
    for left in top.children().unwrap_or_default() {
        if maker(left.name()).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = left.remove_tree();
        }
    }
}

/// The process that made it, where it is one of ours.
fn maker(name: &str) -> Option<u32> {
    let (pid, count) = name.strip_prefix(PREFIX)?.split_once('-')?;
    count.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tests_have_made_is_swept() {
        assert_eq!(maker("sidewall-test-77-3"), Some(77));
        for other in ["sidewall-test-77", "sidewall-test--3", "sidewall-test-77-3-x", "sidewall-sandbox", "77-3"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_killed_test_left_is_taken_away() {
        let top = make().expect("root, and a cgroup v2 tree");
        // No process has this number (`PID_MAX_LIMIT` is 4,194,304).
        let left = top.create(&format!("{PREFIX}4194305-0")).unwrap();
        left.create("pods").unwrap().create("c1").unwrap();
        let alive = top.create(&format!("{PREFIX}{}-999", std::process::id())).unwrap();
        sweep(&top);
        assert!(!left.path().exists() && alive.path().exists());
        top.remove_tree().unwrap();
    }
}
