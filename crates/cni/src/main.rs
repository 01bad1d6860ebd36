//! `sidewall-cni`, which a container runtime runs as the last plugin of its network's chain.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sidewall_cni::plugin::main()
}
