//! What proxies need beside their pods: a configuration, Secrets, certificates, and to be told when any of it changes.
//!
//! ```text
//! SidecarProxy + what the pod's annotations say ── render ──► the proxy's configuration, as text ── configs ──► ConfigMap
//! SidecarProxy ── secrets ──► how it uses which Secrets, and what is wrong in one
//! SidecarProxy ── issue ──► the certificates that it asks for, and what is to become of their Secrets
//! ```

pub mod configs;
pub mod issue;
pub mod refreshed;
pub mod render;
pub mod secrets;
