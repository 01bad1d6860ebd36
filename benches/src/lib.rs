//! What the benchmarks share: how two things are compared, and how the outcome is told.
//!
//! The machines that these run on are noisy: the same program differs by a tenth and more between two runs. So nothing
//! is compared across time. Two things are measured in turn, in many short pairs; each pair gives a ratio; what is told
//! is the median of the ratios, with an interval that says how far it can be trusted.
#![forbid(unsafe_code)]

pub mod plot;
pub mod report;
pub mod stats;

use clap::Parser;
use std::path::PathBuf;

/// What every benchmark understands on its command line.
#[derive(Clone, Debug, Parser)]
#[command(disable_version_flag = true)]
pub struct Options {
    /// Where the rows go as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where plots go, as SVG
    #[arg(long, value_name = "FOLDER")]
    pub plots: Option<PathBuf>,
    /// How many pairs each row is measured with; fewer than 20 are good for a first look only [default: 24]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: Option<u32>,
    /// Few and short measurements of little: shows that everything runs, and nothing more
    #[arg(long)]
    pub quick: bool,
    /// Only the rows whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Cargo passes it to every benchmark
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// How many pairs each row is measured with.
    pub fn pairs(&self) -> u32 {
        self.pairs.unwrap_or(if self.quick { 2 } else { 24 })
    }

    /// How many seconds one measurement should take.
    pub const fn seconds(&self) -> f64 {
        if self.quick { 0.005 } else { 0.03 }
    }

    /// Whether a row is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|text| name.contains(text))
    }
}
