//! A flow record as a line for people.

use sidewall_flow::{Action, Record};

use crate::screen::{Paint, visible};

/// A record's line, in colours.
pub fn line(record: &Record, paint: Paint) -> String {
    let columns = record.columns();
    // A device is named by whoever made it.
    let (what, text) = (columns.what, visible(&columns.text));
    let what = match record.flow().map(|flow| flow.verdict) {
        Some(verdict) if verdict.is_audit() => paint.warn(&what),
        Some(verdict) if verdict.enforced() == Action::Deny => paint.bad(&what),
        Some(_) => paint.good(&what),
        None => paint.warn(&what),
    };
    format!("{} {what} {text}", paint.faint(&columns.time))
}
