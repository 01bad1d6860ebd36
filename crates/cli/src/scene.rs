//! A pod and everything that policies can say about it, as files tell it; and what the policies then mean.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use sidewall_api::{Attachments, Diagnostic, Loaded, Located, Problem};
use sidewall_policy::model::Identities;
use sidewall_policy::model::{Note, PolicyKind, PolicyName};
use sidewall_policy::world::objects::{self, subject_containers};
use sidewall_policy::world::{Network, Subject, World};
use sidewall_policy::{ResolvedPod, resolve};

use crate::error::Error;
use crate::identity::{self, Identity};
use crate::inputs;
use crate::parting::Parting;
use crate::split_pod::links;

/// The pod's device.
const INTERFACE: &str = sidewall_sandbox::INTERFACE;

/// A pod and the objects around it.
pub struct Scene {
    /// The pod.
    pub manifest: Pod,
    /// Everything that was read.
    pub loaded: Loaded,
}

/// Where a pod and its policies are.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file with the pod.
    pub pod: PathBuf,
    /// The pod's name, where the file has several.
    pub name: Option<String>,
    /// How to say the name.
    pub how: &'static str,
    /// The files with policies.
    pub policies: Vec<PathBuf>,
}

impl Sources {
    /// From the command line.
    pub fn new(pod: &Path, name: Option<&String>, policies: &[PathBuf]) -> Self {
        Self { pod: pod.to_owned(), name: name.cloned(), how: "--pod", policies: policies.to_vec() }
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.pod).chain(&self.policies)
    }

    /// The directory of the pod's file.
    pub fn directory(&self) -> Result<PathBuf, Error> {
        let parent = match self.pod.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        parent.canonicalize().map_err(|source| Error::Read { path: parent.to_owned(), source })
    }
}

impl Scene {
    /// Reads a pod and its policies.
    ///
    /// # Errors
    /// [`Error::Input`] for anything that has an error; [`Error::NoPod`] and the like.
    pub fn read(sources: &Sources) -> Result<Self, Error> {
        let loaded = inputs::sound(inputs::read(sources.files())?)?;
        let manifest = Self::pod(sources, &loaded)?;
        Ok(Self { manifest, loaded })
    }

    /// The pod, of those in the file that is named as its own.
    fn pod(sources: &Sources, loaded: &Loaded) -> Result<Pod, Error> {
        let path = sources.pod.clone();
        let file = inputs::name(&sources.pod);
        let pods: Vec<&Located<Pod>> = loaded.objects.pods.iter().filter(|pod| pod.place.file() == file).collect();
        let names: Vec<String> = pods.iter().map(|pod| pod.name()).collect();
        let found = match (&sources.name, pods.as_slice()) {
            (_, []) => Err(Error::NoPod(path)),
            (None, [only]) => Ok(only),
            (None, _) => Err(Error::ManyPods { path, names, how: sources.how }),
            (Some(name), all) => {
                let found = all.iter().find(|pod| pod.name() == *name);
                found.ok_or(Error::OtherPod { path, name: name.clone(), names })
            }
        };
        found.map(|pod| pod.object.clone())
    }

    /// What policies can speak of.
    pub fn world(&self, network: Network) -> World {
        world(&self.loaded, network)
    }

    /// The warnings about the files, and what the policies' authors should know of this pod.
    pub fn notes(&self, pod: &ResolvedPod) -> Vec<Diagnostic> {
        let mut all = self.loaded.diagnostics.clone();
        let own = Located::find(&self.loaded.objects.pods, &pod.namespace, &pod.name);
        all.extend(pod.notes.iter().filter_map(|note| place(&self.loaded, own, note)));
        all
    }

    /// The pod as its policies see it, without a kernel: the addresses are stand-ins where the manifest's status has none.
    ///
    /// # Errors
    /// The pod has too many containers, or the identity can't tell them apart.
    pub fn imagine(&self, identity: Identity) -> Result<Imagined, Error> {
        identity.check(&self.manifest, identity::proxies(&self.loaded))?;
        let addresses = Stand::of(&self.manifest);
        let subject = subject(&self.manifest, addresses.pod.clone(), identity.unnumbered())?;
        let world = self.world(Network { this_node: addresses.node.iter().copied().collect(), ..Network::default() });
        Ok(Imagined { pod: resolve(&world, &subject), node: addresses.node, own: addresses.pod, world })
    }

    /// The parts of the pod as its policies see them when it is split, the primary first: as [`Scene::imagine`], with addresses
    /// on the link as `run` gives them.
    ///
    /// # Errors
    /// As [`Scene::imagine`].
    pub fn imagine_split(&self, parting: &Parting, identity: Identity) -> Result<Vec<Imagined>, Error> {
        identity.check(&self.manifest, identity::proxies(&self.loaded))?;
        let addresses = Stand::of(&self.manifest);
        let own = (1..=u8::MAX).map(|number| Ipv4Addr::new(10, 213, 0, number));
        let own: Vec<Ipv4Addr> = own.take(parting.parts.len()).collect();
        let network = || Network { this_node: addresses.node.iter().copied().collect(), ..Network::default() };
        let mut all = Vec::new();
        for link in links(&self.manifest, parting, &own)? {
            let mut subject = subject(&self.manifest, addresses.pod.clone(), identity.unnumbered())?;
            subject.link = Some(link);
            let world = self.world(network());
            let pod = resolve(&world, &subject);
            all.push(Imagined { pod, node: addresses.node.clone(), own: addresses.pod.clone(), world });
        }
        Ok(all)
    }
}

/// A pod that is only thought of.
pub struct Imagined {
    /// What its policies mean.
    pub pod: ResolvedPod,
    /// The node's addresses toward it.
    pub node: Vec<IpAddr>,
    /// Its own addresses.
    pub own: Vec<IpAddr>,
    /// What there is around it.
    pub world: World,
}

impl Imagined {
    /// The pod's namespace and name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.pod.namespace, self.pod.name)
    }
}

/// Addresses of a pod that does not run.
struct Stand {
    pod: Vec<IpAddr>,
    node: Vec<IpAddr>,
}

impl Stand {
    fn of(manifest: &Pod) -> Self {
        let mut pod = objects::pod(manifest).addresses;
        let mut node = node_addresses(manifest);
        // What `run` gives, when nothing else is there.
        if let Some(stand) = sidewall_sandbox::Pools::default().choose(0, &[]) {
            if pod.is_empty() {
                pod = stand.pod.iter().map(ipnet::IpNet::addr).collect();
            }
            if node.is_empty() {
                node = stand.node.iter().map(ipnet::IpNet::addr).collect();
            }
        }
        Self { pod, node }
    }
}

/// The addresses of a pod's node, as its status tells, IPv4 first.
pub fn node_addresses(manifest: &Pod) -> Vec<IpAddr> {
    let status = manifest.status.as_ref();
    let node = status.and_then(|status| status.host_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
    let single = status.and_then(|status| status.host_ip.as_deref());
    let all: BTreeSet<IpAddr> = single.into_iter().chain(node).filter_map(|ip| ip.parse().ok()).collect();
    all.into_iter().collect()
}

/// The pod that policies are resolved for.
///
/// # Errors
/// The pod has too many containers.
pub fn subject(manifest: &Pod, addresses: Vec<IpAddr>, identities: Identities) -> Result<Subject, Error> {
    Ok(Subject {
        namespace: objects::namespace(manifest.metadata.namespace.as_deref()),
        name: manifest.metadata.name.clone().unwrap_or_default(),
        labels: manifest.metadata.labels.clone().unwrap_or_default(),
        addresses,
        interface: Some(INTERFACE.to_owned()),
        containers: subject_containers(manifest)?,
        identities,
        networks: Attachments::read(&manifest.metadata, Some(INTERFACE)),
        link: None,
    })
}

/// What policies can speak of.
pub fn world(loaded: &Loaded, network: Network) -> World {
    let objects = &loaded.objects;
    let slices: Vec<_> = objects.endpoint_slices.iter().map(|slice| slice.object.clone()).collect();
    World {
        namespaces: objects
            .namespaces
            .iter()
            .map(|namespace| (namespace.name(), namespace.object.metadata.labels.clone().unwrap_or_default()))
            .collect(),
        pods: objects.pods.iter().map(|pod| objects::pod(&pod.object)).collect(),
        services: objects.services.iter().map(|service| objects::service(&service.object, &slices)).collect(),
        policies: objects.policies.iter().map(|policy| policy.object.clone()).collect(),
        network_policies: objects.network_policies.iter().map(|policy| policy.object.clone()).collect(),
        multi_network_policies: objects.multi_network_policies.iter().map(|policy| policy.object.clone()).collect(),
        proxies: objects.proxies.iter().map(|proxy| proxy.object.clone()).collect(),
        unreadable: loaded.unreadable.iter().map(Into::into).collect(),
        network,
    }
}

/// A note at the policy that it is about, or at the pod where it is about none.
pub fn place(loaded: &Loaded, pod: Option<&Located<Pod>>, note: &Note) -> Option<Diagnostic> {
    let problem = |path| Problem::warning(path, note.message.clone());
    match &note.policy {
        Some(policy) => at_policy(loaded, policy, &problem(sidewall_api::FieldPath::spec())),
        None => Some(pod?.place.diagnostic(&problem(sidewall_api::FieldPath::root().key("metadata")))),
    }
}

/// What is wrong with a policy, at its place in the files.
pub fn at_policy(loaded: &Loaded, about: &PolicyName, problem: &Problem) -> Option<Diagnostic> {
    let objects = &loaded.objects;
    let (namespace, name) = (&about.namespace, &about.name);
    let place = match about.kind {
        PolicyKind::ContainerNetworkPolicy => &Located::find(&objects.policies, namespace, name)?.place,
        PolicyKind::SidecarProxy => &Located::find(&objects.proxies, namespace, name)?.place,
        PolicyKind::NetworkPolicy => &Located::find(&objects.network_policies, namespace, name)?.place,
        PolicyKind::MultiNetworkPolicy => &Located::find(&objects.multi_network_policies, namespace, name)?.place,
        PolicyKind::Probes | PolicyKind::Guard => return None,
    };
    Some(place.diagnostic(problem))
}
