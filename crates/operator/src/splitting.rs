//! Split pods, the leading operator's half: the parts of each, their policies, the readiness of the whole, and the link's network.
//!
//! What the webhook has written on a pod is the only source of its parts, and is believed by its MAC alone ([`sidewall_split`]).
//! `plan` decides for one pod; `keeping` looks and does; `status` says how it stands.

mod json;
pub mod keeping;
pub mod plan;
pub mod status;

pub use keeping::Splitting;
