//! What the plugin and the agent of its node say to each other.
//!
//! Over a UNIX stream socket, [`SOCKET`], that only root may use; both sides ask the kernel who the other is
//! (SO_PEERCRED). One question a connection:
//!
//! 1. The plugin sends a [frame](crate::frame) with `{"version":1,"ask":…}`. With ADD and CHECK the pod's network
//!    namespace comes with it as a descriptor (SCM_RIGHTS), so that no path has to be believed, or seen from another
//!    mount namespace.
//! 2. The agent sends a frame with `{"version":1,"answer":…}` and closes.
//!
//! A document is strict: fields that are not known are errors, on both sides. What changes gets another version. Only
//! `version` is read before it is known to be ours, so that both sides can say to each other that they are of different
//! ages.

use crate::args::Pod;
use crate::names::{InterfaceName, Namespace, NetworkName, SandboxId};
use crate::version::SpecVersion;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Where the agent listens.
pub const SOCKET: &str = "/run/sidewall/cni.sock";
/// The version of the conversation.
pub const VERSION: u32 = 1;
/// The longest document, in octets.
pub const DOCUMENT_MAX: usize = 1 << 20;
/// The longest explanation in a [`Refusal`], in octets, that is repeated to the runtime.
pub const MESSAGE_MAX: usize = 4 << 10;

/// What the plugin wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Ask {
    /// A pod is attached to a network: let its guard stand before you answer. Comes with the network namespace.
    ///
    /// A pod with several networks is asked for once for each whose chain has the plugin; the guard is for the
    /// namespace as a whole, so the first one sets it and a later one tells of a further device. Networks whose chains
    /// do not have the plugin are not told: what is in the namespace counts, not what was asked.
    Add(Attachment),
    /// Do the walls of this pod stand as they should? Comes with the network namespace.
    Check(Attachment),
    /// An attachment ends, or has long ended. May come several times, and with little known.
    Del(Detachment),
    /// These are all attachments to the network that the runtime knows of. Others may be forgotten if nothing else
    /// speaks for them: a list is a hint, never a reason to take the walls of something that lives.
    Gc(Valid),
    /// Could ADD be answered now?
    Status,
}

/// A pod on a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// The network, as its configuration is named.
    pub network: NetworkName,
    /// `CNI_CONTAINERID`.
    pub container: SandboxId,
    /// `CNI_IFNAME`: the device of the network in the pod.
    pub interface: InterfaceName,
    /// The pod, as the runtime says.
    pub pod: Pod,
    /// The specification's version in which the runtime asks.
    pub spec_version: SpecVersion,
    /// What the plugins before this one made, as they wrote it: [`Attached`](crate::result::Attached) reads it.
    pub previous: Box<RawValue>,
}

/// The end of an attachment, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Detachment {
    /// `CNI_CONTAINERID`.
    pub container: SandboxId,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// The device in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceName>,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

/// All attachments to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Valid {
    /// The network.
    pub network: NetworkName,
    /// What is attached to it.
    pub attachments: Vec<ValidAttachment>,
}

/// One of the attachments to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` at its ADD.
    pub container: SandboxId,
    /// `CNI_IFNAME` at its ADD.
    pub interface: InterfaceName,
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// To ADD and CHECK: the guard, or the pod's exact rules, are in force in the namespace.
    Guarded,
    /// To ADD and CHECK: the pod needs no walls.
    Free(Free),
    /// To DEL and GC: heard.
    Noted,
    /// To STATUS: pods can start.
    Ready,
    /// To anything: no.
    Refused(Refusal),
}

/// Why a pod needs no walls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Free {
    /// No policy selects it, and one that came later would be enforced by the agent, which lives.
    NothingSelects,
    /// Its namespace is exempt.
    Exempt,
}

/// Why the agent does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refusal {
    /// The reason, for the plugin.
    pub reason: Reason,
    /// The reason, for people: what is wrong and what to do.
    pub message: String,
}

/// Why the agent does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// It does not know enough yet. The plugin does as if nobody had answered: the agent's state file decides.
    NotReady,
    /// It tried and could not, or (CHECK) the walls do not stand.
    Failed,
    /// The question is of another version.
    Version,
    /// The question can't be understood.
    NotUnderstood,
}

/// A document can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is of another version.
    #[error("it speaks version {0}, and here version {VERSION} is spoken")]
    Version(u64),
    /// It is not what it should be.
    #[error("what it says can't be understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<A> {
    version: u32,
    ask: A,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply<A> {
    version: u32,
    answer: A,
}

fn check_version(document: &[u8]) -> Result<(), DocumentError> {
    match serde_json::from_slice::<AnyVersion>(document)?.version {
        version if version == u64::from(VERSION) => Ok(()),
        version => Err(DocumentError::Version(version)),
    }
}

impl Ask {
    /// The document.
    pub fn write(&self) -> Vec<u8> {
        // Names, numbers and raw JSON: nothing of this can fail to be written.
        serde_json::to_vec(&Question { version: VERSION, ask: self }).unwrap_or_default()
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(document: &[u8]) -> Result<Self, DocumentError> {
        check_version(document)?;
        Ok(serde_json::from_slice::<Question<Self>>(document)?.ask)
    }

    /// Whether a network namespace comes with the question.
    pub fn has_namespace(&self) -> bool {
        matches!(self, Self::Add(_) | Self::Check(_))
    }

    /// The namespace of the pod that it is about, if it is about one.
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Add(attachment) | Self::Check(attachment) => Some(&attachment.pod.namespace),
            Self::Del(detachment) => detachment.pod.as_ref().map(|pod| &pod.namespace),
            Self::Gc(_) | Self::Status => None,
        }
    }
}

impl Answer {
    /// The document. An explanation that is too long is cut.
    pub fn write(&self) -> Vec<u8> {
        let cut = match self {
            Self::Refused(refusal) if refusal.message.len() > MESSAGE_MAX => {
                Self::Refused(Refusal { message: cut(&refusal.message).to_owned(), ..refusal.clone() })
            }
            other => other.clone(),
        };
        serde_json::to_vec(&Reply { version: VERSION, answer: cut }).unwrap_or_default()
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(document: &[u8]) -> Result<Self, DocumentError> {
        check_version(document)?;
        Ok(serde_json::from_slice::<Reply<Self>>(document)?.answer)
    }

    /// A refusal.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { reason, message: message.into() })
    }
}

/// The first [`MESSAGE_MAX`] octets of a text, or a little less.
fn cut(text: &str) -> &str {
    let end = (0..=MESSAGE_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
