//! What is wrong with what is in a Secret. Nothing of it is quoted.

use sidewall_credentials::htpasswd::{self, UsersError};
use sidewall_credentials::tls::{self, TlsError};

use super::{SecretContent, TLS_CERT, TLS_KEY, Use};

/// The most lines of a file that are told of.
const LINES_MAX: usize = 5;

/// Something that is wrong with a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It lacks a key: pods that mount it wait.
    NoKey {
        /// The key.
        key: String,
    },
    /// Lines of users are not understood: the proxy takes nothing of the file.
    Lines {
        /// The key.
        key: String,
        /// The first of them, at least one.
        lines: Vec<UsersError>,
        /// How many more there are.
        more: usize,
    },
    /// There are no users, so that nobody can log in.
    NoUsers {
        /// The key.
        key: String,
    },
    /// The proxy can't serve with the certificate and its key.
    Certificate(TlsError),
    /// When the certificate ends can't be read.
    Dates(TlsError),
    /// Clients refuse the certificate.
    Ended {
        /// Since when, in seconds since 1970.
        at: i64,
    },
}

/// What is wrong with a Secret that is used so. `now` is in seconds since 1970; certificates are not held against the time where
/// it is left out.
pub fn faults(used: &Use, content: &SecretContent, now: Option<i64>) -> Vec<Fault> {
    let missing = used.keys().into_iter().filter(|key| content.get(key).is_none());
    let mut faults: Vec<Fault> = missing.map(|key| Fault::NoKey { key: key.to_owned() }).collect();
    for key in &used.users {
        let Some(file) = content.get(key) else { continue };
        let htpasswd::Checked { users, faults: lines, more } = htpasswd::check(file, LINES_MAX);
        if !lines.is_empty() {
            faults.push(Fault::Lines { key: key.clone(), lines, more });
        } else if users == 0 {
            faults.push(Fault::NoUsers { key: key.clone() });
        }
    }
    if let Some(least) = used.certificate
        && let (Some(certificate), Some(key)) = (content.get(TLS_CERT), content.get(TLS_KEY))
    {
        faults.extend(match tls::server_config(certificate, key, least) {
            Err(error) => Some(Fault::Certificate(error)),
            Ok(_) => match (tls::ends(certificate), now) {
                (Err(error), _) => Some(Fault::Dates(error)),
                (Ok(at), Some(now)) if at <= now => Some(Fault::Ended { at }),
                (Ok(_), _) => None,
            },
        });
    }
    faults
}
