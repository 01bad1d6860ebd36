//! Makes the process namespace of a cell, starts its first process, and removes the cell's cgroup when that has ended.
//!
//! It stays outside the cgroup and the process namespace, so that it can clean up also when the test was killed: the first
//! process ends with the test's end of the pipe, and everything in its namespace with it.

use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use sidewall_netns::Cgroups;

use super::protocol::{Answer, Plan, say};
use super::{Said, because};

/// Runs until the cell is over.
///
/// # Errors
/// When a namespace cannot be made, the first process not be started, or the cgroup not be removed.
pub fn main(plan: &str) -> Said<ExitCode> {
    let parsed: Plan = serde_json::from_str(plan).map_err(because("the plan"))?;
    let cgroup = Cgroups::find()?.open(&parsed.cgroup)?;
    // The network namespace is the one this process was started in.
    // This process keeps the host's mounts: it has a cgroup to remove in the end.
    #[expect(clippy::disallowed_methods, reason = "this whole process, which has one thread, is made for it")]
    unshare(CloneFlags::CLONE_NEWPID).map_err(because("cannot make a process namespace"))?;
    let started = Command::new("/proc/self/exe").arg0_init().arg("init").arg(plan).spawn();
    let mut init = started.map_err(because("cannot start the first process"))?;
    say(&Answer::Init(init.id()));
    let status = init.wait().map_err(because("cannot wait for the first process"))?;
    cgroup.remove_tree()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A name of its own in the list of processes.
trait Named {
    fn arg0_init(&mut self) -> &mut Self;
}

impl Named for Command {
    fn arg0_init(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, "sidewall-bed")
    }
}
