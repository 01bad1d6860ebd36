//! A whole chain as a runtime runs it: the bridge plugin, then ours, from a directory in which the installer has put
//! us. Needs root and the reference plugins, which `cargo xtask test --only node` sets up.

use serde_json::{Value, json};
use sidewall_cni::choose::in_order;
use sidewall_cni::conflist::List;
use sidewall_cni::entry::Entry;
use sidewall_cni::result::Attached;
use sidewall_cni::serve::{self, Listening};
use sidewall_cni::wire::{Answer, Ask, Reason};
use sidewall_cni::{install, plan};
use sidewall_netns::{Launch, Links, NetNs};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Folders of third parties' programs, set by `cargo xtask`.
const PARTS: &str = "SIDEWALL_PARTS";

/// A node: a network namespace of its own with the runtime's directory, and a pod's namespace.
struct Node {
    directory: tempfile::TempDir,
    plugins: Vec<PathBuf>,
    host: NetNs,
    pod: NetNs,
}

impl Node {
    fn new() -> Node {
        let places: Vec<PathBuf> = std::env::split_paths(&std::env::var_os(PARTS).unwrap_or_default())
            .filter(|place| place.join("host-local").exists())
            .collect();
        assert!(!places.is_empty(), "no CNI plugins in {PARTS}: run `cargo xtask test --only node`");
        let ours = Path::new(env!("CARGO_BIN_EXE_sidewall-cni")).parent().unwrap().to_owned();
        let plugins = [places, vec![ours]].concat();
        let host = NetNs::new().expect("this test must run as root");
        Node { directory: tempfile::tempdir().unwrap(), plugins, host, pod: NetNs::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The network's own installer writes its file, and ours chains us.
    fn install(&self, version: &str) {
        let bridge = json!({
            "cniVersion": version, "name": "podnet", "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": self.path("ipam"), "ranges": [[{"subnet": "10.99.1.0/24"}]],
                     "routes": [{"dst": "0.0.0.0/0"}]},
        });
        let directory = self.path("net.d");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("10-bridge.conf"), serde_json::to_string_pretty(&bridge).unwrap()).unwrap();
        let entry =
            Entry { socket: Some(self.path("cni.sock")), state: Some(self.path("cni.json")), ..Entry::default() };
        install::apply(&directory, &plan::install(&install::read(&directory).unwrap(), &entry).unwrap()).unwrap();
    }

    /// The chain that a runtime takes: the version and the plugins, with what the specification puts into each.
    fn chain(&self) -> Vec<Value> {
        let files = install::read(&self.path("net.d")).unwrap();
        let first = in_order(files.keys().map(String::as_str))[0];
        let text = files[first].as_ref().unwrap();
        let whole: Value = serde_json::from_str(text).unwrap();
        let list = List::read(text).unwrap();
        let plugins = list.plugins().iter().map(|plugin| {
            let mut plugin: Value = serde_json::from_str(plugin).unwrap();
            plugin["name"] = whole["name"].clone();
            plugin["cniVersion"] = whole["cniVersion"].clone();
            plugin
        });
        plugins.collect()
    }

    /// Runs one plugin in the node's namespace. Its result, or its error.
    fn run(&self, command: &str, plugin: &Value) -> Result<String, Value> {
        let kind = plugin["type"].as_str().unwrap();
        let program = self.plugins.iter().map(|place| place.join(kind)).find(|path| path.exists()).unwrap();
        let path = std::env::join_paths(&self.plugins).unwrap();
        let mut process = Launch::new(program)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "4f6e2ec1")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", format!("/proc/{}/fd/{}", std::process::id(), self.pod.as_fd().as_raw_fd()))
            .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0")
            .env("CNI_PATH", path)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .directory("/")
            .netns(&self.host)
            .privileged()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .die_with_parent()
            .spawn()
            .unwrap();
        process.take_stdin().unwrap().write_all(plugin.to_string().as_bytes()).unwrap();
        let mut output = String::new();
        process.take_stdout().unwrap().read_to_string(&mut output).unwrap();
        let success = process.wait().unwrap().success();
        if success { Ok(output) } else { Err(serde_json::from_str(&output).unwrap()) }
    }

    /// ADD of the whole chain: the result of each plugin goes to the next.
    fn add(&self) -> Result<String, Value> {
        let mut previous: Option<String> = None;
        for mut plugin in self.chain() {
            if let Some(previous) = previous {
                plugin["prevResult"] = serde_json::from_str(&previous).unwrap();
            }
            previous = Some(self.run("ADD", &plugin)?);
        }
        Ok(previous.unwrap())
    }

    fn check(&self, result: &str) -> Result<(), Value> {
        for mut plugin in self.chain() {
            plugin["prevResult"] = serde_json::from_str(result).unwrap();
            self.run("CHECK", &plugin)?;
        }
        Ok(())
    }

    /// DEL of the whole chain, in reverse, as the specification has it.
    fn del(&self, result: Option<&str>) {
        for mut plugin in self.chain().into_iter().rev() {
            if let Some(result) = result {
                plugin["prevResult"] = serde_json::from_str(result).unwrap();
            }
            assert_eq!(self.run("DEL", &plugin), Ok(String::new()));
        }
    }

    /// The pod's devices besides loopback.
    fn devices(&self) -> Vec<String> {
        let links = Links::of(&self.pod).unwrap().links().unwrap();
        links.into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
    }
}

/// Adds, checks and deletes while an agent answers, which looks at the pod's devices itself when it is asked.
fn with_agent(version: &str) {
    let node = Node::new();
    node.install(version);
    assert_eq!(node.chain().len(), 2);
    let listening = Listening::at(&node.path("cni.sock")).unwrap();
    let (tell, asked) = channel();
    let agent = thread::spawn(move || {
        let answers = [Answer::Guarded, Answer::Guarded, Answer::refused(Reason::Failed, "gone"), Answer::Noted];
        for given in answers {
            let (connection, _) = listening.listener().accept().unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            serve::answer(&connection, deadline, |ask, namespace| {
                let devices = namespace.map(|namespace| {
                    let links = Links::of(&NetNs::from_fd(namespace).unwrap()).unwrap().links().unwrap();
                    links.into_iter().map(|link| link.name).collect::<Vec<_>>()
                });
                tell.send((ask, devices)).unwrap();
                given
            })
            .unwrap();
        }
    });
    let result = node.add().unwrap();
    let (Ask::Add(ask), Some(devices)) = asked.recv().unwrap() else { panic!("another question") };
    assert!(devices.contains(&"eth0".to_owned()), "the device is there when the agent is asked: {devices:?}");
    let addresses = Attached::read(&ask.previous).unwrap().addresses_of("eth0");
    let mut links = Links::of(&node.pod).unwrap();
    assert_eq!(addresses.len(), 1);
    assert!(links.addresses().unwrap().iter().any(|(_, net)| net.addr() == addresses[0]), "the result is true");
    let (said, passed): (Value, Value) =
        (serde_json::from_str(ask.previous.get()).unwrap(), serde_json::from_str(&result).unwrap());
    assert_eq!(said, passed);
    assert_eq!(passed["cniVersion"], version);

    node.check(&result).unwrap();
    assert!(matches!(asked.recv().unwrap(), (Ask::Check(_), Some(_))));
    assert_eq!(node.check(&result).unwrap_err()["code"], 102);
    node.del(Some(&result));
    assert!(matches!(asked.iter().last().unwrap(), (Ask::Del(ask), None) if ask.network.is_some()));
    assert_eq!(node.devices(), Vec::<String>::new());
    agent.join().unwrap();
}

#[test]
fn a_pod_is_added_checked_and_deleted_behind_the_bridge() {
    for version in ["0.4.0", "1.0.0"] {
        with_agent(version);
    }
}

#[test]
fn without_an_agent_the_pod_does_not_get_its_network_and_nothing_is_left() {
    let node = Node::new();
    node.install("1.0.0");
    let error = node.add().unwrap_err();
    assert_eq!(error["code"], 100, "{error}");
    assert_eq!(node.devices(), ["eth0"], "the bridge plugin had been there before");
    // What the runtimes do then.
    node.del(None);
    node.del(None);
    assert_eq!(node.devices(), Vec::<String>::new());
    let left = std::fs::read_dir(node.path("ipam/podnet")).unwrap().filter_map(Result::ok);
    let addresses = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count();
    assert_eq!(addresses, 0, "its address is free again");
    // And when everything is taken away again, the network is as its installer made it.
    let directory = node.path("net.d");
    install::apply(&directory, &plan::uninstall(&install::read(&directory).unwrap())).unwrap();
    assert_eq!(install::read(&directory).unwrap().keys().collect::<Vec<_>>(), ["10-bridge.conf"]);
}
