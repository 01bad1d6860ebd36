//! `sidewall-operator`: see `sidewall-operator --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use sidewall_operator::args::{Cli, Command, LogFormat, Run};
use sidewall_operator::config::{Config, ConfigError};
use sidewall_operator::operator::{Start, run};
use tracing_subscriber::EnvFilter;

/// Threads that never wait.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => serve(options),
        Command::Check(options) => Config::read(&options.config).map_err(anyhow::Error::from).and_then(|config| {
            println!("{}", serde_json::to_string_pretty(&config)?);
            Ok(())
        }),
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

fn serve(options: Run) -> anyhow::Result<()> {
    let Run { config, namespace, pod, kubeconfig, log_format, log } = options;
    let config = Config::read(&config)?;
    let log = log.unwrap_or_else(|| config.log.clone());
    let filter = EnvFilter::try_new(&log).map_err(|error| anyhow::anyhow!("log {log:?}: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => {
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            logs.with_ansi(colours && std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(run(Start { config, namespace, pod, kubeconfig }))
}
