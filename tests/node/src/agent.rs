//! Sidewall's own agent on a node.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::api::{Api, Credentials, Token};
use crate::control::ControlPlane;
use crate::error::{BedError, Result};
use crate::inside::mounts::LOGS;
use crate::node::{CNI_CONFIGURATION, CNI_PLUGINS, Node};
use crate::page;
use crate::parts;
use crate::until::until;

/// How long the agent may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(30);
/// Its service on a node.
const SERVICE: &str = "sidewall-agent";
/// The service of another version of it, which comes before the first has ended.
const NEXT: &str = "sidewall-agent-next";
/// Its configuration, inside.
const CONFIGURATION: &str = "/etc/sidewall/agent.yaml";
/// Its kubeconfig, inside.
const KUBECONFIG: &str = "/etc/sidewall/kubeconfig";
/// Its pages, inside.
const PAGES: u16 = 9551;
/// Its metrics, inside.
const METRICS: u16 = 9552;
/// Where Sidewall's own things live.
pub const NAMESPACE: &str = "sidewall-system";

/// Makes a cluster know Sidewall's kinds and the agents' service account, with the rights that the deployed manifest gives it.
/// The DaemonSet is left out: tests start the agent's program themselves.
///
/// # Errors
/// When the API server refuses something.
pub fn install(api: &Api) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/manifests/kubeadm.yaml");
    let manifest = fs::read_to_string(&path).map_err(BedError::file("read", &path))?;
    let documents: Vec<&str> = manifest.split("\n---\n").collect();
    let of_kind = |kind: &str| {
        let line = format!("kind: {kind}");
        let found: Vec<&str> =
            documents.iter().filter(|document| document.lines().any(|found| found == line)).copied().collect();
        found.join("\n---\n")
    };
    api.apply(&of_kind("Namespace"))?;
    for kind in [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ] {
        api.apply(&of_kind(kind))?;
    }
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    api.kubectl(&["apply", "-f", &crds.display().to_string()])?;
    for name in ["containernetworkpolicies", "sidecarproxies", "podsplits", "nodeenforcements"] {
        let name = format!("crd/{name}.sidewall.dev");
        api.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name])?;
    }
    Ok(())
}

/// The agent on a node, as its own service account.
#[derive(Debug)]
pub struct Agent<'a> {
    node: &'a Node,
    service: &'static str,
}

impl<'a> Agent<'a> {
    /// Starts the agent and returns when it is ready. `further` are settings that differ from the usual.
    ///
    /// # Errors
    /// When it is not built, or does not become ready; with its log.
    pub fn start(node: &'a Node, control: &ControlPlane, further: Value) -> Result<Agent<'a>> {
        let agent = Agent::place(node, control, further)?;
        agent.resume()?;
        agent.ready()?;
        Ok(agent)
    }

    /// Puts what the agent needs on a node, and does not start it.
    ///
    /// # Errors
    /// When a part is missing or the API server gives no token.
    pub fn place(node: &'a Node, control: &ControlPlane, further: Value) -> Result<Agent<'a>> {
        // Bound to a pod on its node, as a DaemonSet's is: the admission policy lets it write that node's object alone.
        let stand_in = format!("agent-on-{}", node.name());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": stand_in, "namespace": NAMESPACE},
            "spec": {
                "nodeName": node.name(), "hostNetwork": true, "serviceAccountName": "sidewall-agent",
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "pause", "image": "localhost/pause:1"}],
            },
        });
        let admin = control.admin();
        admin.apply(&pod.to_string())?;
        let bound = format!("--bound-object-name={stand_in}");
        let create =
            ["-n", NAMESPACE, "create", "token", "sidewall-agent", "--duration=24h", "--bound-object-kind=Pod"];
        let token = admin.kubectl(&[&create[..], &[bound.as_str()]].concat())?;
        let credentials = Credentials::Token(Token(token.trim().to_owned()));
        node.cell().write(KUBECONFIG, control.inner_kubeconfig(&credentials))?;
        let mut settings = json!({
            "cni": {
                "configurationDirectory": CNI_CONFIGURATION,
                "programDirectory": CNI_PLUGINS,
                "program": parts::built("sidewall-cni")?.display().to_string(),
            },
        });
        merge(&mut settings, further);
        node.cell().write(CONFIGURATION, settings.to_string())?;
        Ok(Agent { node, service: SERVICE })
    }

    /// Starts the agent's program, for the first time or again.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn resume(&self) -> Result<()> {
        let command = [
            parts::built("sidewall-agent")?.display().to_string(),
            "run".into(),
            format!("--config={CONFIGURATION}"),
            format!("--kubeconfig={KUBECONFIG}"),
            format!("--node-name={}", self.node.name()),
            "--log=info,sidewall_agent=debug".into(),
            "--log-format=text".into(),
        ];
        // As it is deployed.
        self.node.cell().start(self.service, &command, &[("MALLOC_ARENA_MAX", "2")])
    }

    /// Starts another of the same configuration, as an upgrade does that does not wait for the end of the old one.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn next(&self) -> Result<Agent<'a>> {
        let next = Agent { node: self.node, service: NEXT };
        next.resume()?;
        Ok(next)
    }

    /// Runs the program's command that takes everything away from the node.
    ///
    /// # Errors
    /// [`BedError::Failed`] with what it said.
    pub fn uninstall(&self) -> Result<String> {
        let program = parts::built("sidewall-agent")?;
        self.node.cell().run(program, &["uninstall", &format!("--config={CONFIGURATION}")])
    }

    /// All that it has logged, over all its lives.
    pub fn whole_log(&self) -> String {
        let log = self.node.cell().path(format!("{LOGS}/{}.log", self.service));
        fs::read(log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Ends the agent's program.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        self.node.cell().stop(self.service, signal, LIMIT).map(drop)
    }

    /// Sends a signal to the agent's program.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.node.cell().signal(self.service, signal)
    }

    /// Waits until the agent is ready.
    ///
    /// # Errors
    /// When it ends, or does not become ready; with its log.
    pub fn ready(&self) -> Result<()> {
        let ready = until("a ready agent", LIMIT, || {
            self.node.cell().still_runs(self.service)?;
            Ok(match self.page("readyz") {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            })
        });
        ready.map_err(|error| match error {
            BedError::Late { what, limit, last } => {
                BedError::Late { what, limit, last: format!("{last}\n{}", self.log()) }
            }
            other => other,
        })
    }

    /// A page of the agent.
    ///
    /// # Errors
    /// When it does not answer, or says that not all is well.
    pub fn page(&self, page: &str) -> Result<String> {
        let port = if page == "metrics" { METRICS } else { PAGES };
        page::ask(self.node.cell(), port, page)
    }

    /// What the agent has counted under a name with labels.
    ///
    /// # Errors
    /// As [`Agent::page`].
    pub fn metric(&self, name: &str) -> Result<f64> {
        Ok(page::metric(&self.page("metrics")?, name))
    }

    /// The agent's process, as this process counts.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.node.cell().service_pid(self.service)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.node.cell().log(self.service)
    }
}

/// Puts settings over others.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
