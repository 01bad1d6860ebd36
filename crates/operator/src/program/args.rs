//! What can be written on the command line.

use clap::{Args, Parser, Subcommand};
use sidewall_daemon::log::LogFormat;
use std::path::PathBuf;

/// Puts the front proxy into the pods that a SidecarProxy selects, checks what is written about walls and proxies, and keeps
/// what running proxies need.
#[derive(Debug, Parser)]
#[command(name = "sidewall-operator", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the cluster until SIGTERM
    Run(Run),
    /// Check the configuration and show it with every default, as JSON
    Check(Check),
}

/// `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The namespace that the operator runs in and keeps its Secrets and its Lease in
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "sidewall-system")]
    pub namespace: String,
    /// The operator's own pod, which no other operator has: who holds the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod: String,
    /// A kubeconfig; without it, the service account of the operator's pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The form of the log, which goes to standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub log_format: LogFormat,
    /// What is logged, in place of what the configuration says: a level, or levels by module (as in `info,kube=debug`)
    #[arg(long, env = "SIDEWALL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
