//! Programs that pods of the examples and of probes run: small enough to be read, and sure to be there.

mod hello;
mod ship;

use super::Answer;
use crate::args::Internal;
use crate::error::Error;

/// Runs one of them until it is ended.
///
/// # Errors
/// It can't listen, or its client went away.
pub fn run(program: &Internal) -> Result<Answer, Error> {
    match program {
        Internal::Prober { name } => sidewall_sandbox::prober::serve_stdio(name)
            .map_err(|source| Error::System { action: "answer the prober's client", source })?,
        Internal::Hello { listen, metrics } => hello::run(*listen, *metrics)?,
        Internal::Ship { metrics, collector, seconds } => ship::run(*metrics, *collector, *seconds),
    }
    Ok(Answer::Yes)
}
