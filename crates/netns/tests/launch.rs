//! Launched processes, as the kernel sees them. Needs root.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use common::{OwnCgroup, need_root};
use sidewall_netns::{Capability, Error, Launch, NetNs, Step};

/// Runs a shell line under `launch` and returns what it printed.
fn output(launch: Launch) -> String {
    let mut process = launch.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    process.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success());
    text
}

fn status(launch: Launch) -> BTreeMap<String, String> {
    output(launch.args(["/proc/self/status"]))
        .lines()
        .filter_map(|l| l.split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

const NONE: &str = "0000000000000000";

#[test]
fn privileges_are_gone_for_an_ordinary_user() {
    need_root();
    let status = status(Launch::new("/bin/cat").identity(12345, 23456));
    for set in ["CapEff", "CapBnd", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status[set], NONE, "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Uid"], "12345 12345 12345 12345");
    assert_eq!(status["Gid"], "23456 23456 23456 23456");
    assert_eq!(status["Groups"], "");
    assert_eq!((status["SigBlk"].as_str(), status["SigIgn"].as_str()), (NONE, NONE));
}

#[test]
fn privileges_are_gone_for_root_too() {
    need_root();
    let status = status(Launch::new("/bin/cat"));
    for set in ["CapEff", "CapBnd", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status[set], NONE, "{set}");
    }
    assert_eq!(status["Uid"], "0 0 0 0");
}

#[test]
fn kept_capabilities_survive_exec_of_a_user_and_no_other_does() {
    need_root();
    let launch = Launch::new("/bin/cat").identity(12345, 12345);
    let status = status(launch.keep_capabilities([Capability::SETUID, Capability::NET_RAW]).groups([7, 8]));
    for set in ["CapEff", "CapBnd", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status[set], "0000000000002080", "{set}");
    }
    assert_eq!(status["Groups"], "7 8");
}

#[test]
fn a_privileged_process_keeps_what_we_have() {
    need_root();
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap();
    let status = status(Launch::new("/bin/cat").privileged());
    assert_eq!((status["CapEff"].as_str(), status["NoNewPrivs"].as_str()), (ours, "0"));
}

#[test]
fn cgroup_namespace_session_directory_and_environment_are_as_asked() {
    need_root();
    let own = OwnCgroup::new("launch");
    let ns = NetNs::new().unwrap();
    let text = output(
        Launch::new("/bin/sh")
            .args([
                "-c",
                "cat /proc/self/cgroup; readlink /proc/self/ns/net; pwd; env; cut -d' ' -f1,5,6 /proc/$$/stat",
            ])
            .env("PATH", "/usr/bin:/bin")
            .env("A", "b c")
            .directory("/proc")
            .cgroup(&own.0)
            .netns(&ns)
            .identity(4242, 4242),
    );
    assert!(text.contains(&format!("0::/{}\n", own.0.name())), "{text}");
    assert!(text.contains(&format!("net:[{}]\n", ns.id().inode)), "{text}");
    assert!(text.contains("\n/proc\n") && text.contains("A=b c\n"), "{text}");
    assert!(!text.contains("CARGO"), "nothing of our environment: {text}");
    let ids: Vec<_> = text.lines().last().unwrap().split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "leader of its group and session: {ids:?}");
}

#[test]
fn inherited_descriptors_are_closed() {
    need_root();
    let file = File::open("/etc/passwd").unwrap();
    // Inheritable on purpose: nothing but Launch stands between it and the child. Its number is one that the program
    // can't come to use by itself, as it would the lowest free one.
    let number = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(100)).unwrap();
    // SAFETY: the descriptor was made just now, and nothing else knows of it.
    let file = unsafe { File::from_raw_fd(number) };
    let text = output(Launch::new("/bin/ls").args(["/proc/self/fd"]));
    assert!(!text.lines().any(|l| l == file.as_raw_fd().to_string()), "{text}");
    // 3 is the directory that `ls` itself reads.
    assert_eq!(text.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn an_open_program_runs_from_below_a_closed_directory() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let copy = dir.path().join("id");
    std::fs::copy("/usr/bin/id", &copy).unwrap();
    let refused = Launch::new(&copy).identity(4242, 4242).spawn().unwrap_err();
    assert!(matches!(refused, Error::Launch { step: Step::Exec, .. }), "{refused}");
    let open = Launch::from_file(File::open(&copy).unwrap(), "id").args(["-u"]).identity(4242, 4242);
    assert_eq!(output(open), "4242\n");
}

#[test]
fn errors_name_the_step_and_the_program() {
    need_root();
    let none = Launch::new("/no/such/program").spawn().unwrap_err();
    assert!(matches!(none, Error::Launch { step: Step::Exec, .. }), "{none}");
    assert!(none.to_string().contains("/no/such/program"), "{none}");
    let uid = Launch::new("/bin/true").identity(u32::MAX, 5).groups([1; 70000]).spawn().unwrap_err();
    assert!(matches!(uid, Error::Launch { step: Step::Groups, .. }), "more groups than NGROUPS_MAX: {uid}");
    let nul = Launch::new("/bin/true").args(["a\0b"]).spawn().unwrap_err();
    assert!(matches!(nul, Error::Command(_)), "{nul}");
}

#[test]
fn one_that_dies_with_its_parent_outlives_the_thread_that_asked() {
    need_root();
    let mut process =
        std::thread::spawn(|| Launch::new("/bin/sleep").args(["1000"]).die_with_parent().spawn().unwrap())
            .join()
            .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(process.try_wait().unwrap().is_none());
    assert_eq!(process.kill().unwrap().signal(), Some(9));
}

#[test]
fn one_that_dies_with_its_parent_is_in_the_namespace_of_the_thread_that_asked() {
    need_root();
    let look = || output(Launch::new("/bin/readlink").args(["/proc/self/ns/net"]).die_with_parent());
    let ns = NetNs::new().unwrap();
    assert_eq!(ns.run(look).unwrap(), format!("net:[{}]\n", ns.id().inode));
    assert_eq!(look(), format!("net:[{}]\n", NetNs::current().unwrap().id().inode));
}
