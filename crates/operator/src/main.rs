//! `sidewall-operator`: see `sidewall-operator --help`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use sidewall_daemon::config::{self, ConfigError};
use sidewall_daemon::log;
use sidewall_operator::program::args::{Cli, Command, Run};
use sidewall_operator::program::config::Config;
use sidewall_operator::program::operator::{Start, run};

/// Threads that never wait.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => serve(options),
        Command::Check(options) => check(&options.config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidewall-operator: {error:#}");
            let usage = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Shows a configuration with every default, as JSON, which is YAML too.
fn check(path: &Path) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&config::read::<Config>(path)?)?);
    Ok(())
}

fn serve(options: Run) -> anyhow::Result<()> {
    let Run { config, namespace, pod, kubeconfig, log_format, log: filter } = options;
    let config: Config = config::read(&config)?;
    log::start(log_format, filter.as_deref().unwrap_or(&config.log))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(run(Start { config, namespace, pod, kubeconfig }))
}
