//! What is written where: results to standard output, everything about them to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use sidewall_api::{Colour, Diagnostic};

use crate::args::Output;
use crate::error::Error;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    output: Output,
    out: Paint,
    err: Paint,
    /// Results go to standard error, because standard output is somebody else's.
    aside: bool,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    fn code(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// For what is allowed, and as it should be.
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// For what is denied, and not as it should be.
    pub fn bad(self, text: &str) -> String {
        self.code("31", text)
    }

    /// For what should be looked at.
    pub fn warn(self, text: &str) -> String {
        self.code("33", text)
    }

    /// For headings.
    pub fn strong(self, text: &str) -> String {
        self.code("1", text)
    }

    /// For what matters less.
    pub fn faint(self, text: &str) -> String {
        self.code("2", text)
    }

    /// One of several colours, the same for the same number.
    pub fn nth(self, number: usize, text: &str) -> String {
        const CODES: [&str; 6] = ["36", "35", "34", "32", "33", "96"];
        self.code(CODES[number % CODES.len()], text)
    }
}

/// Text that can't control the terminal.
pub fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\t' { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

impl Screen {
    /// A screen for a form; colours where a terminal is, unless NO_COLOR is set (<https://no-color.org>).
    pub fn new(output: Output) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            output,
            out: Paint(wanted && io::stdout().is_terminal()),
            err: Paint(wanted && io::stderr().is_terminal()),
            aside: false,
        }
    }

    /// The same, with results on standard error.
    pub fn aside(self) -> Self {
        Self { out: self.err, aside: true, ..self }
    }

    fn results(&self) -> Box<dyn Write> {
        if self.aside { Box::new(io::stderr().lock()) } else { Box::new(io::stdout().lock()) }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Colours for standard output.
    pub fn paint(&self) -> Paint {
        self.out
    }

    /// Writes a line of text to standard output.
    pub fn line(&self, text: &str) {
        // Nobody reads on: the command's answer is its exit code.
        let _ = writeln!(self.results(), "{text}");
    }

    /// Writes the one result of a command.
    pub fn value(&self, value: &impl Serialize) {
        let mut out = self.results();
        let _ = serde_json::to_writer_pretty(&mut out, value);
        let _ = writeln!(out);
    }

    /// Writes one of many results.
    pub fn event(&self, value: &impl Serialize) {
        let mut out = self.results();
        let _ = serde_json::to_writer(&mut out, value);
        let _ = writeln!(out);
        let _ = out.flush();
    }

    /// Shows findings on standard error.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        let colour = if self.err.0 { Colour::Always } else { Colour::Never };
        for diagnostic in diagnostics {
            let _ = writeln!(io::stderr().lock(), "{}", diagnostic.render(colour));
        }
    }

    /// Shows a warning on standard error.
    pub fn warning(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}: {text}", self.err.warn("warning"));
    }

    /// Shows what ends the command on standard error.
    pub fn error(&self, error: &Error) {
        match error {
            Error::Input(diagnostics) if self.is_json() => {
                let value = serde_json::json!({"error": error.to_string(), "diagnostics": diagnostics});
                let _ = writeln!(io::stderr().lock(), "{value}");
            }
            _ if self.is_json() => {
                let value = serde_json::json!({"error": error.to_string()});
                let _ = writeln!(io::stderr().lock(), "{value}");
            }
            Error::Input(diagnostics) => {
                self.diagnostics(diagnostics);
                let _ = writeln!(io::stderr().lock(), "{}: {error}", self.err.bad("error"));
            }
            _ => {
                let _ = writeln!(io::stderr().lock(), "{}: {error}", self.err.bad("error"));
            }
        }
    }
}
