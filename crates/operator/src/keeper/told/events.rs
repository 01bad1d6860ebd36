//! What is told in Events: that something has become wrong, and that it is right again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sidewall_api::names::API_VERSION;
use sidewall_api::split::PodSplitStatus;
use sidewall_api::{ContainerNetworkPolicyStatus, SidecarProxyStatus};
use sidewall_cluster::events::{Notice, Regarding};

use super::{ACCEPTED, CERTIFICATES_READY, CONFLICTED, READY};

/// A condition that is told of.
struct Told {
    /// Its type.
    type_: &'static str,
    /// The status that says that all is well.
    well: &'static str,
    /// What was tried, in one word.
    action: &'static str,
    /// Reasons that another condition tells of, or that pass by themselves.
    silent: &'static [&'static str],
}

const PROXY: [Told; 4] = [
    Told { type_: ACCEPTED, well: "True", action: "Read", silent: &[] },
    Told { type_: CONFLICTED, well: "False", action: "Select", silent: &[] },
    Told { type_: CERTIFICATES_READY, well: "True", action: "Issue", silent: &["Pending"] },
    Told {
        type_: READY,
        well: "True",
        action: "Front",
        silent: &["NotAccepted", "Conflicted", "CertificatesNotReady", "PodsPending"],
    },
];

const SPLIT: [Told; 3] = [
    Told { type_: ACCEPTED, well: "True", action: "Read", silent: &[] },
    Told { type_: CONFLICTED, well: "False", action: "Select", silent: &[] },
    Told { type_: READY, well: "True", action: "Split", silent: &["NotAccepted", "PartsNotReady"] },
];

// Of what is not enforced the nodes tell, at each pod.
const POLICY: [Told; 1] = [Told { type_: ACCEPTED, well: "True", action: "Read", silent: &[] }];

/// What Events about a SidecarProxy are about.
pub fn regarding_proxy(namespace: &str, name: &str, uid: &str) -> Regarding {
    regarding("SidecarProxy", namespace, name, uid)
}

/// What Events about a ContainerNetworkPolicy are about.
pub fn regarding_policy(namespace: &str, name: &str, uid: &str) -> Regarding {
    regarding("ContainerNetworkPolicy", namespace, name, uid)
}

fn regarding(kind: &str, namespace: &str, name: &str, uid: &str) -> Regarding {
    Regarding {
        api_version: API_VERSION.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

/// What is to be told when the status of a SidecarProxy changes.
pub fn proxy_events(
    regarding: &Regarding,
    before: Option<&SidecarProxyStatus>,
    after: &SidecarProxyStatus,
) -> Vec<Notice> {
    told(&PROXY, regarding, before.map_or(&[], |before| &before.conditions), &after.conditions)
}

/// What is to be told when the status of a ContainerNetworkPolicy changes.
pub fn policy_events(
    regarding: &Regarding,
    before: Option<&ContainerNetworkPolicyStatus>,
    after: &ContainerNetworkPolicyStatus,
) -> Vec<Notice> {
    told(&POLICY, regarding, before.map_or(&[], |before| &before.conditions), &after.conditions)
}

/// What is to be told when the status of a PodSplit changes.
pub fn split_events(regarding: &Regarding, before: Option<&PodSplitStatus>, after: &PodSplitStatus) -> Vec<Notice> {
    told(&SPLIT, regarding, before.map_or(&[], |before| &before.conditions), &after.conditions)
}

fn told(which: &[Told], regarding: &Regarding, before: &[Condition], after: &[Condition]) -> Vec<Notice> {
    let mut notices = Vec::new();
    for Told { type_, well, action, silent } in which {
        let of = |all: &[Condition]| all.iter().find(|condition| condition.type_ == *type_).cloned();
        let (before, Some(now)) = (of(before), of(after)) else { continue };
        let bad = |condition: &Condition| condition.status != *well && condition.status != "Unknown";
        let spoken = |condition: &Condition| bad(condition) && !silent.contains(&condition.reason.as_str());
        let warning = spoken(&now);
        let same = before.as_ref().is_some_and(|before| before.status == now.status && before.reason == now.reason);
        let mended = now.status == *well && before.as_ref().is_some_and(spoken);
        if mended || (warning && !same) {
            notices.push(Notice {
                regarding: regarding.clone(),
                reason: now.reason,
                action: (*action).to_owned(),
                note: now.message,
                warning,
            });
        }
    }
    notices
}
