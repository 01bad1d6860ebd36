//! tmp
use super::Answer; use crate::{args::Demo, error::Error, screen::Screen};
pub fn run(_: &Demo, _: &Screen) -> Result<Answer, Error> { Err(Error::Interrupted) }
