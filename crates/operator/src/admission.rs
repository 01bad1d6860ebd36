//! What the API server asks on an object's way into the cluster: what becomes of a pod, and whether something of our kinds may be
//! written.
//!
//! ```text
//! API server ── bytes ──► webhook ──► door ──► review ──► inject ──► patch, warnings, what the pod needs │ refusal │ untouched
//!                                      │                    ├── identity   numbers for containers that have none, capabilities
//!                                      │                    ├── probes     what the kubelet asks, led through the proxy
//!                                      │                    └── sidecar    the container and its volumes
//!                                      │                 └► split      pods that become several
//!                                      └────► validate ──► what must be asked first ──► allowed, warnings │ refused
//! ```
//!
//! A pod is patched as JSON and never read into a type and written back: what this version does not know stays as it is.
//! Everything that a pod's annotations say is made anew from the pod and the SidecarProxy at each call; the only thing that
//! is read back is what a probe asked before it was rewritten, which its author could as well have written into the probe.
//! So a forged annotation gains nothing (invariant 11), and a second call changes nothing. Who may write our annotations and
//! labels at all, the API server itself decides, by the ValidatingAdmissionPolicies that are installed with the operator.

pub mod door;
mod edits;
pub mod identity;
pub mod inject;
pub mod probes;
pub mod refusal;
pub mod review;
mod sidecar;
pub mod split;
pub mod validate;
pub mod webhook;
