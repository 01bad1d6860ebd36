//! The generated messages.
#![allow(clippy::all, missing_docs, dead_code, unused_qualifications, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/sidewall.flows.v1.rs"));
