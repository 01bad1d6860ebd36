//! What runs inside a cell: the program `sidewall-bed`, in three parts that its arguments or its name choose.
//!
//! `enter` makes the namespaces and waits; `init` is the first process in them: it mounts, starts services and buries the
//! dead; under the name `runc` it takes away settings that this host's cgroup tree cannot bear and becomes the real runc.

pub mod enter;
pub mod init;
pub mod mounts;
pub mod protocol;
pub mod runc;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the part that was asked for.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    if Path::new(&name).file_name().is_some_and(|name| name == "runc") {
        return runc::main(rest);
    }
    let result = match rest.as_slice() {
        [part, plan] if part == "enter" => enter::main(&plan.to_string_lossy()),
        [part, plan] if part == "init" => init::main(&plan.to_string_lossy()),
        _ => Err("this is a part of the test bed: it is started by it, with `enter` or `init` and a plan".into()),
    };
    match result {
        Ok(code) => code,
        Err(said) => {
            protocol::say(&protocol::Answer::Error(said.to_string()));
            eprintln!("sidewall-bed: {said}");
            ExitCode::FAILURE
        }
    }
}

/// A cause in words: it is printed for whoever reads the test's output.
pub type Said<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An error with the words that say what was tried.
pub fn because<E: std::fmt::Display>(
    what: impl std::fmt::Display,
) -> impl FnOnce(E) -> Box<dyn std::error::Error + Send + Sync> {
    move |source| format!("{what}: {source}").into()
}
