//! `sidewall-cri` and `sidewall-nri` against a real containerd. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use sidewall_cri::control::{ContainerConfig, Control, Mount, PodConfig};
use sidewall_cri::{Client, ContainerId, ContainerState, Error, EventKind, PodIdentity, SandboxId, SandboxState};
use sidewall_node_tests::{Fabric, Node};
use sidewall_nri::{Container, End, Handler, Late, LateCallback, Pod, RuntimeInfo, Veto};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const IMAGE: &str = "localhost/busybox:1";
/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// A node with a client of its runtime.
struct Bed {
    client: Client,
    control: Control,
    node: Node,
    _fabric: Fabric,
}

impl Bed {
    async fn start() -> Self {
        let fabric = Fabric::new().unwrap();
        let node = Node::start(&fabric, 1).unwrap();
        let client = Client::connect(sidewall_cri::Options::new(node.cri_socket())).await.unwrap();
        Self { control: client.control(LIMIT), client, node, _fabric: fabric }
    }

    async fn reconnect(&mut self) {
        self.client = Client::connect(sidewall_cri::Options::new(self.node.cri_socket())).await.unwrap();
        self.control = self.client.control(LIMIT);
    }

    async fn run(&self, name: &str) -> (PodConfig, SandboxId) {
        let pod = pod(name);
        let id = self.control.run_pod_sandbox(&pod).await.unwrap();
        (pod, id)
    }

    /// Makes a container that leaves a mark on the node as its first act.
    async fn marker(&self, pod: &(PodConfig, SandboxId), name: &str) -> ContainerId {
        let marks = self.marks();
        fs::create_dir_all(&marks).unwrap();
        let mut container = ContainerConfig::new(name, IMAGE, ["sh", "-c", &format!("touch /marks/{name}; sleep 600")]);
        container.mounts.push(Mount { inside: "/marks".into(), outside: "/run/marks".into(), read_only: false });
        self.control.create_container(&pod.1, &pod.0, &container).await.unwrap()
    }

    /// A file that the runtime names, from here. `/var/run` is a symbolic link, which would lead to our own.
    fn named(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/var/run") {
            Ok(rest) => self.node.cell().path(Path::new("/run").join(rest)),
            Err(_) => self.node.cell().path(path),
        }
    }

    fn marks(&self) -> PathBuf {
        self.node.cell().path("/run/marks")
    }

    /// Waits until the container has left its mark.
    async fn marked(&self, name: &str) {
        until(name, || self.marks().join(name).exists()).await;
    }
}

fn pod(name: &str) -> PodConfig {
    let mut pod = PodConfig::new(PodIdentity {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        attempt: 0,
    });
    pod.labels.insert("app".into(), name.into());
    pod.annotations.insert("example.org/note".into(), "as the author says".into());
    pod
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "still waiting for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cri_tells_a_pods_life() {
    let mut bed = Bed::start().await;
    let version = bed.client.version().await.unwrap();
    assert_eq!((version.runtime.as_str(), version.api_version.as_str()), ("containerd", "v1"));
    let status = bed.client.status().await.unwrap();
    assert!(status.ready() && status.network_ready(), "{status:?}");
    assert!(bed.control.image_status(IMAGE).await.unwrap().is_some());
    assert_eq!(bed.control.image_status("localhost/none:1").await.unwrap(), None);
    assert_eq!((bed.client.sandboxes().await.unwrap(), bed.client.containers().await.unwrap()), (vec![], vec![]));

    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let mut stream = bed.client.events();
    let follower = tokio::spawn(async move {
        loop {
            match stream.next().await {
                Ok(event) => told.lock().unwrap().push((event.kind, event.container.to_string())),
                Err(error) => return error,
            }
        }
    });

    let (pod, sandbox) = bed.run("web").await;
    let mut config = ContainerConfig::new("app", IMAGE, ["sleep", "600"]);
    (config.uid, config.gid, config.further_gids) = (Some(1001), Some(1002), vec![7]);
    config.drop_capabilities = vec!["NET_RAW".into()];
    config.environment.insert("PASSWORD".into(), "hunter2".into());
    let app = bed.control.create_container(&sandbox, &pod, &config).await.unwrap();
    let created = bed.client.container_status(&app).await.unwrap();
    assert_eq!((created.state, created.started), (ContainerState::Created, None));
    bed.control.start_container(&app).await.unwrap();

    let all = bed.client.sandboxes().await.unwrap();
    let [found] = &all[..] else { panic!("{all:?}") };
    assert_eq!((found.id.clone(), &found.pod, found.state), (sandbox.clone(), &pod.pod, SandboxState::Ready));
    assert_eq!((&found.labels, &found.annotations), (&pod.labels, &pod.annotations));
    let all = bed.client.containers().await.unwrap();
    let [found] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&found.id, &found.sandbox, found.name.as_str()), (&app, &sandbox, "app"));

    // The sandbox: its addresses, its process and its namespace.
    let status = bed.client.sandbox_status(&sandbox).await.unwrap();
    assert_eq!(status.network, sidewall_cri::Network::Pod);
    let inside = bed.control.exec_sync(&app, &["ip", "addr"]).await.unwrap();
    let inside = String::from_utf8(inside.stdout).unwrap();
    assert!(!status.addresses.is_empty());
    for address in &status.addresses {
        assert!(inside.contains(&address.to_string()), "{address} is not in {inside}");
    }
    let details = status.details.unwrap();
    let specification = details.specification.unwrap();
    let path = specification.namespace("network").unwrap().path.as_ref().unwrap();
    let proc = |pid: Option<u32>, file: &str| bed.node.cell().path(format!("/proc/{}/{file}", pid.unwrap()));
    let inode = |path: PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let namespace = inode(bed.named(path));
    assert_eq!(namespace, inode(proc(details.pid, "ns/net")));

    // The container: what is told of it is what runs.
    let status = bed.client.container_status(&app).await.unwrap();
    assert_eq!(status.state, ContainerState::Running);
    assert!(status.started > status.created);
    let details = status.details.unwrap();
    assert!(!format!("{details:?}").contains("hunter2"));
    assert_eq!(namespace, inode(proc(details.pid, "ns/net")));
    let specification = details.specification.unwrap();
    let user = specification.user.unwrap();
    assert_eq!((user.uid, user.gid), (1001, 1002));
    assert!(user.further_gids.is_superset(&BTreeSet::from([7])));
    let capabilities = specification.capabilities.unwrap();
    assert!(!capabilities.within_reach("CAP_NET_RAW") && capabilities.within_reach("CAP_CHOWN"), "{capabilities:?}");
    let cgroup = fs::read_to_string(proc(details.pid, "cgroup")).unwrap();
    assert!(cgroup.trim_end().ends_with(specification.cgroups_path.as_ref().unwrap()), "{cgroup}");
    let process = fs::read_to_string(proc(details.pid, "status")).unwrap();
    assert!(process.contains("Uid:\t1001\t1001"), "{process}");
    let output = bed.control.exec_sync(&app, &["sh", "-c", "echo out; echo err >&2; exit 3"]).await.unwrap();
    assert_eq!((output.exit_code, &output.stdout[..], &output.stderr[..]), (3, &b"out\n"[..], &b"err\n"[..]));

    // The end.
    bed.control.stop_container(&app, Duration::ZERO).await.unwrap();
    let status = bed.client.container_status(&app).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
    assert_eq!(status.details.unwrap().pid, None);
    bed.control.remove_container(&app).await.unwrap();
    let gone = bed.client.container_status(&app).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");
    bed.control.stop_pod_sandbox(&sandbox).await.unwrap();
    assert_eq!(bed.client.sandbox_status(&sandbox).await.unwrap().sandbox.state, SandboxState::NotReady);
    bed.control.remove_pod_sandbox(&sandbox).await.unwrap();
    let gone = bed.client.sandbox_status(&sandbox).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");

    use EventKind::{Created, Deleted, Started, Stopped};
    let of = |id: &str| -> Vec<EventKind> {
        let events = events.lock().unwrap();
        events.iter().filter(|(_, whose)| whose == id).map(|(kind, _)| *kind).collect()
    };
    let life = [Created, Started, Stopped, Deleted];
    until("the last event", || of(sandbox.as_str()).len() >= life.len()).await;
    assert_eq!(of(app.as_str()), life);
    // The order is the runtime's: it has been seen to tell of a sandbox's start before its making.
    let told: BTreeSet<_> = of(sandbox.as_str()).into_iter().collect();
    assert_eq!(told, BTreeSet::from(life));

    // Without the runtime.
    bed.node.stop_containerd(Signal::KILL).unwrap();
    assert!(matches!(bed.client.version().await, Err(Error::Lost { .. })));
    assert!(matches!(follower.await.unwrap(), Error::Lost { .. }));
    let none = Client::connect(sidewall_cri::Options::new(bed.node.cri_socket())).await;
    assert!(matches!(none, Err(Error::NotThere { .. })), "{none:?}");
    bed.node.start_containerd().unwrap();
    assert!(matches!(bed.client.version().await, Err(Error::Lost { .. })), "it stays lost");
    bed.reconnect().await;
    bed.client.version().await.unwrap();
}

/// A handler that judges by the container's name and keeps what it was told.
#[derive(Default)]
struct Judge {
    told: Mutex<Told>,
    changed: Notify,
    /// Where to look at the process that is about to start.
    proc: Option<PathBuf>,
}

#[derive(Default)]
struct Told {
    connected: Vec<RuntimeInfo>,
    there_was: Vec<(Vec<Pod>, Vec<Container>)>,
    pods: Vec<Pod>,
    /// Containers at their start, with the command line and the status of their process then.
    starts: Vec<(Container, String, String)>,
    /// Names of containers that were stopped, and of those taken away.
    ends: Vec<(&'static str, String)>,
    late: usize,
    ended: Vec<String>,
}

impl Judge {
    fn with<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        let found = look(&mut self.told.lock().unwrap());
        self.changed.notify_waiters();
        found
    }
}

impl Handler for Judge {
    fn connected(&self, runtime: &RuntimeInfo) {
        self.with(|told| told.connected.push(runtime.clone()));
    }

    async fn synchronize(&self, pods: Vec<Pod>, containers: Vec<Container>) -> Result<(), Veto> {
        self.with(|told| told.there_was.push((pods, containers)));
        Ok(())
    }

    async fn run_pod(&self, pod: Pod) -> Result<(), Veto> {
        let refused = pod.name == "refused";
        self.with(|told| told.pods.push(pod));
        if refused { Err(Veto::new("no such pods here")) } else { Ok(()) }
    }

    async fn start_container(&self, pod: Pod, container: Container) -> Result<(), Veto> {
        assert_eq!(pod.id, container.pod);
        let read = |file: &str| {
            let path = self.proc.as_ref().unwrap().join(format!("{}/{file}", container.pid.unwrap()));
            fs::read_to_string(path).unwrap()
        };
        let (line, status) = (read("cmdline"), [read("status"), read("cgroup")].concat());
        let name = container.name.clone();
        self.with(|told| told.starts.push((container, line, status)));
        match name.as_str() {
            "refused" => Err(Veto::new("the guard is missing; restart the agent")),
            "late" => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn container_stopped(&self, _: Pod, container: Container) {
        self.with(|told| told.ends.push(("stopped", container.name)));
    }

    async fn container_removed(&self, _: Pod, container: Container) {
        self.with(|told| told.ends.push(("removed", container.name)));
    }

    async fn pod_removed(&self, pod: Pod) {
        self.with(|told| told.ends.push(("pod removed", pod.name)));
    }

    fn late(&self, _: &LateCallback) -> Late {
        self.with(|told| told.late += 1);
        Late::Veto
    }

    fn ended(&self, end: &End, _: Duration) {
        self.with(|told| told.ended.push(end.to_string()));
    }
}

/// A plugin at work.
struct Plugin {
    judge: Arc<Judge>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Plugin {
    async fn start(bed: &Bed) -> Self {
        let judge = Arc::new(Judge { proc: Some(bed.node.cell().path("/proc")), ..Judge::default() });
        let options = sidewall_nri::Options { socket: bed.node.nri_socket(), ..sidewall_nri::Options::new("sidewall") };
        let (stop, stopped) = oneshot::channel();
        let handler = Arc::clone(&judge);
        let running =
            tokio::spawn(async move { sidewall_nri::run(&options, &handler, async { drop(stopped.await) }).await });
        let plugin = Self { judge, stop, running };
        plugin.until("the synchronisation", |told| !told.there_was.is_empty()).await;
        plugin
    }

    async fn until(&self, what: &str, mut condition: impl FnMut(&Told) -> bool) {
        let wait = async {
            loop {
                let changed = self.judge.changed.notified();
                if condition(&self.judge.told.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("still waiting for {what}"));
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        timeout(LIMIT, self.running).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nri_asks_before_the_first_instruction() {
    let bed = Bed::start().await;
    let plugin = Plugin::start(&bed).await;
    plugin.judge.with(|told| {
        let [runtime] = &told.connected[..] else { panic!("{:?}", told.connected) };
        assert_eq!(runtime.runtime, "containerd");
        assert!(runtime.answer_within < runtime.request_timeout, "{runtime:?}");
    });

    let pod = bed.run("web").await;
    plugin.judge.with(|told| {
        let [found] = &told.pods[..] else { panic!("{:?}", told.pods) };
        assert_eq!((found.id.as_str(), found.name.as_str()), (pod.1.as_str(), "web"));
        assert_eq!((found.namespace.as_str(), found.uid.as_str()), ("shop", "uid-web"));
        assert_eq!(found.labels["app"], "web");
        assert_eq!(found.annotations["example.org/note"], "as the author says");
        let sidewall_nri::Network::At(path) = &found.network else { panic!("{found:?}") };
        assert!(bed.named(path).exists(), "{}", path.display());
    });

    // At the callback the process, its user and its cgroup are there, and it is still the OCI runtime's.
    let mut config = ContainerConfig::new("app", IMAGE, ["sleep", "600"]);
    config.uid = Some(1001);
    let app = bed.control.create_container(&pod.1, &pod.0, &config).await.unwrap();
    bed.control.start_container(&app).await.unwrap();
    plugin.judge.with(|told| {
        let [(container, line, status)] = &told.starts[..] else { panic!() };
        assert_eq!((container.id.as_str(), container.name.as_str()), (app.as_str(), "app"));
        assert!(line.contains("runc") && !line.contains("sleep"), "{line}");
        assert!(status.contains("Uid:\t1001\t1001"), "{status}");
        assert!(status.trim_end().ends_with(container.cgroups_path.as_ref().unwrap()), "{status}");
    });

    // A refusal reaches the caller with its reason, and the container never runs.
    let refused = bed.marker(&pod, "refused").await;
    let error = bed.control.start_container(&refused).await.unwrap_err();
    assert!(error.to_string().contains("sidewall: the guard is missing; restart the agent"), "{error}");
    let status = bed.client.container_status(&refused).await.unwrap();
    assert_eq!((status.state, status.started), (ContainerState::Exited, None));
    assert!(status.message.contains("the guard is missing"), "{status:?}");

    // A handler that never answers: refused before the runtime's patience is at its end, which would start the container.
    let late = bed.marker(&pod, "late").await;
    let error = bed.control.start_container(&late).await.unwrap_err();
    assert!(error.to_string().contains("StartContainer took longer than"), "{error}");
    assert_eq!(plugin.judge.with(|told| told.late), 1);

    // A refused pod is taken away again.
    let error = bed.control.run_pod_sandbox(&self::pod("refused")).await.unwrap_err();
    assert!(error.to_string().contains("no such pods here"), "{error}");
    plugin.until("the refused pod's end", |told| told.ends.contains(&("pod removed", "refused".into()))).await;

    // The plugin is still heard, and of all three only what was allowed has run.
    let allowed = bed.marker(&pod, "allowed").await;
    bed.control.start_container(&allowed).await.unwrap();
    bed.marked("allowed").await;
    let marks: Vec<_> = fs::read_dir(bed.marks()).unwrap().map(|mark| mark.unwrap().file_name()).collect();
    assert_eq!(marks, ["allowed"]);
    plugin.judge.with(|told| assert_eq!(told.ended, Vec::<String>::new(), "the session held"));

    bed.control.stop_container(&app, Duration::ZERO).await.unwrap();
    bed.control.remove_container(&app).await.unwrap();
    let ended = |told: &Told| ["stopped", "removed"].iter().all(|end| told.ends.contains(&(*end, "app".into())));
    plugin.until("the container's end", ended).await;
    plugin.end().await;

    // Nobody is asked any more: the same container starts. (What stands then are the rules in the kernel.)
    let refused = ContainerConfig { attempt: 1, ..ContainerConfig::new("refused", IMAGE, ["sleep", "600"]) };
    let refused = bed.control.create_container(&pod.1, &pod.0, &refused).await.unwrap();
    bed.control.start_container(&refused).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nri_comes_back_with_the_runtime_and_learns_what_there_is() {
    let mut bed = Bed::start().await;
    let pod = bed.run("web").await;
    let app = bed.marker(&pod, "app").await;
    bed.control.start_container(&app).await.unwrap();
    bed.marked("app").await;

    let plugin = Plugin::start(&bed).await;
    let pid = plugin.judge.with(|told| {
        let [(pods, containers)] = &told.there_was[..] else { panic!() };
        let ([found], [container]) = (&pods[..], &containers[..]) else { panic!("{pods:?} {containers:?}") };
        assert_eq!((found.id.as_str(), container.id.as_str()), (pod.1.as_str(), app.as_str()));
        assert_eq!(container.state, sidewall_nri::ContainerState::Running);
        container.pid.unwrap()
    });

    for (round, signal) in [Signal::KILL, Signal::TERM].into_iter().enumerate() {
        bed.node.stop_containerd(signal).unwrap();
        plugin.until("the session's end", |told| told.ended.iter().any(|end| end.contains("closed"))).await;
        bed.node.start_containerd().unwrap();
        plugin.until("the next session", |told| told.there_was.len() == round + 2).await;
        plugin.judge.with(|told| {
            let (pods, containers) = told.there_was.last().unwrap();
            assert_eq!((pods.len(), containers.len()), (1, 1));
            assert_eq!(containers[0].pid, Some(pid), "it has gone on");
        });
        bed.reconnect().await;
        let again = bed.marker(&pod, &format!("again{round}")).await;
        bed.control.start_container(&again).await.unwrap();
        let asked = |told: &Told| told.starts.iter().any(|(found, ..)| found.id.as_str() == again.as_str());
        assert!(plugin.judge.with(|told| asked(told)), "the new session is asked");
        bed.control.remove_container(&again).await.unwrap();
    }
    plugin.end().await;

    // More than ttrpc allows in one message, all of it from pods' authors: it must not keep the plugin out.
    for number in 0..18 {
        let mut large = self::pod(&format!("large{number}"));
        large.annotations.insert("example.org/large".into(), "x".repeat(250 << 10));
        let sandbox = bed.control.run_pod_sandbox(&large).await.unwrap();
        // As every pod has: a runtime that parts what it tells (NRI 0.10) never ends where it has far fewer containers.
        let container = ContainerConfig::new("app", IMAGE, ["true"]);
        bed.control.create_container(&sandbox, &large, &container).await.unwrap();
    }
    let plugin = Plugin::start(&bed).await;
    plugin.judge.with(|told| {
        let (pods, containers) = &told.there_was[0];
        assert_eq!((pods.len(), containers.len()), (19, 19));
        assert!(
            pods.iter().map(|pod| pod.annotations.values().map(String::len).sum::<usize>()).sum::<usize>() > 4 << 20
        );
    });
    plugin.end().await;
}
