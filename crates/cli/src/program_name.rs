//! By what name this program was called: as `sidewall`, or by `kubectl`.
//!
//! kubectl runs a program `kubectl-NAME` of PATH as `kubectl NAME`. The same program serves as both; what it says of how it
//! is used must then be what works.

use std::ffi::OsStr;
use std::path::Path;

use clap::Command;

/// The name that kubectl looks for.
const PLUGIN: &str = "kubectl-sidewall";
/// How it is called then.
const AS_PLUGIN: &str = "kubectl sidewall";
/// How examples begin.
const EXAMPLE: &str = "\n  sidewall ";

/// Whether a program's first argument is that of a plugin.
pub fn is_plugin(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == PLUGIN)
}

/// The command line as a plugin of kubectl: usage, errors and examples name it so.
pub fn plugin(command: Command) -> Command {
    // Before subcommands take their names from it.
    let command = command.name(AS_PLUGIN).bin_name(AS_PLUGIN).display_name(AS_PLUGIN);
    examples(command)
}

fn examples(command: Command) -> Command {
    let help = command.get_after_help().map(|help| help.to_string().replace(EXAMPLE, &format!("\n  {AS_PLUGIN} ")));
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    command.mut_subcommands(examples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::CommandFactory;

    #[test]
    fn a_plugin_is_known_by_its_file() {
        for yes in ["kubectl-sidewall", "/usr/local/bin/kubectl-sidewall"] {
            assert!(is_plugin(OsStr::new(yes)), "{yes}");
        }
        for no in ["sidewall", "/kubectl-sidewall/sidewall", "", "kubectl"] {
            assert!(!is_plugin(OsStr::new(no)), "{no}");
        }
    }

    #[test]
    fn a_plugin_says_how_it_is_called() {
        let said = |args: &[&str]| plugin(Cli::command()).try_get_matches_from(args).unwrap_err().to_string();
        let usage = said(&["kubectl-sidewall", "explain", "pod/web"]);
        assert!(usage.contains("Usage: kubectl sidewall explain "), "{usage}");
        let help = said(&["kubectl-sidewall", "status", "--help"]);
        assert!(help.contains("\n  kubectl sidewall status -n shop\n") && !help.contains("\n  sidewall "), "{help}");
        let version = said(&["kubectl-sidewall", "--version"]);
        assert!(version.starts_with("kubectl sidewall "), "{version}");
        plugin(Cli::command()).debug_assert();
    }
}
