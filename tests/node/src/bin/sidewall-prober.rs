//! Tries what it may not, and answers who tries it; see `sidewall_node_tests::probe`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sidewall_node_tests::probe::main()
}
