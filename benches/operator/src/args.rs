//! The benchmark's own options.

use clap::{Parser, Subcommand};
use sidewall_benches::Options;

use crate::floor;

/// The benchmark's own options.
#[derive(Clone, Debug, Parser)]
#[command(about = "What the operator costs")]
pub struct Arguments {
    #[command(flatten)]
    pub options: Options,
    /// How many namespaces there are: each has 10 SidecarProxies, 50 ContainerNetworkPolicies and 100 pods [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub namespaces: Option<u16>,
    /// How many reviews are asked for a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
    /// How many seconds one load lasts [default: 10]
    #[arg(long)]
    pub seconds: Option<u64>,
    /// How many loads there are of each sort, in turn with those of the empty webhook [default: 6]
    #[arg(long)]
    pub rounds: Option<usize>,
    /// How often the operator is restarted by each signal [default: 3]
    #[arg(long)]
    pub restarts: Option<usize>,
    /// How many seconds nothing happens [default: 30]
    #[arg(long)]
    pub idle: Option<u64>,
    #[command(subcommand)]
    pub program: Option<Program>,
}

/// What else this program is.
#[derive(Clone, Debug, Subcommand)]
pub enum Program {
    /// The empty webhook that the operator is compared with; the benchmark starts it itself
    #[command(hide = true)]
    Floor(floor::Arguments),
}
