//! Reads a Pod manifest into a plan: who runs what, as whom, in which order, under which probes. Pure.

mod expand;
mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSecurityContext};
use serde::{Deserialize, Serialize};

use crate::check::{Finding, Severity, check_supported};
pub use expand::expand;
pub use probes::{Probe, ProbeAction, Probes};

/// The first user and group id given to containers that ask for none.
pub const FIRST_ID: u32 = 10001;

/// What the containers find in `PATH` unless they set it: what container runtimes give them.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What kind of container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: started in its turn, ended after the app containers.
    Sidecar,
    /// An ordinary container.
    App,
}

/// What happens after a container's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It starts again.
    Always,
    /// It starts again after a failure.
    OnFailure,
    /// It stays ended.
    Never,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name, unique in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// A pod, ready to be made.
#[derive(Clone, Debug)]
pub struct PodPlan {
    /// Its namespace; `default` unless given.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, if the manifest has one.
    pub uid: Option<String>,
    /// When its containers start again.
    pub restart_policy: RestartPolicy,
    /// How long they have between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Init containers and sidecars in their order, then app containers in theirs.
    pub containers: Vec<ContainerPlan>,
    /// Network settings of the namespace.
    pub sysctls: Vec<(String, String)>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// A container, ready to be started once the pod's addresses are known.
#[derive(Clone, Debug)]
pub struct ContainerPlan {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// The user id of its processes.
    pub uid: u32,
    /// Their group id.
    pub gid: u32,
    /// Their supplementary groups.
    pub groups: Vec<u32>,
    /// The ports that it declares.
    pub ports: Vec<Port>,
    /// Its probes.
    pub probes: Probes,
    directory: Option<PathBuf>,
    argv: Vec<String>,
    env: Vec<(String, Value)>,
}

/// What a container runs: everything resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; the program not yet looked up in `PATH`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working directory; `/` unless given.
    pub directory: PathBuf,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Field(Field),
}

/// A field of the pod that an environment variable can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Namespace,
    Uid,
    Label(String),
    Annotation(String),
    PodIp,
    PodIps,
    HostIp,
}

/// What is known of a pod only once it is there.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Its UID.
    pub uid: &'a str,
    /// Its addresses, the primary first.
    pub pod_ips: &'a [IpAddr],
    /// The node's address toward it.
    pub host_ip: Option<IpAddr>,
}

/// How to read a manifest.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// The first id given to containers that ask for none.
    pub first_id: u32,
    /// Whether containers may be user 0. Such a process owns this machine's files and the cgroup tree, even without
    /// a capability: it could move itself into another container's cgroup. For tests of just that.
    pub allow_root: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions { first_id: FIRST_ID, allow_root: false }
    }
}

/// Reads a manifest.
///
/// # Errors
/// Everything that keeps the pod from being run, what [`check_supported`] finds included; warnings are left out.
pub fn plan(pod: &Pod, options: &PlanOptions) -> Result<PodPlan, Vec<Finding>> {
    let mut problems: Vec<Finding> =
        check_supported(pod).into_iter().filter(|f| f.severity == Severity::Error).collect();
    let mut reader = Reader { problems: &mut problems, options, pod: PodSecurityContext::default() };
    let plan = reader.pod(pod);
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(problems),
    }
}

struct Reader<'a> {
    problems: &'a mut Vec<Finding>,
    options: &'a PlanOptions,
    pod: PodSecurityContext,
}

impl Reader<'_> {
    fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Finding { field: field.into(), severity: Severity::Error, message: message.into() });
    }

    fn pod(&mut self, pod: &Pod) -> Option<PodPlan> {
        let spec = pod.spec.as_ref()?;
        self.pod = spec.security_context.clone().unwrap_or_default();
        let meta = &pod.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let namespace = meta.namespace.clone().unwrap_or_else(|| "default".into());
        if !is_dns(&name, 253, true) {
            self.problem("metadata.name", format!("{name:?} is not a name: lower case letters, digits, '-' and '.'"));
        }
        if !is_dns(&namespace, 63, false) {
            self.problem("metadata.namespace", format!("{namespace:?} is not a namespace's name"));
        }
        // The UID becomes the name of a directory.
        if meta.uid.as_ref().is_some_and(|uid| !is_dns(uid, 63, false)) {
            self.problem("metadata.uid", "is not a UID: lower case letters, digits and '-'");
        }
        if spec.containers.is_empty() {
            self.problem("spec.containers", "is empty: a pod needs at least one container");
        }

        let manifest: Vec<(String, Kind, &Container)> = spec
            .init_containers
            .iter()
            .flatten()
            .enumerate()
            .map(|(i, c)| {
                let kind = if c.restart_policy.as_deref() == Some("Always") { Kind::Sidecar } else { Kind::Init };
                (format!("spec.initContainers[{i}]"), kind, c)
            })
            .chain(spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), Kind::App, c)))
            .collect();
        let mut ids = Ids::new(self.options.first_id, &manifest, &self.pod);
        let mut names = BTreeSet::new();
        let mut containers = Vec::new();
        for (at, kind, container) in &manifest {
            if !is_dns(&container.name, 63, false) {
                self.problem(format!("{at}.name"), format!("{:?} is not a container's name", container.name));
            }
            if !names.insert(&container.name) {
                self.problem(format!("{at}.name"), format!("{:?} is taken by another container", container.name));
            }
            containers.push(self.container(at, *kind, container, &mut ids));
        }
        let restart_policy = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        };
        Some(PodPlan {
            namespace,
            name,
            uid: meta.uid.clone(),
            restart_policy,
            grace: seconds(spec.termination_grace_period_seconds.unwrap_or(30)),
            containers,
            sysctls: self.pod.sysctls.iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
        })
    }

    fn container(&mut self, at: &str, kind: Kind, container: &Container, ids: &mut Ids) -> ContainerPlan {
        let own = container.security_context.clone().unwrap_or_default();
        let asked_user = own.run_as_user.or(self.pod.run_as_user);
        let asked_group = own.run_as_group.or(self.pod.run_as_group);
        let next = ids.next();
        let uid = self.id(&format!("{at}.securityContext.runAsUser"), asked_user, next);
        let gid = self.id(&format!("{at}.securityContext.runAsGroup"), asked_group, next);
        let non_root = own.run_as_non_root.or(self.pod.run_as_non_root) == Some(true);
        if uid == 0 && (non_root || !self.options.allow_root) {
            let why = if non_root {
                "runAsNonRoot forbids it"
            } else {
                "there is no root file system of its own here, so root would own this machine's files and cgroups"
            };
            self.problem(format!("{at}.securityContext.runAsUser"), format!("0 is refused: {why}"));
        }
        let groups = self.pod.supplemental_groups.clone().unwrap_or_default();
        let groups = groups.into_iter().chain(self.pod.fs_group);
        let groups = groups.map(|g| self.id("spec.securityContext.supplementalGroups", Some(g), 0)).collect();
        let ports = self.ports(at, container);
        let probes = probes::read(at, container, &ports, self.problems);
        let argv = container.command.iter().flatten().chain(container.args.iter().flatten()).cloned().collect();
        ContainerPlan {
            name: container.name.clone(),
            kind,
            uid,
            gid,
            groups,
            ports,
            probes,
            directory: container.working_dir.as_ref().filter(|d| !d.is_empty()).map(PathBuf::from),
            argv,
            env: container.env.iter().flatten().enumerate().map(|(i, v)| self.variable(at, i, v)).collect(),
        }
    }

    fn id(&mut self, field: &str, asked: Option<i64>, assigned: u32) -> u32 {
        match asked.map(u32::try_from) {
            None => assigned,
            // The highest means "unchanged" to the kernel.
            Some(Ok(id)) if id != u32::MAX => id,
            _ => {
                self.problem(field, "must be between 0 and 4294967294");
                assigned
            }
        }
    }

    fn ports(&mut self, at: &str, container: &Container) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let at = format!("{at}.ports[{i}]");
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            if !matches!(protocol.as_str(), "TCP" | "UDP" | "SCTP") {
                self.problem(format!("{at}.protocol"), format!("{protocol:?} is not TCP, UDP or SCTP"));
            }
            let number = u16::try_from(port.container_port).ok().filter(|n| *n > 0);
            if number.is_none() {
                self.problem(format!("{at}.containerPort"), "must be between 1 and 65535");
            }
            if port.name.is_some() && ports.iter().any(|p| p.name == port.name) {
                self.problem(format!("{at}.name"), "is taken by another port of the container");
            }
            ports.extend(number.map(|port_number| Port { name: port.name.clone(), protocol, port: port_number }));
        }
        ports
    }

    fn variable(&mut self, at: &str, i: usize, variable: &EnvVar) -> (String, Value) {
        let at = format!("{at}.env[{i}]");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            self.problem(format!("{at}.name"), format!("{:?} is not a variable's name", variable.name));
        }
        if variable.value_from.is_some() && variable.value.as_ref().is_some_and(|v| !v.is_empty()) {
            self.problem(&at, "has both value and valueFrom");
        }
        let path = variable.value_from.as_ref().and_then(|f| f.field_ref.as_ref()).map(|f| field_of(&f.field_path));
        let value = match path {
            Some(Ok(field)) => Value::Field(field),
            // What is not supported has been reported by `check_supported`.
            _ => Value::Text(variable.value.clone().unwrap_or_default()),
        };
        (variable.name.clone(), value)
    }
}

/// Reads `metadata.name`, `metadata.labels['x']` and so on.
pub(crate) fn field_of(path: &str) -> Result<Field, String> {
    let keyed = |prefix: &str| {
        path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']").filter(|k| !k.is_empty()).map(str::to_owned)
    };
    Ok(match path {
        "metadata.name" => Field::Name,
        "metadata.namespace" => Field::Namespace,
        "metadata.uid" => Field::Uid,
        "status.podIP" => Field::PodIp,
        "status.podIPs" => Field::PodIps,
        "status.hostIP" => Field::HostIp,
        _ => match (keyed("metadata.labels"), keyed("metadata.annotations")) {
            (Some(key), _) => Field::Label(key),
            (_, Some(key)) => Field::Annotation(key),
            _ => {
                return Err(format!(
                    "{path:?} is not known here; metadata.name, .namespace, .uid, .labels['…'], .annotations['…'], \
                     status.podIP, .podIPs and .hostIP are"
                ));
            }
        },
    })
}

impl PodPlan {
    fn field(&self, field: &Field, facts: &Facts<'_>) -> String {
        let text = |ip: &IpAddr| ip.to_string();
        match field {
            Field::Name => self.name.clone(),
            Field::Namespace => self.namespace.clone(),
            Field::Uid => facts.uid.to_owned(),
            Field::Label(key) => self.labels.get(key).cloned().unwrap_or_default(),
            Field::Annotation(key) => self.annotations.get(key).cloned().unwrap_or_default(),
            Field::PodIp => facts.pod_ips.first().map(text).unwrap_or_default(),
            Field::PodIps => facts.pod_ips.iter().map(text).collect::<Vec<_>>().join(","),
            Field::HostIp => facts.host_ip.as_ref().map(text).unwrap_or_default(),
        }
    }

    /// Resolves what a container runs: variables in order, each may use those before it; then command and arguments.
    pub fn command(&self, container: &ContainerPlan, facts: &Facts<'_>) -> Command {
        let mut declared = BTreeMap::new();
        for (name, value) in &container.env {
            let value = match value {
                Value::Text(text) => expand(text, &declared),
                Value::Field(field) => self.field(field, facts),
            };
            declared.insert(name.clone(), value);
        }
        let argv = container.argv.iter().map(|a| expand(a, &declared)).collect();
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
            ("HOSTNAME".to_owned(), self.name.clone()),
            ("HOME".to_owned(), "/".to_owned()),
        ]);
        env.append(&mut declared);
        Command { argv, env, directory: container.directory.clone().unwrap_or_else(|| "/".into()) }
    }
}

/// Hands out ids that no container asks for.
struct Ids {
    next: u32,
    taken: BTreeSet<u32>,
}

impl Ids {
    fn new(first: u32, containers: &[(String, Kind, &Container)], pod: &PodSecurityContext) -> Ids {
        let own = containers.iter().filter_map(|(_, _, c)| c.security_context.as_ref());
        let asked = own.flat_map(|c| [c.run_as_user, c.run_as_group]).chain([pod.run_as_user, pod.run_as_group]);
        Ids { next: first, taken: asked.flatten().filter_map(|id| id.try_into().ok()).collect() }
    }

    /// One id for each container, used or not, so that the n-th container's id does not hang on the others' settings.
    fn next(&mut self) -> u32 {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

/// RFC 1123 labels, joined by dots where `dots`.
fn is_dns(name: &str, max: usize, dots: bool) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= max && if dots { name.split('.').all(label) } else { label(name) }
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

#[cfg(test)]
mod tests;
