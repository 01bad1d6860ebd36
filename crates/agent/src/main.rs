//! `sidewall-agent`: see `sidewall-agent --help`.
#![forbid(unsafe_code)]

use clap::Parser;
use sidewall_agent::agent::{Start, run};
use sidewall_agent::args::{Cli, Command, Common, Run};
use sidewall_agent::config::Config;
use sidewall_agent::{node, uninstall};
use sidewall_daemon::config::{self, ConfigError};
use sidewall_daemon::log;
use std::process::ExitCode;

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
    common.config.as_deref().map_or_else(|| Ok(Config::default()), config::read)
}

fn serve(options: Run) -> anyhow::Result<()> {
    let Run { common, node_name, kubeconfig, log_format, log: filter } = options;
    log::start(log_format, &filter)?;
    let config = configuration(&common)?;
    // Before there is a second thread: namespaces are a thread's own.
    node::join_host_cgroups()?;
    node::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(run(Start { config, node_name, kubeconfig }))
}
