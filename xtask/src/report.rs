//! Progress, on standard error: standard output belongs to the programs that are run.

use std::io::{IsTerminal, Write};

const BOLD_GREEN: &str = "\x1b[1;32m";
const BOLD_YELLOW: &str = "\x1b[1;33m";
const BOLD_RED: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

/// Says what begins now.
pub fn step(text: &str) {
    line(BOLD_GREEN, "==>", text);
}

/// Says what must not be overlooked, in one line.
pub fn warning(text: &str) {
    line(BOLD_YELLOW, "==> WARNING:", text);
}

/// Says why the chore failed.
pub fn error(text: &str) {
    line(BOLD_RED, "error:", text);
}

fn line(colour: &str, mark: &str, text: &str) {
    let mut out = std::io::stderr().lock();
    // Nobody is left to be told when standard error is gone; the exit code still says it.
    let _ = if coloured() { writeln!(out, "{colour}{mark}{RESET} {text}") } else { writeln!(out, "{mark} {text}") };
}

/// Colours go to terminals that know them, and to nobody who set `NO_COLOR` (<https://no-color.org>).
fn coloured() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !set("NO_COLOR") && !dumb && std::io::stderr().is_terminal()
}
