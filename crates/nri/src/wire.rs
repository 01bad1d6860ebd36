//! The generated messages.

/// Messages of `proto/nri.proto`.
#[allow(clippy::all, missing_docs, dead_code, unused_qualifications, reason = "generated")]
pub(crate) mod nri {
    include!(concat!(env!("OUT_DIR"), "/nri.pkg.api.v1alpha1.rs"));
}

/// Messages of `proto/ttrpc.proto`.
#[allow(clippy::all, missing_docs, dead_code, unused_qualifications, reason = "generated")]
pub(crate) mod ttrpc {
    include!(concat!(env!("OUT_DIR"), "/ttrpc.rs"));
}
