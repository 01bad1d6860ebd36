//! How a pod is divided into parts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::args::wall::PartArg;
use crate::error::Error;

/// What is left of the pod when the other parts are taken out.
pub const PRIMARY: &str = "primary";
/// The longest name of a part.
const NAME_MAX: usize = 20;

/// A pod's parts: the primary first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The parts.
    pub parts: Vec<Part>,
}

/// A part and its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its containers of every kind.
    pub containers: BTreeSet<String>,
}

/// A container of the manifest.
struct Known<'a> {
    container: &'a Container,
    /// Runs to completion before the others.
    init: bool,
}

impl Parting {
    /// Divides a pod as was asked for; where nothing was, each container but the first is a part of its own. Init containers
    /// that are named nowhere stay in the primary.
    ///
    /// # Errors
    /// [`Error::Parting`] with every reason.
    pub fn of(manifest: &Pod, wanted: &[PartArg]) -> Result<Self, Error> {
        let known = containers(manifest);
        let mut reasons = Vec::new();
        let asked = if wanted.is_empty() { each_its_own(&known) } else { wanted.to_vec() };
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        let mut names = BTreeSet::from([PRIMARY]);
        for part in &asked {
            if !is_label(&part.name) {
                reasons.push(format!(
                    "{:?} can't be a part's name: lower case letters, digits and '-', at most {NAME_MAX}",
                    part.name
                ));
            }
            if !names.insert(&part.name) {
                let why = if part.name == PRIMARY { "is what is left of the pod itself" } else { "is named twice" };
                reasons.push(format!("the part {:?} {why}: choose another name", part.name));
            }
            for container in &part.containers {
                if !known.contains_key(container.as_str()) {
                    reasons.push(format!(
                        "the part {:?} names the container {container:?}, which the pod does not have",
                        part.name
                    ));
                } else if let Some(other) = taken.insert(container, &part.name) {
                    reasons.push(format!(
                        "the container {container:?} is in the parts {other:?} and {:?}: it can be in one",
                        part.name
                    ));
                }
            }
        }
        let left: BTreeSet<String> =
            known.keys().filter(|name| !taken.contains_key(*name)).map(|name| (*name).to_owned()).collect();
        let runs =
            |containers: &BTreeSet<String>| containers.iter().any(|c| known.get(c.as_str()).is_some_and(|k| !k.init));
        if !runs(&left) {
            reasons
                .push("no container is left in the primary: leave one of those that stay out of the parts".to_owned());
        }
        let mut parts = vec![Part { name: PRIMARY.to_owned(), containers: left }];
        for part in asked {
            let containers: BTreeSet<String> = part.containers.into_iter().collect();
            if reasons.is_empty() && !runs(&containers) {
                reasons.push(format!(
                    "the part {:?} has only init containers: put them where what they prepare for is",
                    part.name
                ));
            }
            parts.push(Part { name: part.name, containers });
        }
        let parting = Self { parts };
        reasons.extend(parting.indivisible(manifest, &known));
        if reasons.is_empty() { Ok(parting) } else { Err(Error::Parting(reasons)) }
    }

    /// What the parts can't share.
    fn indivisible(&self, manifest: &Pod, known: &BTreeMap<&str, Known<'_>>) -> Vec<String> {
        let spec = manifest.spec.clone().unwrap_or_default();
        let mut reasons = Vec::new();
        if spec.share_process_namespace == Some(true) {
            reasons.push(
                "shareProcessNamespace is set, and parts have process namespaces of their own: remove it".to_owned(),
            );
        }
        for volume in spec.volumes.iter().flatten().filter(|volume| volume.empty_dir.is_some()) {
            let mounts =
                |container: &Container| container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
            let users: Vec<&str> = known.iter().filter(|(_, k)| mounts(k.container)).map(|(name, _)| *name).collect();
            let parts: BTreeSet<&str> =
                users.iter().filter_map(|user| Some(self.part_of(user)?.name.as_str())).collect();
            if parts.len() > 1 {
                reasons.push(format!(
                    "{} share the emptyDir {:?}, which is one pod's: put them into one part",
                    users.join(" and "),
                    volume.name
                ));
            }
        }
        reasons
    }

    /// The part of a container.
    pub fn part_of(&self, container: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.containers.contains(container))
    }

    /// Its place in the list.
    pub fn index_of(&self, container: &str) -> Option<usize> {
        self.parts.iter().position(|part| part.containers.contains(container))
    }
}

impl Part {
    /// The part of a manifest: the pod with these containers alone. The primary keeps the pod's name.
    pub fn of(&self, manifest: &Pod) -> Pod {
        let mut part = manifest.clone();
        if self.name != PRIMARY {
            let name = manifest.metadata.name.as_deref().unwrap_or_default();
            part.metadata.name = Some(format!("{name}-{}", self.name));
            part.metadata.uid = None;
        }
        if let Some(spec) = &mut part.spec {
            let mine = |container: &Container| self.containers.contains(&container.name);
            spec.containers.retain(mine);
            spec.init_containers = spec
                .init_containers
                .take()
                .map(|all| all.into_iter().filter(mine).collect::<Vec<_>>())
                .filter(|all| !all.is_empty());
            // A pod needs a container that is none of init: a sidecar alone is one.
            if spec.containers.is_empty() {
                let (sidecars, rest) =
                    spec.init_containers.take().unwrap_or_default().into_iter().partition(is_sidecar);
                spec.init_containers = Some(rest).filter(|rest: &Vec<Container>| !rest.is_empty());
                let plain = |container: Container| Container { restart_policy: None, ..container };
                spec.containers = Vec::into_iter(sidecars).map(plain).collect();
            }
        }
        part
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn containers(manifest: &Pod) -> BTreeMap<&str, Known<'_>> {
    let spec = manifest.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let init = init.map(|container| (container.name.as_str(), Known { container, init: !is_sidecar(container) }));
    let own = spec.into_iter().flat_map(|spec| &spec.containers);
    init.chain(own.map(|container| (container.name.as_str(), Known { container, init: false }))).collect()
}

/// Each container that goes on running is a part, but for the manifest's first app container.
fn each_its_own(known: &BTreeMap<&str, Known<'_>>) -> Vec<PartArg> {
    let mut names = BTreeSet::new();
    let mut running: Vec<&Known<'_>> = known.values().filter(|known| !known.init).collect();
    running.sort_by_key(|known| is_sidecar(known.container));
    let mut parts = Vec::new();
    for known in running.into_iter().skip(1) {
        let container = &known.container.name;
        let mut name: String = container.chars().take(NAME_MAX).collect();
        name = name.trim_end_matches('-').to_owned();
        for number in 2.. {
            if name != PRIMARY && names.insert(name.clone()) {
                break;
            }
            name = format!("part-{number}");
        }
        parts.push(PartArg { name, containers: vec![container.clone()] });
    }
    parts
}

/// A DNS label (RFC 1123), no longer than a part's name may be.
fn is_label(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name.chars().all(|c| letter(c) || c == '-')
        && name.starts_with(letter)
        && name.ends_with(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "uid": "u"},
            "spec": {
                "initContainers": [{"name": "fetch"}, {"name": "proxy", "restartPolicy": "Always"}],
                "containers": [
                    {"name": "app", "volumeMounts": [{"name": "tmp", "mountPath": "/t"}]},
                    {"name": "metrics"},
                    {"name": "shipper", "volumeMounts": [{"name": "tmp", "mountPath": "/t"}]},
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        }))
        .unwrap()
    }

    fn part(text: &str) -> PartArg {
        text.parse().unwrap()
    }

    fn names(parting: &Parting) -> Vec<(String, Vec<String>)> {
        parting.parts.iter().map(|p| (p.name.clone(), p.containers.iter().cloned().collect())).collect()
    }

    #[test]
    fn what_is_named_nowhere_stays_in_the_primary() {
        let parting = Parting::of(&pod(), &[part("m=metrics"), part("front=proxy")]).unwrap();
        let expected = [("primary", vec!["app", "fetch", "shipper"]), ("m", vec!["metrics"]), ("front", vec!["proxy"])];
        let expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(name, all)| (name.to_owned(), all.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(names(&parting), expected);
        assert_eq!(parting.part_of("proxy").unwrap().name, "front");
        let [primary, m, front] = [0, 1, 2].map(|index: usize| parting.parts[index].of(&pod()));
        assert_eq!(primary.metadata, pod().metadata);
        assert_eq!(m.metadata.name.as_deref(), Some("web-m"));
        assert_eq!(m.spec.unwrap().init_containers, None);
        let front = front.spec.unwrap();
        assert_eq!((front.containers[0].name.as_str(), &front.containers[0].restart_policy), ("proxy", &None));
    }

    #[test]
    fn without_a_word_each_container_is_a_part() {
        let mut manifest = pod();
        manifest.spec.as_mut().unwrap().volumes = None;
        let parting = Parting::of(&manifest, &[]).unwrap();
        let parts: Vec<_> = parting.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(parts, ["primary", "metrics", "shipper", "proxy"]);
        assert!(parting.parts[0].containers.contains("fetch"));
    }

    #[test]
    fn what_cant_be_divided_is_told_with_the_way_out() {
        for (wanted, told) in [
            (vec!["primary=metrics"], "what is left"),
            (vec!["a=nobody"], "does not have"),
            (vec!["a=metrics", "b=metrics"], "it can be in one"),
            (vec!["a=metrics", "a=proxy"], "named twice"),
            (vec!["A=metrics"], "can't be a part's name"),
            (vec!["a=app,metrics,shipper,proxy"], "no container is left"),
            (vec!["a=shipper"], "share the emptyDir"),
            (vec!["a=fetch"], "only init containers"),
        ] {
            let wanted: Vec<PartArg> = wanted.into_iter().map(part).collect();
            let error = Parting::of(&pod(), &wanted).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
