//! What is wrong, shown where it stands: file, line, column, the line itself and a caret.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use unicode_width::UnicodeWidthChar;

use crate::problem::{FieldPath, Severity};

/// How many columns of a source line are shown. JSON can be one line of a megabyte.
const SHOWN: usize = 120;

/// How wide a tab is shown.
const TAB: usize = 4;

/// A file's name and text, with the places of its lines.
#[derive(Clone, Debug)]
pub struct SourceText {
    name: String,
    text: String,
    /// Where each line begins, in octets.
    lines: Vec<usize>,
}

impl SourceText {
    /// Takes a file's text. A byte order mark is passed over.
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { name: name.into(), text, lines }
    }

    /// The file's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a place in octets, both from 1. Columns count characters.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset) - 1;
        let before = self.text.get(self.lines[line]..offset).unwrap_or_default();
        Position { line: line + 1, column: before.chars().count() + 1 }
    }

    fn line(&self, line: usize) -> &str {
        let start = self.lines.get(line - 1).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    /// A finding about the text between two places, in octets.
    pub fn diagnostic(
        self: &Arc<Self>,
        span: Range<usize>,
        severity: Severity,
        field: Option<FieldPath>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let start = self.position(span.start);
        let end = self.position(span.end.max(span.start));
        Diagnostic {
            file: self.name.clone(),
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
            severity,
            field,
            message: message.into(),
            source: Some(Arc::clone(self)),
        }
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A finding about a place in a file.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line of the first character after the place.
    pub end_line: usize,
    /// The column of the first character after the place.
    pub end_column: usize,
    /// How grave it is.
    pub severity: Severity,
    /// The field, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldPath>,
    /// What is wrong, and what to do.
    pub message: String,
    #[serde(skip)]
    source: Option<Arc<SourceText>>,
}

/// Whether text may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences for a terminal.
    Always,
    /// Plain text.
    Never,
}

impl Diagnostic {
    /// A finding about a file as a whole, of which there is no text to show.
    pub fn of_file(file: impl Into<String>, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 1,
            column: 1,
            end_line: 1,
            end_column: 1,
            severity,
            field: None,
            message: message.into(),
            source: None,
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding with its source line and a caret, ending in a line break.
    ///
    /// Nothing of the file can control the terminal: control characters are shown as `\u{…}`.
    pub fn render(&self, colour: Colour) -> String {
        let paint = |code: &str, text: &str| match colour {
            Colour::Always => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Colour::Never => text.to_owned(),
        };
        let code = if self.is_error() { "1;31" } else { "1;33" };
        let mut out = format!("{}: {}\n", paint(code, &self.severity.to_string()), paint("1", &visible(&self.message)));
        let gutter = self.line.to_string().len();
        let place = format!("{}:{}:{}", visible(&self.file), self.line, self.column);
        out.push_str(&format!("{:gutter$}{} {place}\n", "", paint("34", "-->")));
        if let Some(source) = &self.source {
            let (shown, before, width) = self.excerpt(source.line(self.line));
            let bar = paint("34", "|");
            let number = paint("34", &self.line.to_string());
            let carets = paint(code, &"^".repeat(width));
            out.push_str(&format!("{:gutter$} {bar}\n{number} {bar} {shown}\n{:gutter$} {bar} ", "", ""));
            out.push_str(&format!("{:before$}{carets}\n", ""));
        }
        if let Some(field) = self.field.as_ref().filter(|field| !field.is_root()) {
            out.push_str(&format!("{:gutter$} {} {field}\n", "", paint("34", "=")));
        }
        out
    }

    /// The part of the source line to show, the width of what stands before the place, and the width of the place.
    fn excerpt(&self, line: &str) -> (String, usize, usize) {
        let start = self.column - 1;
        let length = line.chars().count();
        let end = if self.end_line == self.line { self.end_column - 1 } else { length };
        let first = if length > SHOWN { start.saturating_sub(SHOWN / 2) } else { 0 };
        let mut shown = String::new();
        let (mut before, mut width) = (0, 0);
        if first > 0 {
            shown.push('…');
            before = 1;
        }
        for (i, c) in line.chars().enumerate().skip(first).take(SHOWN) {
            let text = shown_char(c);
            let columns = text.chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
            if i < start {
                before += columns;
            } else if i < end {
                width += columns;
            }
            shown.push_str(&text);
        }
        if length > first + SHOWN {
            shown.push('…');
        }
        (shown, before, width.max(1))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, message) = (visible(&self.file), visible(&self.message));
        write!(f, "{file}:{}:{}: {}: {message}", self.line, self.column, self.severity)
    }
}

fn shown_char(c: char) -> String {
    match c {
        '\t' => " ".repeat(TAB),
        c if is_unsafe(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    }
}

/// Text whose control characters are written out.
fn visible(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// Control characters, and those that turn the direction of the text around them.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
