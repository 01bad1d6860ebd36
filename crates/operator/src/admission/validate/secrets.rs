//! What the author of a SidecarProxy is told of a Secret. Nothing of it is quoted but keys that are nearly those that were named.

use k8s_openapi::jiff::Timestamp;

use super::facts::Content;
use super::findings::Findings;
use super::{hint, list};
use crate::admission::review::wire::short;
use crate::proxies::secrets::{Fault, TLS_CERT, TLS_KEY, Use, faults};

/// Warns of what is wrong with a Secret that its reader may read. `place` is its namespace and name.
pub(super) fn check(place: &str, used: &Use, content: Option<&Content>, now: Option<i64>, found: &mut Findings) {
    let fields = list(used.fields.iter().map(String::as_str));
    let content = match content {
        Some(Content::Found(content)) => content,
        Some(Content::Missing) => {
            if !used.made {
                found.warn(format!("{fields}: there is no Secret {place} yet; new pods wait until it is there"));
            }
            return;
        }
        Some(Content::Unread(why)) => {
            let why = short(why, 80);
            found.warn(format!("{fields}: Secret {place} could not be read, so what is in it was not checked ({why})"));
            return;
        }
        None => return,
    };
    for fault in faults(used, content, now) {
        match fault {
            // One that is made for us is filled in its time.
            Fault::NoKey { key } if used.made && [TLS_CERT, TLS_KEY].contains(&key.as_str()) => {}
            Fault::NoKey { key } => {
                let hint = hint(&key, content.keys());
                found.warn(format!("{fields}: Secret {place} has no key {key:?}{hint}; new pods wait until it has"));
            }
            Fault::Lines { key, lines, more } => {
                for line in lines {
                    found.warn(format!("Secret {place}, key {key:?}: {line}"));
                }
                let more = if more == 0 { String::new() } else { format!("{more} more lines are wrong, and ") };
                found.warn(format!(
                    "Secret {place}, key {key:?}: {more}the proxy takes nothing of it until all is mended"
                ));
            }
            Fault::NoUsers { key } => found.warn(format!(
                "Secret {place}, key {key:?}: has no user, so that nobody can log in; add a line `user:hash`"
            )),
            Fault::Certificate(error) => found
                .warn(format!("Secret {place}, keys {TLS_CERT:?} and {TLS_KEY:?}: {error}; the proxy cannot use them")),
            Fault::Dates(error) => found.warn(format!("Secret {place}, key {TLS_CERT:?}: {error}")),
            Fault::Ended { at } => {
                let when = Timestamp::from_second(at).map_or_else(|_| "long ago".to_owned(), |at| format!("at {at}"));
                found.warn(format!(
                    "Secret {place}, key {TLS_CERT:?}: the certificate ended {when}: clients refuse it; renew it"
                ));
            }
        }
    }
}
