//! Why a pod cannot be split: one variant a cause, each with a way out.

use std::fmt;

use crate::network::AttachError;
use crate::record::BadRecord;

/// How many reasons are told at once.
const TOLD: usize = 8;

/// Why a pod that a PodSplit selects cannot be split by it: all reasons at once.
#[derive(Debug)]
pub struct Refusals {
    /// The PodSplit.
    pub split: String,
    /// The reasons, at least one.
    pub reasons: Vec<Refusal>,
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodSplit {:?} selects this pod, and it cannot be split: ", self.split)?;
        for (index, reason) in self.reasons.iter().take(TOLD).enumerate() {
            let between = if index == 0 { "" } else { "; and " };
            write!(f, "{between}{reason}")?;
        }
        match self.reasons.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Refusals {}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Taken => Self::LinkTaken,
            AttachError::Unreadable(reason) => Self::Networks { reason },
        }
    }
}

/// Why a pod cannot be split.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a pod.
    #[error("it is no pod that can be read: {path} is not what a pod has there")]
    Unreadable {
        /// Where; `.` for the whole. What stands there is not quoted.
        path: String,
    },
    /// An annotation of ours that is not ours.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// A field of the pod's spec that this version does not know.
    #[error(
        "spec.{field} is not known here, and whether a part needs it cannot be said: remove it, or upgrade the operator"
    )]
    UnknownField {
        /// The field.
        field: String,
    },
    /// Two containers or volumes of one name, or one without.
    #[error("spec.{list} has {name:?} twice, or one without a name: give each a name of its own")]
    Name {
        /// The list.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// A container that the pod does not have.
    #[error(
        "part {part:?} names the container {container:?}, which the pod does not have: correct the PodSplit, or let its \
         podSelector leave this pod out"
    )]
    UnknownContainer {
        /// The part.
        part: String,
        /// The container.
        container: String,
    },
    /// A container in the wrong list of a part.
    #[error("part {part:?} names {container:?} under {field}, and it is {what}: name it under {instead}")]
    Misplaced {
        /// The part.
        part: String,
        /// The container.
        container: String,
        /// Where it is named.
        field: &'static str,
        /// What it is.
        what: &'static str,
        /// Where it should be named.
        instead: &'static str,
    },
    /// Nothing would be left of the pod itself.
    #[error(
        "every container of the application goes to a part, and the pod itself needs one: leave one of them out of the parts, best \
         the one that Services lead to"
    )]
    NothingLeft,
    /// The node's own network.
    #[error(
        "spec.hostNetwork is true: on the node's network containers cannot be told apart by a network of their own; remove \
         hostNetwork, or let the podSelector leave this pod out"
    )]
    HostNetwork,
    /// Processes that see each other.
    #[error(
        "spec.shareProcessNamespace is true: processes of two pods do not see each other; remove it, or let the containers that \
         need each other's processes stay in one pod without a PodSplit"
    )]
    ShareProcessNamespace,
    /// Another system.
    #[error("spec.os.name is {os:?}: only Linux has what joins the parts; let the podSelector leave this pod out")]
    System {
        /// The system.
        os: String,
    },
    /// Resources of the pod as a whole.
    #[error(
        "spec.resources says what all containers may take together, which pods cannot share: say it of each container, and remove it"
    )]
    PodResources,
    /// A debugging container.
    #[error("spec.ephemeralContainers is given at creation, which no pod may: remove it")]
    Ephemeral,
    /// A volume that only one pod can have.
    #[error(
        "container {one:?} ({one_part}) and container {other:?} ({other_part}) both use the volume {volume:?}, {kind}, which two pods \
         cannot share: put them in one part, or use a PersistentVolumeClaim"
    )]
    Volume {
        /// The volume.
        volume: String,
        /// What it is.
        kind: String,
        /// A container that uses it.
        one: String,
        /// Where that goes.
        one_part: String,
        /// Another that uses it.
        other: String,
        /// Where that goes.
        other_part: String,
    },
    /// A volume by which an init container hands something over.
    #[error(
        "init container {init:?} ({init_part}) uses the volume {volume:?}, {kind}, as container {container:?} ({part}) does: what it \
         leaves there would not arrive; name it under initContainers of that part, or leave both in the pod"
    )]
    HandedOver {
        /// The volume.
        volume: String,
        /// What it is.
        kind: String,
        /// The init container.
        init: String,
        /// Where that goes.
        init_part: String,
        /// A container that uses it.
        container: String,
        /// Where that goes.
        part: String,
    },
    /// A piece of a volume that two pods have.
    #[error(
        "container {container:?} ({part}) mounts a subPath of the volume {volume:?}, which {others} uses as well: two kubelet's \
         mounts would make it at once; give each part a volume of its own, or mount the whole"
    )]
    SubPath {
        /// The container.
        container: String,
        /// Where it goes.
        part: String,
        /// The volume.
        volume: String,
        /// Who else uses it.
        others: String,
    },
    /// A volume that is not there.
    #[error(
        "container {container:?} uses the volume {volume:?}, which the pod does not have: add it, or correct the name"
    )]
    NoVolume {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
    /// A device that is given to the pod.
    #[error(
        "container {container:?} uses a resource claim, which is given to a pod as a whole: leave it out of part {part:?}"
    )]
    ResourceClaim {
        /// The container.
        container: String,
        /// The part.
        part: String,
    },
    /// One port of the node for two pods.
    #[error(
        "containers {one:?} ({one_part}) and {other:?} ({other_part}) both ask for port {protocol}/{port} of the node, which one pod \
         only can have: remove one hostPort"
    )]
    HostPort {
        /// The port.
        port: i32,
        /// The protocol.
        protocol: String,
        /// A container.
        one: String,
        /// Where it goes.
        one_part: String,
        /// Another.
        other: String,
        /// Where that goes.
        other_part: String,
    },
    /// The kubelet would ask the wrong pod.
    #[error(
        "{field} of container {container:?} ({part}) asks port {port}, which container {other:?} ({other_part}) declares: the kubelet \
         asks the pod in which a container is; put both in one part, or let it ask the container's own port, or by a command"
    )]
    Probe {
        /// The container.
        container: String,
        /// Where it goes.
        part: String,
        /// The probe or hook.
        field: &'static str,
        /// The port.
        port: u16,
        /// Who declares the port.
        other: String,
        /// Where that goes.
        other_part: String,
    },
    /// Amounts of another pod's container.
    #[error(
        "{field} of {of} ({part}) asks for the resources of container {other:?}, which is elsewhere: put both in one part, or \
         write the amount"
    )]
    ResourcesOf {
        /// The field.
        field: String,
        /// Whose.
        of: String,
        /// Where that goes.
        part: String,
        /// Whose resources.
        other: String,
    },
    /// A file that would tell of the part.
    #[error(
        "the volume {volume:?} has {field} in a file, which in part {part:?} would be the part's own: take it from the environment \
         (valueFrom.fieldRef), which goes on telling of the pod, or leave its containers in the pod"
    )]
    DownwardFile {
        /// The volume.
        volume: String,
        /// What is in the file.
        field: String,
        /// The part.
        part: String,
    },
    /// The device of the link is another network's.
    #[error(
        "the annotation k8s.v1.cni.cncf.io/networks asks for the device link0, which is the link's: give that network another \
         device"
    )]
    LinkTaken,
    /// The annotation that Multus reads is not understood.
    #[error(
        "the annotation k8s.v1.cni.cncf.io/networks cannot be read ({reason}), so that the link cannot be added to it: correct it"
    )]
    Networks {
        /// Why.
        reason: &'static str,
    },
    /// Too much to keep.
    #[error(
        "what goes to the parts is {size} octets, and at most {most} can be kept in an annotation: move fewer containers, or shorten \
         them (a ConfigMap for long arguments and environments)"
    )]
    TooLarge {
        /// How much it is.
        size: usize,
        /// The most.
        most: usize,
    },
    /// More annotations than a pod can have.
    #[error(
        "the annotations of this pod would be {size} octets with ours, and there is room for {most}: shorten the pod's own"
    )]
    Annotations {
        /// How much they would be.
        size: usize,
        /// The most.
        most: usize,
    },
}
