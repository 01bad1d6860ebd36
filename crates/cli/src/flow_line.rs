//! A flow record as a line for people.

use sidewall_flow::{Action, Record};

use crate::screen::{Paint, visible};

/// A record's line among those of several pods.
pub fn line_of_pod(record: &Record, paint: Paint) -> String {
    let pod = record.pod().map_or_else(|| "(several pods)".to_owned(), |(namespace, pod)| format!("{namespace}/{pod}"));
    let (head, text) = parts(record, paint);
    format!("{head} {} {text}", paint.strong(&visible(&pod)))
}

/// A record's line, in colours.
pub fn line(record: &Record, paint: Paint) -> String {
    let (head, text) = parts(record, paint);
    format!("{head} {text}")
}

/// The time and the verdict, and the rest.
fn parts(record: &Record, paint: Paint) -> (String, String) {
    let columns = record.columns();
    // A device is named by whoever made it.
    let (what, text) = (columns.what, visible(&columns.text));
    let what = match record.flow().map(|flow| flow.verdict) {
        Some(verdict) if verdict.is_audit() => paint.warn(&what),
        Some(verdict) if verdict.enforced() == Action::Deny => paint.bad(&what),
        Some(_) => paint.good(&what),
        None => paint.warn(&what),
    };
    (format!("{} {what}", paint.faint(&columns.time)), text)
}
