//! A node: a cell that runs containerd with CRI and NRI, runc and CNI plugins, and is joined to a fabric.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::cell::Cell;
use crate::error::{BedError, Result};
use crate::fabric::{Addresses, Fabric};
use crate::image::Image;
use crate::inside::runc::REAL;
use crate::parts;
use crate::until::until;

/// containerd's socket, inside.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// NRI's socket, inside.
pub const NRI: &str = "/run/nri/nri.sock";
/// The folder of CNI configuration lists, inside.
pub const CNI_CONFIGURATION: &str = "/etc/cni/net.d";
/// The folder of CNI plugins, inside.
pub const CNI_PLUGINS: &str = "/opt/cni/bin";
/// The cgroup of pods, inside, each container's below it: containerd's own for pods without a parent. The kubelet's usual
/// `/kubepods` needs the controllers cpu and memory, which a host with both cgroup versions does not give the v2 tree.
pub const PODS: &str = "/k8s.io";

/// How long containerd may take to answer.
const LIMIT: Duration = Duration::from_secs(15);
/// Plugins that the configuration list names, and those that further networks use.
const PLUGINS: [&str; 8] = ["bridge", "host-local", "loopback", "macvlan", "ptp", "static", "tuning", "portmap"];

/// How a node differs from others.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether containerd offers NRI.
    pub nri: bool,
    /// Whether pods get IPv6 addresses too.
    pub dual_stack: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nri: true, dual_stack: true }
    }
}

/// A node without a kubelet. See the crate's `kubelet` for one.
#[derive(Debug)]
pub struct Node {
    cell: Cell,
    addresses: Addresses,
}

impl Node {
    /// Starts the node called `nodeN`, and returns when containerd answers and has the images `localhost/pause:1` and
    /// `localhost/busybox:1`.
    ///
    /// # Errors
    /// When a part is missing, the kernel refuses something, or containerd does not start.
    pub fn start(fabric: &Fabric, number: u8) -> Result<Node> {
        Node::with(fabric, number, &Options::default())
    }

    /// [`Node::start`] with options.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn with(fabric: &Fabric, number: u8, options: &Options) -> Result<Node> {
        let netns = fabric.join(number)?;
        let cell = Cell::new(&format!("node{number}"), &netns, true)?;
        let node = Node { cell, addresses: Addresses::of(number) };
        node.configure(options)?;
        node.start_containerd()?;
        for image in [Image::pause()?, Image::busybox()?] {
            node.import(&image)?;
        }
        Ok(node)
    }

    /// The cell, for everything that is not a node's own.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The node's name: `node1`.
    pub fn name(&self) -> &str {
        self.cell.name()
    }

    /// The node's addresses and its pods' ranges.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// containerd's socket, to connect to from outside: CRI v1 and containerd's own services.
    pub fn cri_socket(&self) -> PathBuf {
        self.cell.path(CONTAINERD)
    }

    /// NRI's socket, to connect to from outside.
    pub fn nri_socket(&self) -> PathBuf {
        self.cell.path(NRI)
    }

    /// Makes an image known to containerd.
    ///
    /// # Errors
    /// When it cannot be made, or containerd refuses it.
    pub fn import(&self, image: &Image) -> Result<()> {
        let inside = "/run/bed/image.tar";
        self.cell.write(inside, image.archive()?)?;
        self.ctr(&["images", "import", inside])?;
        let path = self.cell.path(inside);
        fs::remove_file(&path).map_err(BedError::file("remove", path))
    }

    /// Runs `ctr` in the namespace that CRI uses.
    ///
    /// # Errors
    /// [`BedError::Failed`].
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let all = ["--address", CONTAINERD, "--namespace", "k8s.io"].into_iter().chain(arguments.iter().copied());
        self.cell.run(parts::node("ctr")?, &all.collect::<Vec<_>>())
    }

    /// Ends containerd with SIGTERM or SIGKILL; containers go on.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub fn stop_containerd(&self, signal: Signal) -> Result<()> {
        self.cell.stop("containerd", signal, LIMIT).map(drop)
    }

    /// Starts containerd, for the first time or again, and waits until CRI answers.
    ///
    /// # Errors
    /// When it ends, or does not answer.
    pub fn start_containerd(&self) -> Result<()> {
        self.cell.start("containerd", &[text(parts::node("containerd")?)], &[])?;
        let ctr = parts::node("ctr")?;
        until("containerd's answer", LIMIT, || {
            self.cell.still_runs("containerd")?;
            if !self.cri_socket().exists() {
                return Ok(Err(self.cell.log("containerd")));
            }
            // The socket answers before the CRI plugin is ready; this says which plugins are.
            let mut list = self.cell.command(&ctr)?;
            list.args(["--address", CONTAINERD, "plugins", "ls"]).stderr(Stdio::null());
            let list = crate::cell::output(&mut list).unwrap_or_default();
            let ready = list.lines().any(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next() == Some("io.containerd.grpc.v1")
                    && words.next() == Some("cri")
                    && line.trim_end().ends_with(" ok")
            });
            Ok(if ready { Ok(()) } else { Err(self.cell.log("containerd")) })
        })
    }

    fn configure(&self, options: &Options) -> Result<()> {
        let plugins = self.cell.path(CNI_PLUGINS);
        fs::create_dir_all(&plugins).map_err(BedError::file("make", &plugins))?;
        for plugin in PLUGINS {
            link(parts::node(plugin)?, plugins.join(plugin))?;
        }
        // containerd starts runc by a path of our own: the bed's program, which becomes the real one.
        let folder = self.cell.path("/opt/bed");
        fs::create_dir_all(&folder).map_err(BedError::file("make", &folder))?;
        link(parts::bed()?, folder.join("runc"))?;
        link(parts::node("runc")?, self.cell.path(REAL))?;
        self.cell.write("/etc/containerd/config.toml", containerd_configuration(options))?;
        let list = network(self.addresses, options).to_string();
        self.cell.write(format!("{CNI_CONFIGURATION}/10-pods.conflist"), list)?;
        self.cell.write("/etc/resolv.conf", "")
    }
}

fn link(to: PathBuf, at: PathBuf) -> Result<()> {
    symlink(&to, &at).map_err(BedError::file("link", at))
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

/// containerd's configuration (version 2 of the format, containerd 1.7).
fn containerd_configuration(options: &Options) -> String {
    format!(
        r#"version = 2
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Whoever runs the tests may lack CAP_SYS_RESOURCE, without which no process's score can be lowered.
  restrict_oom_score_adj = true
  disable_apparmor = true
  # As the kubelet's documentation recommends: whoever is not root may listen on port 80 of his own pod.
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{CNI_CONFIGURATION}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "/opt/bed/runc"
[plugins."io.containerd.nri.v1.nri"]
  disable = {}
  socket_path = "{NRI}"
  plugin_path = "/opt/nri/plugins"
  plugin_config_path = "/etc/nri/conf.d"
"#,
        !options.nri
    )
}

/// The configuration list that a cluster's network would install: a bridge, addresses from the node's ranges.
fn network(addresses: Addresses, options: &Options) -> serde_json::Value {
    let families = if options.dual_stack { 2 } else { 1 };
    let ranges: Vec<_> = addresses.pods().iter().take(families).map(|range| json!([{"subnet": range}])).collect();
    let routes: Vec<_> = ["0.0.0.0/0", "::/0"].iter().take(families).map(|all| json!({"dst": all})).collect();
    json!({
        "cniVersion": "1.0.0", "name": "pods", "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        }],
    })
}
