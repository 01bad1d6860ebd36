//! What the test bed runs inside the namespaces that it makes; see `sidewall_node_tests::inside`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sidewall_node_tests::inside::main()
}
