//! What keeps a pod from being split: everything that its containers share and pods cannot.

mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use sidewall_api::names::PRIMARY;
use sidewall_api::split::Part;

use crate::downward;
use crate::place::Place;
use crate::refusal::Refusal;

/// Every field of a pod's spec that is known here (`core/v1` of Kubernetes 1.33).
const KNOWN_FIELDS: [&str; 40] = [
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

/// What is looked at.
pub(crate) struct Checks<'a> {
    /// The whole pod.
    pub pod: &'a Value,
    pub spec: &'a PodSpec,
    pub parts: &'a [Part],
    pub places: &'a [Place<'a>],
    pub refusals: Vec<Refusal>,
    pub warnings: Vec<String>,
}

impl Checks<'_> {
    pub(crate) fn run(&mut self) {
        self.pod_wide();
        self.nothing_left();
        self.volumes();
        self.claims();
        self.host_ports();
        self.probes();
        self.downward();
        self.notes();
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// The name of the part that a container goes to.
    fn part(&self, place: &Place<'_>) -> &str {
        place.part.and_then(|part| self.parts.get(part)).map_or(PRIMARY, |part| part.name.as_str())
    }

    /// The same with a word before it, as messages have it.
    fn in_part(&self, place: &Place<'_>) -> String {
        match place.part {
            Some(_) => format!("part {:?}", self.part(place)),
            None => "the pod itself".to_owned(),
        }
    }

    fn pod_wide(&mut self) {
        let fields = self.pod.get("spec").and_then(Value::as_object).into_iter().flatten();
        let unknown: Vec<String> = fields
            .filter(|(field, value)| !value.is_null() && !KNOWN_FIELDS.contains(&field.as_str()))
            .map(|(field, _)| field.clone())
            .collect();
        unknown.into_iter().for_each(|field| self.refuse(Refusal::UnknownField { field }));
        if self.spec.host_network == Some(true) {
            self.refuse(Refusal::HostNetwork);
        }
        if self.spec.share_process_namespace == Some(true) {
            self.refuse(Refusal::ShareProcessNamespace);
        }
        if let Some(os) = self.spec.os.as_ref().filter(|os| os.name != "linux") {
            self.refuse(Refusal::System { os: os.name.clone() });
        }
        let all = self.spec.resources.as_ref();
        if all.is_some_and(|all| all.limits.is_some() || all.requests.is_some() || all.claims.is_some()) {
            self.refuse(Refusal::PodResources);
        }
        if self.spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            self.refuse(Refusal::Ephemeral);
        }
    }

    fn nothing_left(&mut self) {
        let stays = |place: &&Place<'_>| place.part.is_none() && place.list == crate::place::List::Containers;
        if !self.places.iter().any(|place| stays(&place)) {
            self.refuse(Refusal::NothingLeft);
        }
    }

    /// Devices are given to a pod by its claims; those of a part would be others.
    fn claims(&mut self) {
        let claims = |place: &&Place<'_>| {
            place.part.is_some()
                && place.container.resources.as_ref().is_some_and(|r| r.claims.as_ref().is_some_and(|c| !c.is_empty()))
        };
        let found: Vec<Refusal> = self
            .places
            .iter()
            .filter(claims)
            .map(|place| Refusal::ResourceClaim {
                container: place.name().to_owned(),
                part: self.part(place).to_owned(),
            })
            .collect();
        self.refusals.extend(found);
    }

    fn host_ports(&mut self) {
        let asked: Vec<(&Place<'_>, &ContainerPort, i32)> = self
            .places
            .iter()
            .flat_map(|place| place.container.ports.iter().flatten().map(move |port| (place, port)))
            .filter_map(|(place, port)| Some((place, port, port.host_port.filter(|number| *number > 0)?)))
            .collect();
        let mut found = Vec::new();
        for (index, (one, one_port, number)) in asked.iter().enumerate() {
            let clash = asked.iter().skip(index + 1).find(|(other, port, other_number)| {
                other.part != one.part && number == other_number && same_address(one_port, port)
            });
            if let Some((other, port, _)) = clash {
                found.push(Refusal::HostPort {
                    port: *number,
                    protocol: protocol(port).to_owned(),
                    one: one.name().to_owned(),
                    one_part: self.in_part(one),
                    other: other.name().to_owned(),
                    other_part: self.in_part(other),
                });
            }
        }
        self.refusals.extend(found);
    }

    /// Probes and hooks by the network arrive at the pod in which their container is.
    fn probes(&mut self) {
        let declares = |place: &Place<'_>, port: u16| {
            let declared = place.container.ports.iter().flatten();
            let mut tcp = declared.filter(|declared| protocol(declared) == "TCP");
            tcp.any(|declared| declared.container_port == i32::from(port))
        };
        let mut found = Vec::new();
        for place in self.places {
            for (field, port) in asked(place) {
                let here = self.places.iter().any(|other| other.part == place.part && declares(other, port));
                let elsewhere = self.places.iter().find(|other| other.part != place.part && declares(other, port));
                if let (false, Some(other)) = (here, elsewhere) {
                    found.push(Refusal::Probe {
                        container: place.name().to_owned(),
                        part: self.in_part(place),
                        field,
                        port,
                        other: other.name().to_owned(),
                        other_part: self.in_part(other),
                    });
                }
            }
        }
        self.refusals.extend(found);
    }

    /// What containers ask about other containers, and files that tell of the pod.
    fn downward(&mut self) {
        let part_of: BTreeMap<&str, Option<usize>> =
            self.places.iter().map(|place| (place.name(), place.part)).collect();
        let elsewhere =
            |container: &str, part: Option<usize>| part_of.get(container).is_some_and(|other| *other != part);
        let mut found = Vec::new();
        for place in self.places {
            for (field, other) in downward::resources_in_environment(place.verbatim) {
                if elsewhere(&other, place.part) {
                    let of = format!("container {:?}", place.name());
                    found.push(Refusal::ResourcesOf { field, of, part: self.in_part(place), other });
                }
            }
        }
        for volume in crate::place::list(self.pod, "/spec/volumes") {
            let name = crate::place::name_of(volume);
            let users = self.places.iter().filter(|place| place.volumes().contains(name));
            let mut seen = BTreeSet::new();
            for place in users.filter(|place| seen.insert(place.part)) {
                for other in downward::resources_in_files(volume) {
                    if elsewhere(&other, place.part) {
                        let (field, of) = ("resourceFieldRef".to_owned(), format!("the volume {name:?}"));
                        found.push(Refusal::ResourcesOf { field, of, part: self.in_part(place), other });
                    }
                }
                if place.part.is_some() {
                    found.extend(downward::own_fields_in_files(volume).into_iter().map(|field| {
                        Refusal::DownwardFile { volume: name.to_owned(), field, part: self.part(place).to_owned() }
                    }));
                }
            }
        }
        self.refusals.extend(found);
    }

    /// What works otherwise than its author may think.
    fn notes(&mut self) {
        let quoted = |places: &mut dyn Iterator<Item = &Place<'_>>| -> Vec<String> {
            places.map(|place| format!("{:?}", place.name())).collect()
        };
        let moved = || self.places.iter().filter(|place| place.part.is_some());
        let serving = quoted(&mut moved().filter(|place| place.container.ports.iter().flatten().next().is_some()));
        let one_shot = self.spec.restart_policy.as_deref().is_some_and(|policy| policy != "Always");
        let ended = quoted(&mut moved().filter(|place| place.list == crate::place::List::Containers));
        let waiting = quoted(&mut self.places.iter().filter(|place| place.part.is_none() && place.is_init()));
        let mut said = Vec::new();
        if !serving.is_empty() {
            said.push(format!(
                "{} will be reached by localhost only: Services lead to the containers that stay in the pod",
                serving.join(", ")
            ));
        }
        if one_shot && !ended.is_empty() {
            said.push(format!("{} will end with the pod, which does not wait for them", ended.join(", ")));
        }
        if !waiting.is_empty() {
            said.push(format!("the parts will not wait for the init containers {} of the pod", waiting.join(", ")));
        }
        self.warnings.extend(said);
    }
}

fn protocol(port: &ContainerPort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn same_address(one: &ContainerPort, other: &ContainerPort) -> bool {
    let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
    let of = |port: &ContainerPort| port.host_ip.clone().unwrap_or_default();
    let (a, b) = (of(one), of(other));
    protocol(one) == protocol(other) && (a == b || any(&a) || any(&b))
}

/// The TCP ports of the pod's own address that the kubelet asks for a container. Names are those of its own ports.
fn asked(place: &Place<'_>) -> Vec<(&'static str, u16)> {
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(text) => text.parse().ok(),
    };
    let own = |host: &Option<String>| host.as_deref().is_none_or(str::is_empty);
    let probe = |probe: &Option<Probe>| {
        let probe = probe.as_ref()?;
        let http = probe.http_get.as_ref().filter(|http| own(&http.host)).and_then(|http| number(&http.port));
        let tcp = probe.tcp_socket.as_ref().filter(|tcp| own(&tcp.host)).and_then(|tcp| number(&tcp.port));
        http.or(tcp).or(probe.grpc.as_ref().and_then(|grpc| u16::try_from(grpc.port).ok()))
    };
    let hook = |hook: &Option<LifecycleHandler>| {
        let hook = hook.as_ref()?;
        let http = hook.http_get.as_ref().filter(|http| own(&http.host)).and_then(|http| number(&http.port));
        http.or(hook.tcp_socket.as_ref().filter(|tcp| own(&tcp.host)).and_then(|tcp| number(&tcp.port)))
    };
    let container = place.container;
    let lifecycle = container.lifecycle.as_ref();
    [
        ("livenessProbe", probe(&container.liveness_probe)),
        ("readinessProbe", probe(&container.readiness_probe)),
        ("startupProbe", probe(&container.startup_probe)),
        ("lifecycle.postStart", lifecycle.and_then(|lifecycle| hook(&lifecycle.post_start))),
        ("lifecycle.preStop", lifecycle.and_then(|lifecycle| hook(&lifecycle.pre_stop))),
    ]
    .into_iter()
    .filter_map(|(field, port)| Some((field, port?)))
    .collect()
}
