//! The test bed itself: that its nodes are real, reach each other, and leave nothing. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Fabric, Node, parts};

/// The host's mounts and links.
fn of_the_host() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let links = fs::read_dir("/sys/class/net").unwrap().map(|link| link.unwrap().file_name().display().to_string());
    mounts.lines().map(str::to_owned).chain(links).collect()
}

/// The processes of a node, in our counting.
fn processes(node: &Node) -> Vec<i32> {
    let mut groups = vec![node.cell().cgroup().clone()];
    let mut pids = Vec::new();
    while let Some(group) = groups.pop() {
        pids.extend(group.procs().unwrap());
        groups.extend(group.children().unwrap());
    }
    pids
}

#[test]
fn a_node_starts_in_time_and_leaves_nothing_behind() {
    let before = of_the_host();
    let fabric = Fabric::new().unwrap();
    let start = Instant::now();
    let node = Node::start(&fabric, 1).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "the node took {took:?}");
    let during = processes(&node);
    assert!(during.len() >= 2, "{during:?}");
    assert_eq!(of_the_host().difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    let cgroup = node.cell().cgroup().clone();
    let start = Instant::now();
    drop(node);
    println!("started in {took:?}, ended in {:?}", start.elapsed());
    assert_eq!(of_the_host().difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(!cgroup.path().exists(), "{} is still there", cgroup.path().display());
    for pid in during {
        let line = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        assert!(!line.contains(cgroup.name()), "process {pid} still runs");
    }
}

#[test]
fn a_panic_ends_a_node_too() {
    let fabric = Fabric::new().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let node = Node::start(&fabric, 1).unwrap();
        send.send((node.cell().pid(), node.cell().cgroup().clone())).unwrap();
        panic!("as a test that fails");
    });
    assert!(thread.join().is_err());
    let (pid, cgroup) = receive.recv().unwrap();
    assert!(!cgroup.path().exists(), "{} is still there", cgroup.path().display());
    assert!(!fs::exists(format!("/proc/{pid}/root/run/bed")).unwrap_or(false), "the first process still runs");
}

/// Set in the process that is to be killed.
const VICTIM: &str = "SIDEWALL_BED_VICTIM";

#[test]
fn a_killed_test_leaves_nothing_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let fabric = Fabric::new().unwrap();
        let node = Node::start(&fabric, 1).unwrap();
        println!("\nnode {}", node.cell().cgroup().path().display());
        // Killed long before; should the killer be gone, it ends by itself.
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_nothing_behind", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let path = lines.find_map(|line| line.strip_prefix("node ").map(str::to_owned));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let path = path.expect("the victim never had a node");
    let gone = || Ok(if fs::exists(&path).unwrap() { Err("it is still there".to_owned()) } else { Ok(()) });
    until("the end of the node's cgroup", Duration::from_secs(10), gone).unwrap();
}

#[test]
fn a_node_has_cri_and_nri_and_survives_its_runtime() {
    let fabric = Fabric::new().unwrap();
    let node = Node::start(&fabric, 3).unwrap();
    for socket in [node.cri_socket(), node.nri_socket()] {
        UnixStream::connect(&socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    }
    let images = node.ctr(&["images", "ls", "-q"]).unwrap();
    for image in ["localhost/busybox:1", "localhost/pause:1"] {
        assert!(images.lines().any(|line| line == image), "{images}");
    }
    node.stop_containerd(Signal::KILL).unwrap();
    assert!(UnixStream::connect(node.cri_socket()).is_err());
    node.start_containerd().unwrap();
    UnixStream::connect(node.nri_socket()).unwrap();
}

#[test]
fn nodes_see_the_hosts_files_and_write_their_own() {
    let fabric = Fabric::new().unwrap();
    let (one, two) = (Node::start(&fabric, 1).unwrap(), Node::start(&fabric, 2).unwrap());
    one.cell().write("/var/lib/sidewall/mark", "one").unwrap();
    one.cell().run("sh", &["-c", "hostname; echo x > /etc/sidewall-mark; test -e /etc/passwd"]).unwrap();
    for path in ["/var/lib/sidewall/mark", "/etc/sidewall-mark"] {
        assert!(one.cell().path(path).exists(), "{path}");
        assert!(!two.cell().path(path).exists(), "{path} in the other node");
        assert!(!fs::exists(path).unwrap(), "{path} on the host");
    }
    // Links lead where they lead inside, those to nowhere too.
    let name = format!("sidewall-bed-{}", std::process::id());
    let links = format!("mkdir /run/{name}; ln -s /run/{name} /var/lib/to; ln -s /run/{name}-none /etc/nowhere");
    one.cell().run("sh", &["-c", &links]).unwrap();
    one.cell().write("/var/lib/to/deeper/file", "inside").unwrap();
    one.cell().write("/etc/nowhere", "inside too").unwrap();
    let read = format!("cat /run/{name}/deeper/file /etc/nowhere");
    assert_eq!(one.cell().run("sh", &["-c", &read]).unwrap(), "insideinside too");
    assert!(!fs::exists(format!("/run/{name}")).unwrap() && !fs::exists(format!("/run/{name}-none")).unwrap());
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", one.cell().service_pid("containerd").unwrap())).unwrap();
    let name = one.cell().cgroup().name();
    assert!(cgroup.lines().any(|line| line == format!("0::/{name}/bed")), "{cgroup}");
    // The nodes reach each other, by both families.
    for address in two.addresses().node() {
        one.cell().run(parts::node("busybox").unwrap(), &["ping", "-c1", "-W2", &address.to_string()]).unwrap();
    }
}
