//! The whole product on a cluster with nodes: from images as `cargo xtask image` makes them, and by Helm, as a user installs it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use sidewall_node_tests::cell::output;
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, Cluster, parts};

use super::{NAMESPACE, helm, root};

/// How long a rollout may take, and anything else that many parts take part in.
pub const LIMIT: Duration = Duration::from_secs(120);
/// The namespace whose pods get a proxy.
pub const SHOP: &str = "shop";

const IMAGES: [&str; 3] = ["sidewall-agent", "sidewall-operator", "sidewall-proxy"];

/// Makes the product's images known to every node. They are what `cargo xtask image` writes, but that the programs are not built
/// anew: they are those beside this test, with the libraries that they load.
pub fn import_images(cluster: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let xtask = parts::built("xtask").unwrap();
    let mut image = Command::new(&xtask);
    image.current_dir(root()).args(["image", "--repository=localhost", "--tag=test", "--programs"]);
    output(image.arg(xtask.parent().unwrap()).arg("--out").arg(folder.path())).unwrap();
    for name in IMAGES {
        let archive = fs::read(folder.path().join(name).with_extension("tar")).unwrap();
        for node in cluster.nodes() {
            node.cell().write("/run/bed/image.tar", &archive).unwrap();
            node.ctr(&["images", "import", "/run/bed/image.tar"]).unwrap();
        }
    }
    for node in cluster.nodes() {
        fs::remove_file(node.cell().path("/run/bed/image.tar")).unwrap();
    }
}

/// A release of the chart.
pub struct Release<'a> {
    cluster: &'a Cluster,
}

impl<'a> Release<'a> {
    /// Installs the chart with these values, as `docs/install.md` says, and does not wait.
    pub fn install(cluster: &'a Cluster, values: &[&str]) -> Self {
        let api = cluster.api();
        api.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
        let level = "pod-security.kubernetes.io/enforce=privileged";
        api.kubectl(&["label", "namespace", NAMESPACE, level]).unwrap();
        let release = Self { cluster };
        // There is no kube-proxy here, and no registry.
        let server = cluster.control().inner_url();
        let (host, port) = server.trim_start_matches("https://").rsplit_once(':').unwrap();
        let mut own = vec![
            format!("apiServer.host={host}"),
            format!("apiServer.port={port}"),
            "uninstall.pauseImage=localhost/pause:1".into(),
        ];
        for (at, name) in ["", "operator.", "proxy."].into_iter().zip(IMAGES) {
            own.push(format!("{at}image.repository=localhost/{name}"));
            own.push(format!("{at}image.tag=test"));
        }
        let all: Vec<&str> = own.iter().map(String::as_str).chain(values.iter().copied()).collect();
        release.helm("install", &["preset=kubeadm"].into_iter().chain(all).collect::<Vec<_>>(), &[]);
        release
    }

    /// Upgrades it: these values, and for the others those that it has.
    pub fn upgrade(&self, values: &[&str]) {
        self.helm("upgrade", values, &["--reuse-values"]);
    }

    /// Takes it away.
    pub fn uninstall(&self) {
        let kubeconfig = format!("--kubeconfig={}", self.cluster.api().kubeconfig().display());
        helm(&["uninstall", "sidewall", "--namespace", NAMESPACE, &kubeconfig]).unwrap();
    }

    fn helm(&self, what: &str, values: &[&str], more: &[&str]) {
        let kubeconfig = format!("--kubeconfig={}", self.cluster.api().kubeconfig().display());
        let start = [what, "sidewall", "sidewall", "--namespace", NAMESPACE, &kubeconfig].into_iter();
        let sets = values.iter().flat_map(|value| ["--set", value]);
        helm(&start.chain(more.iter().copied()).chain(sets).collect::<Vec<_>>()).unwrap();
    }

    /// Waits until a workload of it has all its pods, and they are ready.
    pub fn rolled_out(&self, workload: &str) {
        let timeout = format!("--timeout={}s", LIMIT.as_secs());
        let wait = ["-n", NAMESPACE, "--request-timeout=0", "rollout", "status", workload, &timeout];
        if let Err(error) = self.cluster.api().kubectl(&wait) {
            panic!("{error}\n{}", self.story());
        }
    }

    /// Waits until the operator has been rolled out, and the last of the old pods has ended.
    pub fn operator_settled(&self) {
        self.rolled_out("deployment/sidewall-operator");
        let selector = ["-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/name=sidewall-operator"];
        let two = |pods: &Value| pods["items"].as_array().is_some_and(|all| all.len() == 2);
        let ended = self.cluster.api().until("the old operators' end", LIMIT, &selector, two);
        ended.unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
    }

    /// The operator's pods that are not on their way out.
    pub fn operators(&self) -> Vec<Value> {
        let found =
            self.cluster.api().get(&["-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/name=sidewall-operator"]);
        let mut found = found.unwrap();
        let all = found["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        all.into_iter().filter(|pod| pod["metadata"].get("deletionTimestamp").is_none()).collect()
    }

    /// What is known of its pods, for a person.
    pub fn story(&self) -> String {
        let api = self.cluster.api();
        let pods = api.get(&["-n", NAMESPACE, "pods"]).unwrap_or_default();
        let all = pods["items"].as_array().into_iter().flatten();
        let names = all.filter_map(|pod| pod["metadata"]["name"].as_str());
        let pods = names.map(|name| api.story(NAMESPACE, name));
        // Where it runs.
        let cert_manager = super::certmanager::log(self.cluster.control());
        pods.chain([cert_manager]).collect::<Vec<_>>().join("\n----\n")
    }
}

/// Makes the namespace whose pods get a proxy.
pub fn open_shop(api: &Api) {
    let labels = json!({"sidewall.dev/injection": "enabled"});
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP, "labels": labels}});
    api.apply(&shop.to_string()).unwrap();
    api.until("its account", LIMIT, &["-n", SHOP, "serviceaccount", "default"], |_| true).unwrap();
}

/// A file of `examples/cluster`, with an image that the nodes have.
pub fn example(name: &str) -> String {
    let path = root().join("examples/cluster").join(name);
    fs::read_to_string(path).unwrap().replace("busybox:1.37", "localhost/busybox:1")
}

/// Applies a file to the shop, again until the API server knows whom to ask and to believe.
pub fn apply(release: &Release<'_>, text: &str) {
    let api = release.cluster.api();
    let applied = until("that it is taken", LIMIT, || {
        let applied = api.with_input(&["-n", SHOP, "apply", "-f", "-"], text);
        Ok(applied.map_err(|error| error.to_string()))
    });
    applied.unwrap_or_else(|error| panic!("{error}\n{}", release.story()));
}

/// The example's pod, once it is ready.
pub fn hello(release: &Release<'_>) -> Value {
    let api = release.cluster.api();
    let selector = ["-n", SHOP, "pods", "-l", "app.kubernetes.io/name=hello"];
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|found| found["type"] == "Ready" && found["status"] == "True")
    };
    let found = until("a ready pod of the example", LIMIT, || {
        let pods = api.get(&selector)?;
        let mut all = pods["items"].as_array().into_iter().flatten();
        let alive = all.find(|pod| pod["metadata"].get("deletionTimestamp").is_none() && ready(pod));
        Ok(alive.cloned().ok_or_else(|| {
            let first = pods["items"][0]["metadata"]["name"].as_str().unwrap_or("none").to_owned();
            api.story(SHOP, &first)
        }))
    });
    found.unwrap_or_else(|error| panic!("{error}\n{}", release.story()))
}

/// Whether a pod has a proxy.
pub fn fronted(pod: &Value) -> bool {
    pod["spec"]["initContainers"][0]["name"] == "front-proxy"
}

/// What a server answers, asked from beside the API server: its status and its body.
pub fn ask(cluster: &Cluster, at: SocketAddr, user: Option<&str>) -> Result<(u16, String), String> {
    let limit = Duration::from_secs(3);
    let ask = || {
        let mut connection = TcpStream::connect_timeout(&at, limit)?;
        connection.set_read_timeout(Some(limit))?;
        let user = user.map(|user| {
            let word = base64::prelude::BASE64_STANDARD.encode(user);
            format!("authorization: Basic {word}\r\n")
        });
        let user = user.unwrap_or_default();
        let request = format!("GET /index.html HTTP/1.1\r\nhost: hello\r\n{user}connection: close\r\n\r\n");
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map(|_| answer)
    };
    let answer: std::io::Result<String> = cluster.control().cell().netns().run(ask).unwrap();
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| answer.clone())?;
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// Whether a connection can be made, from beside the API server.
pub fn reaches(cluster: &Cluster, at: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&at, Duration::from_secs(2)).is_ok();
    cluster.control().cell().netns().run(connect).unwrap()
}

/// A pod that the example's SidecarProxy selects.
pub fn another(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": SHOP, "labels": {"app.kubernetes.io/name": "hello"}},
        "spec": {"containers": [{
            "name": "app", "image": "localhost/busybox:1", "command": ["sleep", "3600"],
            "securityContext": {"runAsUser": 20002},
        }]},
    })
}

/// Has pods made, without a pause, while `change` goes on; how many were made. None may be refused, or be without its proxy.
pub fn made_meanwhile(api: &Api, change: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    let (made, failed) = thread::scope(|scope| {
        let maker = scope.spawn(|| {
            let (mut made, mut failed) = (0, Vec::new());
            let pod = another("meanwhile").to_string();
            let create = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
            while !over.load(Ordering::Relaxed) {
                match api.with_input(&create, &pod) {
                    Ok(text) if fronted(&serde_json::from_str(&text).unwrap()) => made += 1,
                    Ok(text) => failed.push(format!("without a proxy: {text}")),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            (made, failed)
        });
        // Also when it panics, or the maker would go on for ever.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = Over(&over);
        change();
        drop(end);
        maker.join().unwrap()
    });
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), failed.len() + made);
    made
}
