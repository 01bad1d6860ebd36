//! All that is changed in one pod, in order.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use sidewall_api::SidecarProxy;
use sidewall_api::names::is_dns_label;

use super::choose::name_of;
use super::{Needs, Patched, Record, Request, capabilities, ports, volumes};
use crate::admission::edits::Edits;
use crate::admission::identity::{Asks, Place, UID_MAX, UidRange, UserFault, Users, places, proxy_uid};
use crate::admission::probes::{ORIGINALS_MAX, Originals, Rewriting, read_originals};
use crate::admission::refusal::Refusal;
use crate::admission::sidecar;
use crate::names::{
    ANNOTATION_OPENSHIFT_RANGE, ANNOTATION_OPENSHIFT_SCC, ANNOTATION_PROBES, ANNOTATION_PROXY, ANNOTATION_REFRESHED,
    LABEL_FRONTED, is_mesh,
};
use crate::proxies::refreshed::word;
use crate::proxies::render::{config_name, render};
use crate::proxies::secrets::needed;
use crate::quantity;
use crate::settings::{Identity, Resources, Settings};

/// The most that the API server takes of annotations, keys and values of all together, in bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What is left of it to those who write annotations because of our container: what they filled into it, its AppArmor profile.
const ANNOTATIONS_LEFT: usize = 1024;

/// How long a pod has to end where it does not say, in seconds.
const GRACE_DEFAULT: i64 = 30;

pub(super) fn plan(
    request: &Request<'_>,
    settings: &Settings,
    pod: &Pod,
    asks: &Asks,
    proxy: Option<&SidecarProxy>,
    warnings: Vec<String>,
) -> Result<Patched, Refusal> {
    let nothing = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&nothing);
    let spec = pod.spec.as_ref().ok_or_else(|| Refusal::Unreadable { path: "spec".to_owned() })?;
    let before = if proxy.is_some() { Record::read(annotations)? } else { None };
    let places = places(spec, before.as_ref().map(|record| record.container.as_str()));
    names(&places)?;
    let mut plan = Plan {
        request,
        settings,
        annotations,
        spec,
        asks,
        before,
        places: &places,
        edits: Edits::new(request.pod.clone()),
        warnings,
    };
    let uid = plan.users(proxy)?;
    plan.capabilities(proxy.is_some())?;
    let needs = match proxy {
        Some(proxy) => Some(plan.front(proxy, uid)?),
        None => None,
    };
    Ok(Patched { patch: plan.edits.into_patch(), warnings: plan.warnings, needs })
}

struct Plan<'a> {
    request: &'a Request<'a>,
    settings: &'a Settings,
    annotations: &'a BTreeMap<String, String>,
    spec: &'a PodSpec,
    asks: &'a Asks,
    before: Option<Record>,
    places: &'a [Place<'a>],
    edits: Edits,
    warnings: Vec<String>,
}

/// The application's containers have names, each its own: by them we keep what their probes asked.
fn names(places: &[Place<'_>]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for place in places {
        let name = &place.container.name;
        if !is_dns_label(name) || !seen.insert(name) {
            return Err(Refusal::ContainerName { field: place.path(), name: name.clone() });
        }
    }
    Ok(())
}

/// Whether a pod of these containers is of the QoS class Guaranteed: each says a limit of cpu and of memory, and as its request
/// the same or nothing.
fn is_guaranteed(places: &[Place<'_>]) -> bool {
    places.iter().all(|place| {
        let Some(resources) = &place.container.resources else { return false };
        let of =
            |amounts: &Option<BTreeMap<String, Quantity>>, name| amounts.as_ref().and_then(|a| a.get(name)).cloned();
        ["cpu", "memory"].into_iter().all(|name| match (of(&resources.limits, name), of(&resources.requests, name)) {
            (Some(limit), Some(request)) => quantity::same(&limit.0, &request.0),
            (limit, None) => limit.is_some(),
            (None, Some(_)) => false,
        })
    })
}

/// What the proxy asks for in a pod whose containers share what the pod has: nothing beside the others, because the API server
/// refuses a pod whose containers ask for more than it does, and up to the whole. Both are said, so that no LimitRange fills in
/// what would not fit; but nothing of what the pod leaves open, which the API server would take for the pod's own word.
fn within(budget: &ResourceRequirements) -> Resources {
    let shared = |name: &&String| ["cpu", "memory"].contains(&name.as_str());
    let requests = budget.requests.iter().chain(&budget.limits).flatten().map(|(name, _)| name);
    let limits = budget.limits.iter().flatten().filter(|(name, _)| shared(name));
    Resources {
        requests: requests.filter(shared).map(|name| (name.clone(), "0".to_owned())).collect(),
        limits: limits.map(|(name, amount)| (name.clone(), amount.0.clone())).collect(),
    }
}

fn unwritable(key: &'static str) -> impl Fn(serde_json::Error) -> Refusal {
    move |error| Refusal::Unwritable { key, error }
}

impl Plan<'_> {
    /// Gives users to those who have none, where that is asked for; gives the proxy's.
    fn users(&mut self, proxy: Option<&SidecarProxy>) -> Result<u32, Refusal> {
        let range = self.request.namespace.annotations.get(ANNOTATION_OPENSHIFT_RANGE);
        let mut range: Option<UidRange> = range.map(|text| text.parse()).transpose()?;
        let mut assigned = range.unwrap_or(self.settings.uid_range);
        let own_users = self.spec.host_users == Some(false);
        let narrow =
            |what, range: UidRange| range.up_to(UID_MAX).ok_or(Refusal::UserNamespace { what, uid: range.first() });
        if own_users {
            assigned = narrow("the first user to assign", assigned)?;
            range = range.map(|range| narrow("the first user of the namespace", range)).transpose()?;
        }
        // What OpenShift filled into every container is the first of the range, and nobody's choice.
        let filled_in = range.filter(|_| self.annotations.contains_key(ANNOTATION_OPENSHIFT_SCC)).map(UidRange::first);
        let users = Users::new(self.spec, self.places, filled_in);
        let uid = proxy_uid(&users, range, self.settings.proxy.uid);
        if proxy.is_some() && own_users && uid > UID_MAX {
            return Err(Refusal::UserNamespace { what: "the proxy's user", uid });
        }
        let owner = proxy.map(|proxy| (proxy.spec.container_name.as_str(), uid));
        let given = if self.asks.assign_uids { users.assign(assigned, owner)? } else { BTreeMap::new() };
        let strict = self.settings.identity == Identity::Uid;
        for fault in users.faults(&given, owner) {
            match &fault {
                UserFault::Proxy { .. } => return Err(fault.into()),
                _ if strict && proxy.is_some() => return Err(fault.into()),
                UserFault::Shared { mesh: false, .. } => self.warnings.push(fault.to_string()),
                UserFault::Root { .. } if self.asks.assign_uids => self.warnings.push(fault.to_string()),
                // By cgroup nothing depends on it.
                UserFault::Root { .. } | UserFault::Unknown { .. } | UserFault::Shared { .. } => {}
            }
        }
        for ((list, index), uid) in given {
            let index = index.to_string();
            self.edits.set(&["spec", list.field(), &index, "securityContext", "runAsUser"], json!(uid))?;
        }
        Ok(uid)
    }

    fn capabilities(&mut self, fronted: bool) -> Result<(), Refusal> {
        let asked = &self.asks.drop;
        let all: BTreeSet<_> = asked.union(&self.settings.drop_capabilities).copied().collect();
        for place in self.places {
            // A mesh writes its rules with what we would take by ourselves.
            let own = !fronted || is_mesh(&place.container.name);
            capabilities::drop(place, if own { asked } else { &all }, &mut self.edits, &mut self.warnings)?;
        }
        Ok(())
    }

    /// Puts the proxy before the application.
    fn front(&mut self, proxy: &SidecarProxy, uid: u32) -> Result<Needs, Refusal> {
        let name = name_of(proxy);
        self.possible(proxy)?;
        let own = ports::Own::of(proxy, &self.settings.proxy.ports);
        own.check(proxy, self.places)?;
        let hidden: BTreeSet<u16> = proxy
            .spec
            .listeners
            .iter()
            .map(|l| l.forward.port)
            .chain(self.asks.loopback_ports.iter().copied())
            .collect();
        ports::warn(&hidden, self.places, &mut self.warnings);
        let originals = self.probes(proxy, own.probe, &hidden)?;
        let mut record = Record {
            proxy: name.to_owned(),
            container: proxy.spec.container_name.clone(),
            probe_port: own.probe,
            config: String::new(),
            secrets: needed(proxy),
        };
        volumes::check_names(name, &record.secrets)?;
        record.config = config_name(&record, &originals);
        // What could not be rendered later must not get into a pod now.
        let config = render(proxy, &record, &originals, self.settings.proxy.ports)?;
        ports::sysctl(proxy, self.spec, &mut self.edits, &mut self.warnings)?;
        let group = self.spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
        volumes::put(&mut self.edits, &record, group, self.before.is_some())?;
        self.container(proxy, &record, uid)?;
        // As it is now: what changes from here on, it is told of.
        let word = word(&config.hash, &record.secrets, self.request.versions);
        self.annotate(&record, &originals, &word)?;
        Ok(Needs { record, originals, config, word })
    }

    /// Whether the pod can have a proxy at all.
    fn possible(&mut self, proxy: &SidecarProxy) -> Result<(), Refusal> {
        let name = name_of(proxy).to_owned();
        if self.spec.host_network == Some(true) {
            return Err(Refusal::HostNetwork { proxy: name });
        }
        if let Some(os) = self.spec.os.as_ref().filter(|os| os.name != "linux") {
            return Err(Refusal::System { os: os.name.clone(), proxy: name });
        }
        if let Some(place) = self.places.iter().find(|place| place.container.name == proxy.spec.container_name) {
            return Err(Refusal::NameTaken {
                container: place.container.name.clone(),
                field: place.path(),
                proxy: name,
            });
        }
        if self.spec.share_process_namespace == Some(true) || self.spec.host_pid == Some(true) {
            self.warnings.push(
                "the containers of this pod see each other's processes: one that runs as root can read the proxy's keys and \
                 passwords; remove shareProcessNamespace and hostPID"
                    .to_owned(),
            );
        }
        if self.budget().is_none() && is_guaranteed(self.places) && !self.settings.proxy.resources.is_guaranteed() {
            self.warnings.push(
                "this pod would be of the QoS class Guaranteed, and with the proxy it is Burstable: let proxy.resources of the \
                 operator's settings have equal requests and limits of cpu and memory"
                    .to_owned(),
            );
        }
        if proxy.spec.probes.as_ref().and_then(|probes| probes.address).is_some_and(|address| address.is_loopback()) {
            self.warnings.push(format!(
                "spec.probes.address of SidecarProxy {name:?} is a loopback address, where the kubelet's probes do not arrive: \
                 this pod will not become ready; remove it"
            ));
        }
        if let Some(mesh) = self.places.iter().find(|place| is_mesh(&place.container.name)) {
            self.warnings.push(format!(
                "container {:?} ({}) is a mesh's: the proxy stands after it and before the application; let the mesh leave the \
                 proxy's ports to the proxy",
                mesh.container.name,
                mesh.path()
            ));
        }
        Ok(())
    }

    fn probes(&mut self, proxy: &SidecarProxy, port: u16, hidden: &BTreeSet<u16>) -> Result<Originals, Refusal> {
        // Without a record nobody of ours has been here, whatever the other annotation says.
        let known = if self.before.is_some() { read_originals(self.annotations)? } else { self.no_originals()? };
        let asking = proxy.spec.listeners.iter().filter(|l| !l.anonymous).map(|l| l.port).collect();
        let grace = self.spec.termination_grace_period_seconds.unwrap_or(GRACE_DEFAULT).clamp(1, i64::from(u16::MAX));
        let rewriting = Rewriting {
            namespace: &self.request.namespace.name,
            proxy: name_of(proxy),
            port,
            former: self.before.as_ref().map(|record| record.probe_port),
            hidden,
            asking: &asking,
            grace: u32::try_from(grace).unwrap_or(1),
            secret: self.request.secret,
        };
        let mut originals = Originals::new();
        for place in self.places {
            let asked = rewriting.container(place, &known, &mut self.edits, &mut self.warnings)?;
            if !asked.is_empty() {
                originals.insert(place.container.name.clone(), asked);
            }
        }
        Ok(originals)
    }

    fn no_originals(&self) -> Result<Originals, Refusal> {
        if self.annotations.contains_key(ANNOTATION_PROBES) {
            return Err(Refusal::Forged { key: ANNOTATION_PROBES, reason: format!("there is no {ANNOTATION_PROXY}") });
        }
        Ok(Originals::new())
    }

    /// What all containers of the pod may take together, where it says so.
    fn budget(&self) -> Option<&ResourceRequirements> {
        self.spec.resources.as_ref().filter(|all| all.limits.is_some() || all.requests.is_some())
    }

    fn container(&mut self, proxy: &SidecarProxy, record: &Record, uid: u32) -> Result<(), Refusal> {
        let budget = self.budget().map(within);
        let resources = budget.as_ref().unwrap_or(&self.settings.proxy.resources);
        let container = sidecar::container(proxy, record, &self.settings.proxy, resources, uid);
        let before = self.before.as_ref().map(|record| record.container.as_str());
        Ok(sidecar::place(&mut self.edits, container, before)?)
    }

    fn annotate(&mut self, record: &Record, originals: &Originals, word: &str) -> Result<(), Refusal> {
        let text = serde_json::to_string(record).map_err(unwritable(ANNOTATION_PROXY))?;
        let asked = serde_json::to_string(originals).map_err(unwritable(ANNOTATION_PROBES))?;
        if asked.len() > ORIGINALS_MAX {
            return Err(Refusal::TooLarge { size: asked.len(), most: ORIGINALS_MAX });
        }
        let at = |key: &'static str| ["metadata", "annotations", key];
        self.edits.set(&at(ANNOTATION_PROXY), json!(text))?;
        self.edits.set(&at(ANNOTATION_REFRESHED), json!(word))?;
        if originals.is_empty() {
            self.edits.remove(&at(ANNOTATION_PROBES))?;
        } else {
            self.edits.set(&at(ANNOTATION_PROBES), json!(asked))?;
        }
        let all = self.edits.get(&["metadata", "annotations"]).and_then(Value::as_object).into_iter().flatten();
        let size = all.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
        // At a second call they have written, and it was enough or the API server says so.
        let left = if self.before.is_some() { 0 } else { ANNOTATIONS_LEFT };
        if size > ANNOTATIONS_MAX - left {
            return Err(Refusal::Annotations { size, most: ANNOTATIONS_MAX - left });
        }
        Ok(self.edits.set(&["metadata", "labels", LABEL_FRONTED], json!("true"))?)
    }
}
