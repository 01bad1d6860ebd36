//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::htpasswd::Algorithm;

/// Authenticates every request before the application sees it.
#[derive(Debug, Parser)]
#[command(name = "sidewall-proxy", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something other than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to run.
    #[command(flatten)]
    pub run: Option<Run>,
}

/// To run the proxy.
#[derive(Args, Debug)]
pub struct Run {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only check the configuration, the users and the certificates.
    #[arg(long)]
    pub check: bool,
    /// Worker threads. Default: one for each CPU that the process may use.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reads a password from standard input and prints an htpasswd line.
    Hash {
        /// The user's name.
        user: String,
        /// How to hash.
        #[arg(long, value_enum, default_value_t = HashAlgorithm::Bcrypt)]
        algorithm: HashAlgorithm,
    },
}

/// The hashes that can be made.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum HashAlgorithm {
    /// bcrypt, cost 10.
    Bcrypt,
    /// Apache's MD5 variant; weak, for old tools.
    Apr1,
    /// SHA-512 crypt, 100,000 rounds.
    Sha512,
}

impl From<HashAlgorithm> for Algorithm {
    fn from(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Bcrypt => Self::Bcrypt,
            HashAlgorithm::Apr1 => Self::Apr1,
            HashAlgorithm::Sha512 => Self::Sha512,
        }
    }
}
