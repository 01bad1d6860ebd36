//! The generated messages.

/// Messages of `proto/runtime.proto`.
#[allow(clippy::all, missing_docs, dead_code, unused_qualifications, reason = "generated")]
pub(crate) mod runtime {
    include!(concat!(env!("OUT_DIR"), "/runtime/runtime.v1.rs"));
}

/// Messages of `proto/control.proto`.
#[cfg(feature = "control")]
#[allow(clippy::all, missing_docs, dead_code, unused_qualifications, reason = "generated")]
pub(crate) mod control {
    include!(concat!(env!("OUT_DIR"), "/control/runtime.v1.rs"));
}
