//! The matrix as a table.

use super::{Column, Field, word};
use crate::ends::Named;
use crate::screen::Screen;
use crate::table::{Cell, layout};
use sidewall_flow::Action;

/// Shows the fields, and below them what is worth a sentence.
pub fn show(screen: &Screen, fields: &[Field], columns: &[Column], senders: &[Named]) {
    let paint = screen.paint();
    let heads: Vec<String> = columns.iter().map(head).collect();
    let mut rows = vec![vec![Cell::painted("from \\ to", |t| paint.strong(t))]];
    rows[0].extend(heads.iter().map(|head| Cell::painted(head, |t| paint.strong(t))));
    for from in senders {
        let mut row = vec![Cell::from(from.label.clone())];
        for column in columns {
            let field = fields.iter().find(|field| {
                field.from == from.label
                    && field.to == column.to.label
                    && (field.protocol, field.port) == (column.protocol, column.port)
            });
            row.push(match field {
                None => "-".into(),
                Some(field) => cell(screen, field),
            });
        }
        rows.push(row);
    }
    screen.line(layout(&rows).trim_end());
    if columns.is_empty() {
        screen.line("No container declares a port: add ports to the manifest, or --to IP:PORT.");
    }
    for field in fields {
        let title = format!("{} -> {}:{}/{}", field.from, field.to, field.port, field.protocol);
        if let Some(audit) = field.audit {
            screen.line(&paint.warn(&format!("{title}: with the Audit policies enforced: {audit}")));
        }
        if let Some(probe) = field.probe.as_ref().filter(|_| !field.agrees()) {
            let policies = word(field.verdict);
            screen.line(&paint.bad(&format!("{title}: the policies say {policies}, the kernel: {probe}")));
            field.sides.iter().for_each(|side| screen.line(side.to_string().trim_end()));
        }
    }
}

fn head(column: &Column) -> String {
    if column.to.label.contains(':') {
        format!("[{}]:{}/{}", column.to.label, column.port, column.protocol)
    } else {
        format!("{}:{}/{}", column.to.label, column.port, column.protocol)
    }
}

/// The verdict; an audit verdict that differs follows in brackets, a probe after a slash where it was made.
fn cell(screen: &Screen, field: &Field) -> Cell {
    let paint = screen.paint();
    let mut text = word(field.verdict).to_owned();
    if let Some(audit) = field.audit {
        text.push_str(&format!(" ({})", word(audit)));
    }
    if let Some(probe) = &field.probe {
        text.push_str(&format!(" / {}", probe.word()));
    }
    Cell::painted(&text, |text| match (field.agrees(), field.verdict) {
        (false, _) => paint.warn(text),
        (true, Action::Allow) => paint.good(text),
        (true, Action::Deny) => paint.bad(text),
    })
}
