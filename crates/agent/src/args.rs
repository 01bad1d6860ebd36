//! What can be written on the command line.

use clap::{Args, Parser, Subcommand};
use sidewall_daemon::log::LogFormat;
use std::path::PathBuf;

/// Gives every pod of a node the walls that policies ask for, before the first instruction of its containers.
#[derive(Debug, Parser)]
#[command(name = "sidewall-agent", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this node until SIGTERM; rules stay when it ends
    Run(Run),
    /// Take away from this node everything that the agent ever made there: the plugin's entries, its program, the rules of all
    /// pods, files. Stop the agent first: with a DaemonSet, delete that
    Uninstall(Uninstall),
    /// Check the configuration and show it with every default, as JSON
    Check(Check),
}

/// `run`.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    /// The node's name in the cluster
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: String,
    /// A kubeconfig; without it, the service account of the agent's pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The form of the log, which goes to standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by module (as in `info,sidewall_cluster=debug`)
    #[arg(long, env = "SIDEWALL_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// `uninstall`.
#[derive(Args, Debug)]
pub struct Uninstall {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    /// Leave the rules of the pods that run
    #[arg(long)]
    pub keep_rules: bool,
    /// Say what would be taken away, and take nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `check`.
#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// What every command has.
#[derive(Args, Debug)]
pub struct Common {
    /// The configuration; everything has a default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
