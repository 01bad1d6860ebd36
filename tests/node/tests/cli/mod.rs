//! The command, as somebody runs it.

use std::process::{Command, Stdio};

use serde_json::Value;
use sidewall_node_tests::{Api, parts};

/// What a command did.
pub struct Done {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Done {
    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

/// Runs a command to its end.
pub fn done(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `sidewall` as somebody who has that kubeconfig.
pub fn sidewall(api: &Api, arguments: &[&str]) -> Done {
    let mut command = Command::new(parts::built("sidewall").expect("cargo build -p sidewall-cli makes it"));
    done(command.env_clear().env("KUBECONFIG", api.kubeconfig()).current_dir("/").args(arguments))
}
