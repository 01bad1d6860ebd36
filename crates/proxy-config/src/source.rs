//! Where a secret comes from: a Secret in a cluster, files by hand, never both.

use crate::listener::{Basic, Tls};
use crate::validate::Fault;

/// Where a certificate and its key come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsSource<'a> {
    /// A Secret of type `kubernetes.io/tls`.
    Secret {
        /// The Secret's name, in the namespace of the object that names it.
        name: &'a str,
    },
    /// Two PEM files.
    Files {
        /// The certificate and its intermediates.
        cert: &'a str,
        /// The private key.
        key: &'a str,
    },
}

/// Where an htpasswd file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsersSource<'a> {
    /// A key of a Secret.
    Secret {
        /// The Secret's name, in the namespace of the object that names it.
        name: &'a str,
        /// The key whose value is the htpasswd file.
        key: &'a str,
    },
    /// A file.
    File(&'a str),
}

impl Tls {
    /// Where the certificate comes from.
    ///
    /// # Errors
    ///
    /// Names the field that is missing, or the two that exclude each other.
    pub fn source(&self) -> Result<TlsSource<'_>, SourceFault> {
        match (&self.secret_name, &self.cert_file, &self.key_file) {
            (Some(name), None, None) => Ok(TlsSource::Secret { name }),
            (None, Some(cert), Some(key)) => Ok(TlsSource::Files { cert, key }),
            (Some(_), Some(_), _) => Err(SourceFault::both("certFile", "secretName")),
            (Some(_), None, Some(_)) => Err(SourceFault::both("keyFile", "secretName")),
            (None, Some(_), None) => Err(SourceFault::needs("keyFile", "certFile")),
            (None, None, Some(_)) => Err(SourceFault::needs("certFile", "keyFile")),
            (None, None, None) => Err(SourceFault { field: "", fault: Fault::NoCertificate }),
        }
    }
}

impl Basic {
    /// Where the users come from.
    ///
    /// # Errors
    ///
    /// Names the field that is missing, or the two that exclude each other.
    pub fn source(&self) -> Result<UsersSource<'_>, SourceFault> {
        match (&self.secret_name, &self.key, &self.htpasswd_file) {
            (Some(name), Some(key), None) => Ok(UsersSource::Secret { name, key }),
            (None, None, Some(file)) => Ok(UsersSource::File(file)),
            (Some(_), _, Some(_)) => Err(SourceFault::both("htpasswdFile", "secretName")),
            (None, Some(_), Some(_)) => Err(SourceFault::both("htpasswdFile", "key")),
            (Some(_), None, None) => Err(SourceFault::needs("key", "secretName")),
            (None, Some(_), None) => Err(SourceFault::needs("secretName", "key")),
            (None, None, None) => Err(SourceFault { field: "", fault: Fault::NoUsers }),
        }
    }
}

/// Why a source is not one, and at which of its fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct SourceFault {
    /// The field below the block; empty for the block itself.
    pub field: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

impl SourceFault {
    fn both(field: &'static str, other: &'static str) -> Self {
        Self { field, fault: Fault::Excludes { other } }
    }

    fn needs(field: &'static str, other: &'static str) -> Self {
        Self { field, fault: Fault::NeededBy { other } }
    }
}
