//! Reading files: YAML or JSON text into typed objects, with every finding at its line and column.
//!
//! Nothing is skipped in silence. What cannot be read is an error; a policy that cannot be read is also handed on as an
//! [`UnreadablePolicy`], so that what it selects can be isolated.

mod diagnostic;
mod identity;
mod node;
mod place;
mod scalar;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;

use crate::names::{API_VERSION, GROUP};
use crate::problem::{FieldPath, Problem, Severity};
use crate::read::{self, PolicyKind, Read, UnreadablePolicy};
use crate::{ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, PodSplit, SidecarProxy};
use identity::{Identity, identify};
use node::{Content, Node};
use tree::Document;

pub use diagnostic::{Colour, Diagnostic, Position, SourceText};
pub use place::{Located, Place};
pub use tree::{DEPTH_MAX, DOCUMENTS_MAX, FINDINGS_MAX, TEXT_MAX, VALUES_MAX};

/// The largest file that is read, in octets.
pub const FILE_MAX: usize = 4 << 20;

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The objects, each kind in the order of the files.
    pub objects: Objects,
    /// Policies that cannot be understood.
    pub unreadable: Vec<UnreadablePolicy>,
    /// Every finding, in the order of the files and their lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Whether anything was found that must not be passed over.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Objects by kind. Each that belongs to a namespace has one: `default` where its file names none.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// ContainerNetworkPolicies that keep all their rules.
    pub policies: Vec<Located<ContainerNetworkPolicy>>,
    /// SidecarProxies that keep all their rules.
    pub proxies: Vec<Located<SidecarProxy>>,
    /// NetworkPolicies that keep all their rules.
    pub network_policies: Vec<Located<NetworkPolicy>>,
    /// MultiNetworkPolicies that keep all their rules.
    pub multi_network_policies: Vec<Located<MultiNetworkPolicy>>,
    /// PodSplits that keep all their rules.
    pub splits: Vec<Located<PodSplit>>,
    /// Pods.
    pub pods: Vec<Located<Pod>>,
    /// Namespaces.
    pub namespaces: Vec<Located<Namespace>>,
    /// Services.
    pub services: Vec<Located<Service>>,
    /// EndpointSlices.
    pub endpoint_slices: Vec<Located<EndpointSlice>>,
}

/// Reads one text.
pub fn load(name: &str, text: &str) -> Loaded {
    let mut loader = Loader::new();
    loader.add(name, text.as_bytes());
    loader.finish()
}

/// Reads several files into one set of objects.
#[derive(Debug, Default)]
pub struct Loader {
    loaded: Loaded,
    /// Kind, namespace and name of every object so far.
    seen: BTreeMap<(String, String, String), Place>,
}

impl Loader {
    /// A loader that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file's content, YAML or JSON. `name` is what findings call it.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        if bytes.len() > FILE_MAX {
            let message = format!("the file has {} octets, and at most {FILE_MAX} are read: divide it", bytes.len());
            self.loaded.diagnostics.push(Diagnostic::of_file(name, Severity::Error, message));
            return;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let source = Arc::new(SourceText::new(name, &good));
                let at = source.text().len();
                let message = "the file is no UTF-8 text from here on";
                self.loaded.diagnostics.push(source.diagnostic(at..at, Severity::Error, None, message));
                return;
            }
        };
        let source = Arc::new(SourceText::new(name, text));
        for document in tree::parse(source.text()) {
            self.document(&source, document);
        }
    }

    /// Ends the reading.
    pub fn finish(mut self) -> Loaded {
        // Stable: files keep their order, and findings of one place the order in which they were found.
        let mut order: Vec<String> = Vec::new();
        for diagnostic in &self.loaded.diagnostics {
            if !order.contains(&diagnostic.file) {
                order.push(diagnostic.file.clone());
            }
        }
        self.loaded.diagnostics.sort_by_key(|d| (order.iter().position(|f| *f == d.file), d.line, d.column));
        self.loaded
    }

    fn document(&mut self, source: &Arc<SourceText>, document: Document) {
        let Document { root, broken, findings } = document;
        let faulty = broken || !findings.is_empty();
        for finding in findings {
            self.loaded.diagnostics.push(source.diagnostic(finding.span, Severity::Error, None, finding.message));
        }
        let Some(root) = root else { return };
        if matches!(root.content, Content::Null) {
            return;
        }
        let place = Place { source: Arc::clone(source), document: Arc::new(root), inside: FieldPath::root() };
        let state = match (broken, faulty) {
            (true, _) => State::Broken,
            (_, true) => State::Faulty,
            _ => State::Sound,
        };
        self.object(place, state);
    }

    fn object(&mut self, place: Place, state: State) {
        let node = place.node();
        if !matches!(node.content, Content::Fields(_)) {
            if state == State::Broken {
                // That the text is broken has been said; what it would have been is unknown.
                return;
            }
            self.report(
                &place,
                &Problem::error(FieldPath::root(), "here must stand an object with apiVersion and kind"),
            );
            return;
        }
        let word = |name| node.get(name).and_then(Node::as_text).unwrap_or_default().to_owned();
        let (version, kind) = (word("apiVersion"), word("kind"));
        let group = version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        if let Some(kind) = PolicyKind::of_name(&kind) {
            if kind.is_of_group(&group) {
                self.custom(place, state, &version, kind);
            } else {
                // Under a wrong apiVersion and in a faulty text, it may still be a policy that its author relies on.
                self.other(&place, &version, kind.as_str(), &group);
            }
            return;
        }
        match (version.as_str(), kind.as_str()) {
            ("v1", "List") => self.list(&place, state),
            // What is wrong with the text has been said. Half an object must not pass for a whole one.
            _ if state != State::Sound => {}
            (API_VERSION, "PodSplit") => {
                let read = |value| read::read_split(value).map_err(|unreadable| unreadable.problems);
                self.core(place, read, |o| &mut o.splits);
            }
            ("v1", "Pod") => self.core(place, read::read_pod, |o| &mut o.pods),
            ("v1", "Namespace") => self.core(place, read::read_namespace, |o| &mut o.namespaces),
            ("v1", "Service") => self.core(place, read::read_service, |o| &mut o.services),
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.core(place, read::read_endpoint_slice, |o| &mut o.endpoint_slices);
            }
            _ => self.other(&place, &version, &kind, &group),
        }
    }

    /// A policy. Whatever is wrong with it, it must not be lost.
    fn custom(&mut self, place: Place, state: State, version: &str, kind: PolicyKind) {
        let mut value = place.node().to_value();
        let mut early = Vec::new();
        let versions = kind.api_versions();
        if !versions.contains(&version) {
            let message = format!("version {version:?} is not known: write {}", versions[0]);
            early.push(Problem::error(FieldPath::root().key("apiVersion"), message));
        }
        let identity = identify(&mut value, true);
        early.extend(identity.problems.iter().cloned());
        let read = match kind {
            PolicyKind::ContainerNetworkPolicy => {
                read::read_policy(value).map(|Read { object, warnings }| (Policy::Container(object), warnings))
            }
            PolicyKind::SidecarProxy => {
                read::read_proxy(value).map(|Read { object, warnings }| (Policy::Proxy(object), warnings))
            }
            PolicyKind::NetworkPolicy => {
                read::read_network_policy(value).map(|Read { object, warnings }| (Policy::Network(object), warnings))
            }
            PolicyKind::MultiNetworkPolicy => read::read_multi_network_policy(value)
                .map(|Read { object, warnings }| (Policy::Multi(object), warnings)),
        };
        let mut unreadable = match read {
            Ok((object, warnings)) => {
                if early.is_empty() && state == State::Sound {
                    warnings.iter().for_each(|problem| self.report(&place, problem));
                    if self.is_new(kind.as_str(), &identity, &place) {
                        object.shelve(&mut self.loaded.objects, place);
                    }
                    return;
                }
                let pod_selector = Some(object.into_selector());
                UnreadablePolicy { kind, namespace: None, name: None, pod_selector, problems: warnings }
            }
            Err(unreadable) => *unreadable,
        };
        unreadable.namespace = identity.namespace.clone();
        unreadable.name = identity.name.clone();
        unreadable.problems.splice(0..0, early);
        match state {
            State::Sound => {}
            // A field that was given twice could be any field.
            State::Faulty => unreadable.pod_selector = None,
            State::Broken => {
                // The rest of the document is missing: fields that seem absent may stand there.
                unreadable.pod_selector = None;
                if place.node().get("metadata").and_then(|metadata| metadata.get("namespace")).is_none() {
                    unreadable.namespace = None;
                }
                unreadable.problems.clear();
            }
        }
        unreadable.problems.iter().for_each(|problem| self.report(&place, problem));
        if state != State::Sound {
            let message = "the text of this object is broken: see the findings about it";
            unreadable.problems.push(Problem::error(FieldPath::root(), message));
        }
        self.loaded.unreadable.push(unreadable);
    }

    /// A kind that isolates nothing: one of Kubernetes itself, or a PodSplit.
    fn core<T>(
        &mut self,
        place: Place,
        read: fn(Value) -> Result<Read<T>, Vec<Problem>>,
        shelf: fn(&mut Objects) -> &mut Vec<Located<T>>,
    ) where
        T: kube::Resource<DynamicType = ()>,
    {
        let mut value = place.node().to_value();
        let kind = T::kind(&()).into_owned();
        let identity = identify(&mut value, kind != "Namespace");
        let read = read(value);
        let said = |problem: &Problem| read.as_ref().is_err_and(|found| found.iter().any(|p| p.path == problem.path));
        let own: Vec<_> = identity.problems.iter().filter(|problem| !said(problem)).collect();
        own.into_iter().for_each(|problem| self.report(&place, problem));
        match read {
            Ok(Read { object, warnings }) => {
                warnings.iter().for_each(|problem| self.report(&place, problem));
                if identity.problems.is_empty() && self.is_new(&kind, &identity, &place) {
                    shelf(&mut self.loaded.objects).push(Located { object, place });
                }
            }
            Err(problems) => problems.iter().for_each(|problem| self.report(&place, problem)),
        }
    }

    fn list(&mut self, place: &Place, state: State) {
        let items = FieldPath::root().key("items");
        if !place.inside.is_root() {
            self.report(place, &Problem::error(FieldPath::root(), "a List inside a List is not read: take it out"));
            return;
        }
        match place.node().get("items").map(|node| &node.content) {
            Some(Content::List(found)) => {
                for i in 0..found.len() {
                    self.object(Place { inside: items.index(i), ..place.clone() }, state);
                }
            }
            _ if state == State::Broken => {}
            _ => self.report(place, &Problem::error(items, "a List needs items, a list of objects")),
        }
        if let Content::Fields(fields) = &place.node().content {
            let unknown =
                fields.iter().filter(|f| !["apiVersion", "kind", "metadata", "items"].contains(&f.key.as_str()));
            for field in unknown {
                let path = FieldPath::root().key(field.key.as_str());
                self.report(place, &Problem::error(path, format!("unknown field {:?}", field.key)).of_name());
            }
        }
    }

    fn other(&mut self, place: &Place, version: &str, kind: &str, group: &str) {
        let root = FieldPath::root();
        let policy = PolicyKind::of_name(kind);
        let problem = if kind.is_empty() {
            Problem::error(root, "the object has no kind: write apiVersion and kind")
        } else if version.is_empty() {
            let message = match policy {
                Some(policy) => format!("the object has no apiVersion: write {}", policy.api_versions()[0]),
                None => format!("the object has no apiVersion; for a kind of ours write {API_VERSION}"),
            };
            Problem::error(root, message)
        } else if group == GROUP {
            Problem::error(root.key("kind"), format!("the kind {kind:?} is not known in {version}"))
        } else if let Some(policy) = policy {
            let wanted = policy.api_versions()[0];
            Problem::error(root.key("apiVersion"), format!("{kind} is read as of {wanted}, not of {version:?}"))
        } else if kind.ends_with("Policy") {
            // It may well say who may talk to whom: leaving it out could open what it closes.
            Problem::error(
                root.key("kind"),
                format!("{kind} of {version} is not read here: remove it, or say the same in a ContainerNetworkPolicy"),
            )
        } else {
            Problem::warning(root.key("kind"), format!("{kind} of {version} is not used here, and passed over"))
        };
        self.report(place, &problem);
        // Under a wrong apiVersion it is still a policy that its author relies on.
        let Some(lost) = policy else { return };
        let mut value = place.node().to_value();
        let identity = identify(&mut value, true);
        self.loaded.unreadable.push(UnreadablePolicy {
            kind: lost,
            namespace: identity.namespace,
            name: identity.name,
            pod_selector: None,
            problems: vec![problem],
        });
    }

    /// Whether this is the first object of its kind and name. The second one is reported.
    fn is_new(&mut self, kind: &str, identity: &Identity, place: &Place) -> bool {
        let (namespace, name) =
            (identity.namespace.clone().unwrap_or_default(), identity.name.clone().unwrap_or_default());
        let key = (kind.to_owned(), namespace, name.clone());
        if let Some(first) = self.seen.get(&key) {
            let path = FieldPath::root().key("metadata").key("name");
            let message = format!("{kind} {name} is already there, at {first:?}: remove one of them");
            self.report(place, &Problem::error(path, message));
            return false;
        }
        self.seen.insert(key, place.clone());
        true
    }

    fn report(&mut self, place: &Place, problem: &Problem) {
        self.loaded.diagnostics.push(place.diagnostic(problem));
    }
}

/// How well a document's text could be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// Something in it is refused, and left out.
    Faulty,
    /// It ends where the text broke.
    Broken,
}

/// A policy of any kind.
enum Policy {
    Container(ContainerNetworkPolicy),
    Proxy(SidecarProxy),
    Network(NetworkPolicy),
    Multi(MultiNetworkPolicy),
}

impl Policy {
    fn shelve(self, objects: &mut Objects, place: Place) {
        match self {
            Self::Container(object) => objects.policies.push(Located { object, place }),
            Self::Proxy(object) => objects.proxies.push(Located { object, place }),
            Self::Network(object) => objects.network_policies.push(Located { object, place }),
            Self::Multi(object) => objects.multi_network_policies.push(Located { object, place }),
        }
    }

    fn into_selector(self) -> LabelSelector {
        match self {
            Self::Container(policy) => policy.spec.pod_selector,
            Self::Proxy(proxy) => proxy.spec.pod_selector,
            Self::Network(policy) => policy.spec.pod_selector,
            Self::Multi(policy) => policy.spec.pod_selector,
        }
    }
}

#[cfg(test)]
mod tests;
