//! `sidewall-proxy`: see `--help`.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sidewall_proxy::cli::{Cli, Command, Run};
use sidewall_proxy::htpasswd::{self, MAX_PASSWORD_BYTES};
use sidewall_proxy::prepare::Prepared;
use sidewall_proxy::secret::Password;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match program(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sidewall-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn program(cli: Cli) -> anyhow::Result<ExitCode> {
    // Passwords and keys must not end in a core file, nor be read by another process of the same user.
    prctl::set_dumpable(false).context("core dumps cannot be switched off")?;
    match (cli.command, cli.run) {
        (Some(Command::Hash { user, algorithm }), _) => {
            println!("{}", htpasswd::make_line(&user, &password_from_stdin()?, algorithm.into())?);
            Ok(ExitCode::SUCCESS)
        }
        (None, Some(options)) => run(&options),
        (None, None) => {
            Cli::command().print_help()?;
            Ok(ExitCode::from(2))
        }
    }
}

fn password_from_stdin() -> anyhow::Result<Password> {
    let mut line = Vec::with_capacity(MAX_PASSWORD_BYTES + 2);
    io::stdin().take(MAX_PASSWORD_BYTES as u64 + 2).read_to_end(&mut line).context("standard input cannot be read")?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Password::new(line))
}

fn run(options: &Run) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Standard output is the access log's.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();

    let prepared = Prepared::load(&options.config)?;
    if options.check {
        println!("{}: ok", options.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    raise_descriptor_limit();
    let workers = options.workers.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything listens, so that a signal is never missed.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut running = prepared.start(workers, Box::new(io::stdout()))?;
        let unready_for = loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!("SIGTERM: draining");
                    break running.unready_for();
                }
                // Somebody sits there and waits; nobody balances load over this one.
                _ = interrupt.recv() => {
                    tracing::info!("SIGINT: draining");
                    break Duration::ZERO;
                }
                Some(()) = hangup.recv() => {
                    tracing::info!("SIGHUP: looking at all files now");
                    running.reload();
                }
                () = running.ended() => bail!("all workers have ended by themselves; the lines above say why"),
            }
        };
        running.unready();
        let end = async {
            tokio::time::sleep(unready_for).await;
            running.stop();
            running.ended().await;
        };
        tokio::select! {
            () = end => {}
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
        }
        running.finish();
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// Each connection needs two descriptors, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
