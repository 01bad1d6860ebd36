//! From JSON to typed objects, with every problem found on the way.
//!
//! What comes from a file and what comes from an API server is read here alike. A policy that cannot be read is not
//! lost: [`UnreadablePolicy`] says what it selects, so that it can be isolated (invariant 4 of the design).

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment as SerdeSegment;

use crate::problem::{FieldPath, Problem, Segment};
use crate::shape::Shape;
use crate::{
    ContainerNetworkPolicy, LabelSelector, MultiNetworkPolicy, NetworkPolicy, NetworkPolicySpec, PodSplit, SidecarProxy,
};

/// A policy, or a proxy (which is a policy too), that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadablePolicy {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace. `None` where not even that can be read: it may be about any.
    pub namespace: Option<String>,
    /// Its name, if that can be read.
    pub name: Option<String>,
    /// The pods that it selects, if that much is certain. `None`: it may be about every pod of its namespace.
    pub pod_selector: Option<LabelSelector>,
    /// What is wrong with it. At least one is an error.
    pub problems: Vec<Problem>,
}

/// A PodSplit that cannot be understood. The pods that it may select cannot be split as their author meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadableSplit {
    /// Its namespace. `None` where not even that can be read: it may be about any.
    pub namespace: Option<String>,
    /// Its name, if that can be read.
    pub name: Option<String>,
    /// The pods that it selects, if that much is certain. `None`: it may be about every pod of its namespace.
    pub pod_selector: Option<LabelSelector>,
    /// What is wrong with it. At least one is an error.
    pub problems: Vec<Problem>,
}

/// The kinds that isolate pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PolicyKind {
    /// A [`ContainerNetworkPolicy`].
    ContainerNetworkPolicy,
    /// A [`SidecarProxy`].
    SidecarProxy,
    /// A [`NetworkPolicy`].
    NetworkPolicy,
    /// A [`MultiNetworkPolicy`].
    MultiNetworkPolicy,
}

impl PolicyKind {
    /// The kind as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContainerNetworkPolicy => "ContainerNetworkPolicy",
            Self::SidecarProxy => "SidecarProxy",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::MultiNetworkPolicy => "MultiNetworkPolicy",
        }
    }

    /// The kind that is so called, in whatever group.
    pub fn of_name(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == kind)
    }

    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::ContainerNetworkPolicy, Self::SidecarProxy, Self::NetworkPolicy, Self::MultiNetworkPolicy];

    /// The values of `apiVersion` under which it is read, the usual one first.
    pub const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::ContainerNetworkPolicy | Self::SidecarProxy => &[crate::names::API_VERSION],
            Self::NetworkPolicy => &["networking.k8s.io/v1"],
            // The second version is the first with endPort.
            Self::MultiNetworkPolicy => &["k8s.cni.cncf.io/v1beta1", "k8s.cni.cncf.io/v1beta2"],
        }
    }

    /// Whether a group is one in which a kind of this name is this kind, whatever the version.
    pub fn is_of_group(self, group: &str) -> bool {
        match self {
            // A group that was in use before.
            Self::NetworkPolicy if group == "extensions" => true,
            _ => {
                self.api_versions().iter().any(|version| version.rsplit_once('/').is_some_and(|(own, _)| own == group))
            }
        }
    }
}

/// An object that was read, with what is still to be said of it (warnings only).
#[derive(Clone, Debug, PartialEq)]
pub struct Read<T> {
    /// The object.
    pub object: T,
    /// Warnings.
    pub warnings: Vec<Problem>,
}

/// Reads a ContainerNetworkPolicy and checks all its rules.
///
/// # Errors
///
/// What could be found out about a policy that cannot be enforced as written.
pub fn read_policy(value: Value) -> Result<Read<ContainerNetworkPolicy>, Box<UnreadablePolicy>> {
    custom(PolicyKind::ContainerNetworkPolicy, &POLICY, value, ContainerNetworkPolicy::validate)
}

/// Reads a SidecarProxy and checks all its rules, in the form that it has ([`crate::SidecarProxySpec::form`]).
///
/// # Errors
///
/// What could be found out about a proxy that cannot be understood.
pub fn read_proxy(value: Value) -> Result<Read<SidecarProxy>, Box<UnreadablePolicy>> {
    custom(PolicyKind::SidecarProxy, &PROXY, value, |proxy: &SidecarProxy| proxy.validate(proxy.spec.form()))
}

/// Reads a NetworkPolicy and checks all its rules. One without a spec selects every pod of its namespace, as the API
/// server has it.
///
/// # Errors
///
/// What could be found out about a policy that cannot be enforced as written.
pub fn read_network_policy(value: Value) -> Result<Read<NetworkPolicy>, Box<UnreadablePolicy>> {
    custom(PolicyKind::NetworkPolicy, &NETWORK, value, NetworkPolicy::validate)
}

/// Reads a MultiNetworkPolicy and checks all its rules.
///
/// # Errors
///
/// What could be found out about a policy that cannot be enforced as written.
pub fn read_multi_network_policy(value: Value) -> Result<Read<MultiNetworkPolicy>, Box<UnreadablePolicy>> {
    custom(PolicyKind::MultiNetworkPolicy, &NETWORK, value, MultiNetworkPolicy::validate)
}

/// Reads a PodSplit and checks all its rules.
///
/// # Errors
///
/// What could be found out about one by which no pod can be split.
pub fn read_split(value: Value) -> Result<Read<PodSplit>, Box<UnreadableSplit>> {
    checked(&SPLIT, value, PodSplit::validate).map_err(|lost| {
        let Lost { namespace, name, pod_selector, problems } = lost;
        Box::new(UnreadableSplit { namespace, name, pod_selector, problems })
    })
}

/// Reads a Pod.
///
/// # Errors
///
/// Every problem that was found, at least one of them an error.
pub fn read_pod(value: Value) -> Result<Read<Pod>, Vec<Problem>> {
    typed(&POD, value)
}

/// Reads a Namespace.
///
/// # Errors
///
/// Every problem that was found, at least one of them an error.
pub fn read_namespace(value: Value) -> Result<Read<Namespace>, Vec<Problem>> {
    typed(&NAMESPACE, value)
}

/// Reads a Service.
///
/// # Errors
///
/// Every problem that was found, at least one of them an error.
pub fn read_service(value: Value) -> Result<Read<Service>, Vec<Problem>> {
    typed(&SERVICE, value)
}

/// Reads an EndpointSlice.
///
/// # Errors
///
/// Every problem that was found, at least one of them an error.
pub fn read_endpoint_slice(value: Value) -> Result<Read<EndpointSlice>, Vec<Problem>> {
    typed(&ENDPOINT_SLICE, value)
}

static POLICY: LazyLock<Shape> = LazyLock::new(|| own("ContainerNetworkPolicy"));
static PROXY: LazyLock<Shape> = LazyLock::new(|| own("SidecarProxy"));
static SPLIT: LazyLock<Shape> = LazyLock::new(|| own("PodSplit"));
static NETWORK: LazyLock<Shape> = LazyLock::new(Shape::foreign::<NetworkPolicySpec>);
static POD: LazyLock<Shape> = LazyLock::new(Shape::core::<Pod>);
static NAMESPACE: LazyLock<Shape> = LazyLock::new(Shape::core::<Namespace>);
static SERVICE: LazyLock<Shape> = LazyLock::new(Shape::core::<Service>);
static ENDPOINT_SLICE: LazyLock<Shape> = LazyLock::new(Shape::core::<EndpointSlice>);

fn own(kind: &str) -> Shape {
    let schema = crate::crd::crds()
        .iter()
        .find(|crd| crd.spec.names.kind == kind)
        .and_then(|crd| crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.clone())
        .expect("every kind of ours has a schema");
    Shape::custom(serde_json::to_value(schema).expect("a schema has string keys only"))
}

fn custom<T: DeserializeOwned>(
    kind: PolicyKind,
    shape: &Shape,
    value: Value,
    validate: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<Read<T>, Box<UnreadablePolicy>> {
    checked(shape, value, validate).map_err(|lost| {
        let Lost { namespace, name, pod_selector, problems } = lost;
        Box::new(UnreadablePolicy { kind, namespace, name, pod_selector, problems })
    })
}

/// What could be found out about an object that selects pods and cannot be understood.
struct Lost {
    namespace: Option<String>,
    name: Option<String>,
    pod_selector: Option<LabelSelector>,
    problems: Vec<Problem>,
}

fn checked<T: DeserializeOwned>(
    shape: &Shape,
    value: Value,
    validate: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<Read<T>, Lost> {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let has_namespace = value.pointer("/metadata/namespace").is_some();
    let mut rest = value;
    let mut problems = shape.check(&mut rest);
    // Unknown fields have been taken out: what is left may still read, and have more to report.
    let object = match deserialize::<T>(rest.clone()) {
        Ok(object) => {
            problems.extend(validate(&object));
            Some(object)
        }
        Err(problem) => {
            // The shape has mostly said it already, and better.
            if !problems.iter().any(|p| p.is_error() && p.path == problem.path) {
                problems.push(problem);
            }
            None
        }
    };
    match object {
        Some(object) if !problems.iter().any(Problem::is_error) => Ok(Read { object, warnings: problems }),
        _ => Err(Lost {
            // A namespace that is not text is unknown; one that is absent is for the caller to fill in.
            namespace: namespace.or_else(|| (!has_namespace).then(|| crate::names::DEFAULT_NAMESPACE.to_owned())),
            name,
            pod_selector: certain_selector(&rest, &problems),
            problems,
        }),
    }
}

/// The selector, if nothing at all is wrong with it or with what stands around it.
fn certain_selector(value: &Value, problems: &[Problem]) -> Option<LabelSelector> {
    let at = FieldPath::spec().key("podSelector");
    let doubtful =
        problems.iter().any(|problem| problem.is_error() && problem.path.segments().starts_with(at.segments()));
    if doubtful {
        return None;
    }
    serde_json::from_value(value.pointer("/spec/podSelector")?.clone()).ok()
}

fn typed<T: DeserializeOwned>(shape: &Shape, mut value: Value) -> Result<Read<T>, Vec<Problem>> {
    let mut problems = shape.check(&mut value);
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    match deserialize(value) {
        Ok(object) => Ok(Read { object, warnings: problems }),
        Err(problem) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

fn deserialize<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                SerdeSegment::Seq { index } => Some(Segment::Index(*index)),
                SerdeSegment::Map { key } => Some(Segment::Key(key.clone())),
                SerdeSegment::Enum { variant } => Some(Segment::Key(variant.clone())),
                SerdeSegment::Unknown => None,
            })
            .collect();
        Problem::error(path, error.inner().to_string())
    })
}

#[cfg(test)]
mod tests;
