//! What a pod's containers may do that no wall, or no wall by user, can hold.

use k8s_openapi::api::core::v1 as core;
use sidewall_api::{FieldPath, Problem};
use std::collections::BTreeMap;

/// How containers are to be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TellApart {
    /// By cgroup.
    Cgroup,
    /// By user.
    Uid,
    /// By group.
    Gid,
    /// By cgroup where the node can, else by user.
    Either,
}

/// Capabilities that are stronger than packet rules, and what each lets a process do.
const STRONGER: [(&str, &str); 7] = [
    ("ALL", "lets it do anything in the pod's network, and take any user"),
    ("NET_ADMIN", "lets it rewrite the marks by which flows are known, and turn connection tracking off"),
    ("NET_RAW", "lets it listen to the others' loopback, and send frames that no rule of sockets sees"),
    ("SYS_ADMIN", "lets it mount the cgroup file system and enter other namespaces"),
    ("SYS_PTRACE", "lets it take over other containers' processes where it can see them"),
    ("SYS_MODULE", "lets it load code into the node's kernel"),
    ("BPF", "lets it load programs that see and change packets"),
];

/// What can't be held of a pod that policies select. Each is a warning, at the field that would close it.
pub fn privileges(pod: &core::Pod, apart: TellApart) -> Vec<Problem> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut problems = Vec::new();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let lists = [("initContainers", init), ("containers", spec.containers.as_slice())];
    let mut users: BTreeMap<i64, &str> = BTreeMap::new();
    for (list, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            let at = FieldPath::spec().key(list).index(index);
            let bearer = Bearer { container, pod: spec.security_context.as_ref(), at };
            bearer.stronger(&mut problems);
            bearer.takes_users(apart, &mut problems);
            if let Some((field, number)) = bearer.number(apart, &mut problems)
                && let Some(other) = users.insert(number, &container.name)
            {
                let message =
                    format!("{other} has {field} {number} too, so the two can't be told apart: give each its own");
                problems.push(Problem::warning(bearer.field(field), message));
            }
        }
    }
    problems
}

struct Bearer<'a> {
    container: &'a core::Container,
    pod: Option<&'a core::PodSecurityContext>,
    at: FieldPath,
}

impl Bearer<'_> {
    fn context(&self) -> Option<&core::SecurityContext> {
        self.container.security_context.as_ref()
    }

    fn field(&self, name: &str) -> FieldPath {
        self.at.key("securityContext").key(name)
    }

    fn capabilities(&self) -> Option<&core::Capabilities> {
        self.context()?.capabilities.as_ref()
    }

    /// The capabilities that it asks for beyond the runtime's, without the prefix that some write.
    fn added(&self) -> impl Iterator<Item = (usize, &str)> {
        let add = self.capabilities().and_then(|c| c.add.as_deref()).unwrap_or_default();
        add.iter().enumerate().map(|(i, name)| (i, plain(name)))
    }

    fn drops(&self, capability: &str) -> bool {
        let drop = self.capabilities().and_then(|c| c.drop.as_deref()).unwrap_or_default();
        drop.iter().map(|name| plain(name)).any(|name| name == "ALL" || name == capability)
            && !self.added().any(|(_, name)| name == "ALL" || name == capability)
    }

    /// What no packet rule holds.
    fn stronger(&self, problems: &mut Vec<Problem>) {
        if self.context().and_then(|context| context.privileged) == Some(true) {
            let message = "a privileged container can undo every rule of its pod: no policy is enforced against it";
            problems.push(Problem::warning(self.field("privileged"), message));
        }
        for (i, name) in self.added() {
            if let Some((_, does)) = STRONGER.iter().find(|(capability, _)| *capability == name) {
                let path = self.field("capabilities").key("add").index(i);
                let message = format!("{name} {does}: policies are not enforceable against this container, remove it");
                problems.push(Problem::warning(path, message));
            }
        }
    }

    /// A capability by which it may take another's user or group, where that is what tells containers apart.
    fn takes_users(&self, apart: TellApart, problems: &mut Vec<Problem>) {
        let (capability, what) = match apart {
            TellApart::Cgroup => return,
            TellApart::Uid | TellApart::Either => ("SETUID", "user"),
            TellApart::Gid => ("SETGID", "group"),
        };
        let message = |why: &str| {
            format!(
                "{why} lets it take another container's {what}, so identity by {what} is worth nothing here: drop ALL, or have cgroups tell containers apart"
            )
        };
        if let Some((i, _)) = self.added().find(|(_, name)| *name == capability) {
            let path = self.field("capabilities").key("add").index(i);
            problems.push(Problem::warning(path, message(capability)));
            return;
        }
        // Nothing is said of runtime defaults where cgroups are likely to serve.
        if apart == TellApart::Either || self.drops(capability) {
            return;
        }
        if self.may_be_root() {
            let why = format!("it may run as root, to whom runtimes give {capability}, which");
            problems.push(Problem::warning(self.field("capabilities"), message(&why)));
        } else if self.context().and_then(|context| context.allow_privilege_escalation) != Some(false) {
            let message = format!(
                "a set-user-id program of its image makes it root, which has {capability}: set this to false, or drop ALL capabilities"
            );
            problems.push(Problem::warning(self.field("allowPrivilegeEscalation"), message));
        }
    }

    fn may_be_root(&self) -> bool {
        let non_root = self.context().and_then(|c| c.run_as_non_root).or(self.pod.and_then(|p| p.run_as_non_root));
        match self.run_as_user() {
            Some(user) => user == 0,
            None => non_root != Some(true),
        }
    }

    fn run_as_user(&self) -> Option<i64> {
        self.context().and_then(|c| c.run_as_user).or(self.pod.and_then(|p| p.run_as_user))
    }

    fn run_as_group(&self) -> Option<i64> {
        self.context().and_then(|c| c.run_as_group).or(self.pod.and_then(|p| p.run_as_group))
    }

    /// Its user or group, where that must tell it from the others.
    fn number(&self, apart: TellApart, problems: &mut Vec<Problem>) -> Option<(&'static str, i64)> {
        let (field, number) = match apart {
            TellApart::Cgroup | TellApart::Either => return None,
            TellApart::Uid => ("runAsUser", self.run_as_user()),
            TellApart::Gid => ("runAsGroup", self.run_as_group()),
        };
        let message = match number {
            Some(0) => "0 is the node's own: give the container another",
            Some(number) => return Some((field, number)),
            None => "is not set, and the image's own is not known: give the container one of its own",
        };
        problems.push(Problem::warning(self.field(field), message));
        None
    }
}

fn plain(capability: &str) -> &str {
    capability.strip_prefix("CAP_").unwrap_or(capability)
}
