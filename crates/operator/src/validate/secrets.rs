//! What the proxy would make of a Secret. Nothing of it is quoted but keys that are nearly those that were named.

use k8s_openapi::jiff::Timestamp;
use sidewall_credentials::{htpasswd, tls};
use sidewall_proxy_config::TlsVersion;

use super::facts::{Content, SecretContent};
use super::findings::Findings;
use super::uses::Use;
use super::{hint, list};
use crate::render::{TLS_CERT, TLS_KEY};
use crate::review::wire::short;

/// The most lines of a file that are told of.
const LINES_MAX: usize = 5;

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
    for key in used.keys() {
        // One that is made for us is filled in its time.
        if content.get(key).is_none() && !(used.made && [TLS_CERT, TLS_KEY].contains(&key)) {
            let hint = hint(key, content.keys());
            found.warn(format!("{fields}: Secret {place} has no key {key:?}{hint}; new pods wait until it has"));
        }
    }
    for key in &used.users {
        if let Some(file) = content.get(key) {
            users(place, key, file, found);
        }
    }
    if let Some(least) = used.certificate {
        certificate(place, content, least, now, found);
    }
}

fn users(place: &str, key: &str, file: &[u8], found: &mut Findings) {
    let htpasswd::Checked { users, faults, more } = htpasswd::check(file, LINES_MAX);
    for fault in &faults {
        found.warn(format!("Secret {place}, key {key:?}: {fault}"));
    }
    if !faults.is_empty() {
        let more = if more == 0 { String::new() } else { format!("{more} more lines are wrong, and ") };
        found.warn(format!("Secret {place}, key {key:?}: {more}the proxy takes nothing of it until all is mended"));
    }
    if users == 0 && faults.is_empty() {
        found.warn(format!(
            "Secret {place}, key {key:?}: has no user, so that nobody can log in; add a line `user:hash`"
        ));
    }
}

fn certificate(place: &str, content: &SecretContent, least: TlsVersion, now: Option<i64>, found: &mut Findings) {
    let (Some(cert), Some(key)) = (content.get(TLS_CERT), content.get(TLS_KEY)) else { return };
    if let Err(error) = tls::server_config(cert, key, least) {
        found.warn(format!("Secret {place}, keys {TLS_CERT:?} and {TLS_KEY:?}: {error}; the proxy cannot use them"));
        return;
    }
    match (tls::ends(cert), now) {
        (Err(error), _) => found.warn(format!("Secret {place}, key {TLS_CERT:?}: {error}")),
        (Ok(end), Some(now)) if end <= now => {
            let when = Timestamp::from_second(end).map_or_else(|_| "long ago".to_owned(), |end| format!("at {end}"));
            found.warn(format!(
                "Secret {place}, key {TLS_CERT:?}: the certificate ended {when}: clients refuse it; renew it"
            ));
        }
        (Ok(_), _) => {}
    }
}
