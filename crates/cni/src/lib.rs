//! The chained CNI plugin `sidewall-cni`, and what others need of it.
//!
//! A container runtime runs the program as the last of a network's plugins, before any container of a pod starts. At
//! ADD it asks the node's agent to let the pod's guard stand, and fails when it does not: the pod waits. It makes no
//! rules itself, knows no policy and no Kubernetes API, and keeps no state.
//!
//! - [`plugin`] is the program: ADD, DEL, CHECK, STATUS, GC and VERSION of the specification's versions 0.3.0 to 1.1.0.
//! - [`wire`], [`frame`]: what plugin and agent say to each other; [`serve`] is the agent's side, [`ask`] the plugin's.
//! - [`state`]: what the agent leaves on the node for the time when it is not there.
//! - [`conflist`], [`choose`], [`plan`]: how the plugin gets into the runtime's network lists, and out of them; pure.
//!   [`install`] reads and writes the directory; [`contest`] is for when somebody else does so too.
//!
//! # Without the agent
//!
//! No socket, nobody at it, nobody in time, another version, or an agent that is not ready yet: then a pod starts only
//! when its namespace is exempt (`exemptNamespaces` of the entry) or the agent's file says that nothing selects pods
//! there. DEL and GC never fail. STATUS fails when the file names a selected namespace, or can't be believed.
//!
//! # Without Kubernetes
//!
//! Where `CNI_ARGS` names no pod, nothing selects what is attached: the result is passed on and nobody is asked.
//!
//! # Taking it away
//!
//! First the entries ([`plan::uninstall`]), then the agent, and the program last if at all: CRI-O and Multus keep the
//! list with which they attached a pod and run every plugin of it at the pod's end, so that a program that is gone
//! keeps pods from ending. Without an agent it does no harm.
#![forbid(unsafe_code)]

pub mod args;
pub mod ask;
pub mod choose;
pub mod config;
pub mod conflist;
pub mod contest;
pub mod entry;
pub mod failure;
pub mod frame;
pub mod install;
pub mod multus;
pub mod names;
pub mod plan;
pub mod plugin;
pub mod result;
pub mod serve;
pub mod state;
mod temporary;
mod text;
pub mod version;
pub mod wire;
