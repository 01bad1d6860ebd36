//! `sidewall-agent`: see `sidewall-agent --help`.
#![forbid(unsafe_code)]

use clap::Parser;
use sidewall_agent::agent::{Start, run};
use sidewall_agent::args::{Cli, Command, Common, LogFormat, Run};
use sidewall_agent::config::{Config, ConfigError};
use sidewall_agent::{node, uninstall};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Threads that never wait: what waits has others.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => serve(options),
        Command::Uninstall(options) => configuration(&options.common)
            .map_err(anyhow::Error::from)
            .and_then(|config| uninstall::uninstall(&config, options.keep_rules, options.dry_run)),
        Command::Check(options) => check(&options.common),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidewall-agent: {error:#}");
            let usage = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Shows a configuration with every default, as JSON, which is YAML too.
fn check(common: &Common) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&configuration(common)?)?);
    Ok(())
}

fn configuration(common: &Common) -> Result<Config, ConfigError> {
    common.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)
}

fn serve(options: Run) -> anyhow::Result<()> {
    let Run { common, node_name, kubeconfig, log_format, log } = options;
    let filter = EnvFilter::try_new(&log).map_err(|error| anyhow::anyhow!("--log {log:?}: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => {
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            logs.with_ansi(colours && std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
        }
    }
    let config = configuration(&common)?;
    // Before there is a second thread: namespaces are a thread's own.
    node::join_host_cgroups()?;
    node::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(run(Start { config, node_name, kubeconfig }))
}
