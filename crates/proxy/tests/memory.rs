//! The proxy's memory holds passwords and keys; nobody may read it, and no core file may keep it.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::eventually;

#[test]
fn the_process_cannot_be_dumped_or_traced_by_its_own_user() {
    // The files in /proc of a process that may not be dumped belong to root and not to its user. To tell the two apart,
    // the process must run as somebody else than root.
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("opened");
    let program = directory.path().join("sidewall-proxy");
    fs::copy(env!("CARGO_BIN_EXE_sidewall-proxy"), &program).expect("copied");
    let mut command = Command::new(&program);
    command.args(["hash", "ada"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let mut child = command.spawn().expect("it starts");
    let environ = format!("/proc/{}/environ", child.id());
    // It waits for a password; before it does, it has made itself undumpable.
    let mut owner = None;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the process belongs to root", || {
            owner = fs::metadata(&environ).ok().map(|found| found.uid());
            owner == Some(0) && child.try_wait().is_ok_and(|status| status.is_none())
        });
    }));
    drop(child.stdin.take());
    let _ = child.wait();
    assert!(found.is_ok(), "it belongs to {owner:?}");
}
