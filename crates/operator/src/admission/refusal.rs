//! Why a pod is refused: one variant a cause, each with what its author can do.

use crate::admission::edits::EditError;
use crate::admission::identity::{BadAnnotation, BadRange, UidRange, UserFault};

/// Why a pod is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a pod.
    #[error("the object is no pod that can be read: {path} is not what a pod has there")]
    Unreadable {
        /// Where; `.` for the whole. What stands there is not quoted.
        path: String,
    },
    /// An annotation of ours cannot be written.
    #[error("the annotation {key} cannot be written: {error}")]
    Unwritable {
        /// Its key.
        key: &'static str,
        /// Why.
        error: serde_json::Error,
    },
    /// An annotation of the author's that is not understood.
    #[error(transparent)]
    Annotation(#[from] BadAnnotation),
    /// The namespace's range of users is not understood.
    #[error("the namespace's annotation openshift.io/sa.scc.uid-range: {0}")]
    Range(#[from] BadRange),
    /// An annotation of ours that does not say what ours say.
    #[error("the annotation {key} is written by Sidewall alone, and this is not what it writes ({reason}); remove it")]
    Forged {
        /// Its key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A key of ours on a pod that has no proxy.
    #[error(
        "{key} is written by Sidewall alone, on pods that a SidecarProxy selects, and none selects this one; remove it"
    )]
    Reserved {
        /// The key.
        key: &'static str,
    },
    /// The SidecarProxy that selects the pod cannot be understood.
    #[error("SidecarProxy {proxy:?} selects this pod and cannot be used: {problems}")]
    Proxy {
        /// Its name.
        proxy: String,
        /// What is wrong with it.
        problems: String,
    },
    /// A name that no file can have.
    #[error("SidecarProxy {proxy:?} names {name:?}, which is no {what}")]
    SecretName {
        /// The SidecarProxy.
        proxy: String,
        /// The name.
        name: String,
        /// What it should be.
        what: &'static str,
    },
    /// The node's own network.
    #[error(
        "spec.hostNetwork is true and SidecarProxy {proxy:?} selects this pod: on the node's network nothing can stand \
         before the application; remove hostNetwork, or let the podSelector leave this pod out"
    )]
    HostNetwork {
        /// The SidecarProxy.
        proxy: String,
    },
    /// Another system.
    #[error("spec.os.name is {os:?} and SidecarProxy {proxy:?} selects this pod: the proxy runs on Linux only")]
    System {
        /// The system.
        os: String,
        /// The SidecarProxy.
        proxy: String,
    },
    /// A name that containers cannot have, or two of one name.
    #[error("{field}.name is {name:?}: each container needs a name of its own, of a-z, 0-9 and -")]
    ContainerName {
        /// Where it stands.
        field: String,
        /// The name.
        name: String,
    },
    /// The application has a container of the proxy's name.
    #[error(
        "container {container:?} ({field}) has the name that SidecarProxy {proxy:?} gives to its proxy: rename the container, \
         or set spec.containerName of the SidecarProxy"
    )]
    NameTaken {
        /// The container.
        container: String,
        /// Where it stands.
        field: String,
        /// The SidecarProxy.
        proxy: String,
    },
    /// The application has a volume of ours.
    #[error("spec.volumes[{index}] is called {volume:?}, as a volume of the proxy is: rename it")]
    VolumeTaken {
        /// Its name.
        volume: String,
        /// Where it stands.
        index: usize,
    },
    /// The application declares a port that the proxy opens.
    #[error(
        "container {container:?} ({field}) declares port {port}, which the proxy opens on the pod's address ({what}): let the \
         application listen on another port of 127.0.0.1, or change {change}"
    )]
    PortTaken {
        /// The container.
        container: String,
        /// The field of the port.
        field: String,
        /// The port.
        port: u16,
        /// What the proxy has it for.
        what: String,
        /// What may be changed in its place.
        change: String,
    },
    /// A SidecarProxy wants a port of the proxy itself.
    #[error(
        "SidecarProxy {proxy:?} has port {port} in {field}, which the proxy itself uses ({what}): take another one, or change \
         proxy.ports.{what} in the operator's settings"
    )]
    PortReserved {
        /// The SidecarProxy.
        proxy: String,
        /// The field of the SidecarProxy.
        field: String,
        /// The port.
        port: u16,
        /// What the proxy uses it for.
        what: &'static str,
    },
    /// The pod itself keeps the proxy from its port.
    #[error(
        "the proxy listens on port {port} without privileges, and spec.securityContext.sysctls[{index}] sets {sysctl} to \
         {value:?}: set it to {port} or less, or let the listener have another port"
    )]
    Sysctl {
        /// The lowest listener.
        port: u16,
        /// Where the sysctl stands.
        index: usize,
        /// Its name.
        sysctl: &'static str,
        /// What it says.
        value: String,
    },
    /// Two containers say the same user, and each was to have its own.
    #[error(
        "containers {one:?} ({one_field}) and {other:?} ({other_field}) both say runAsUser {uid}, and \
         sidewall.dev/assign-uids asks for one each: change one of them, or remove it to have a number assigned"
    )]
    SameUid {
        /// The number.
        uid: i64,
        /// The first container.
        one: String,
        /// Where it stands.
        one_field: String,
        /// The second container.
        other: String,
        /// Where it stands.
        other_field: String,
    },
    /// A container's user is not what it must be.
    #[error(transparent)]
    User(#[from] UserFault),
    /// No number left.
    #[error("the range of users {range} is too small for this pod's {containers} containers; widen it")]
    RangeTooSmall {
        /// The range.
        range: UidRange,
        /// How many containers there are.
        containers: usize,
    },
    /// A user that the pod's user namespace does not have.
    #[error(
        "spec.hostUsers is false, so that this pod has users up to 65535 only, and {what} is {uid}: choose a lower one, or \
         remove hostUsers"
    )]
    UserNamespace {
        /// Whose number it is.
        what: &'static str,
        /// The number.
        uid: u32,
    },
    /// A probe that already aims at the proxy, without a word what it asked before.
    #[error(
        "{field} of container {container:?} aims at port {port}, the proxy's own, and the pod does not say what it asked \
         before: let it aim at the application"
    )]
    Orphan {
        /// The container.
        container: String,
        /// The field.
        field: String,
        /// The port.
        port: u16,
    },
    /// A probe that the proxy cannot ask.
    #[error("{field} of container {container:?} cannot be asked by the proxy: {reason}")]
    Probe {
        /// The container.
        container: String,
        /// The field.
        field: String,
        /// Why.
        reason: String,
    },
    /// The proxy would not take what would be written for it.
    #[error("the proxy cannot be configured for this pod: {0}")]
    Config(#[from] crate::proxies::render::RenderError),
    /// Too much to keep.
    #[error(
        "the probes of this pod are {size} bytes, and at most {most} can be kept in an annotation; make them shorter"
    )]
    TooLarge {
        /// How much they are.
        size: usize,
        /// The most.
        most: usize,
    },
    /// More annotations than a pod can have.
    #[error(
        "the annotations of this pod would be {size} bytes with those of the proxy, and there is room for {most}; make the \
         pod's own shorter"
    )]
    Annotations {
        /// How much they would be.
        size: usize,
        /// The most.
        most: usize,
    },
    /// The object does not have a pod's shape where it is to be changed.
    #[error(transparent)]
    Edit(#[from] EditError),
}
