//! The files that configurations name: users and certificates. They outlive the configuration that named them first: the
//! next one that names the same files gets what is in force, so that verified passwords and TLS sessions are not forgotten
//! because something else has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sidewall_proxy_config::TlsVersion;
use zeroize::Zeroizing;

use crate::auth::UsersFile;
use crate::prepare::StartError;
use crate::reload::{self, ReloadCounts, Snapshot, Watch};
use crate::tls::{self, TlsError};

/// The users in force, replaced as a whole when their file changes.
pub type Users = Arc<ArcSwap<UsersFile>>;

/// The certificate in force.
#[derive(Clone)]
pub struct Certificate {
    /// Replaced as a whole when one of its files changes.
    pub config: Arc<ArcSwap<ServerConfig>>,
    /// As [`tls::ends`]; [`i64::MIN`] if that is not understood.
    pub ends: Arc<AtomicI64>,
}

/// What distinguishes certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateKey {
    /// The PEM file with the certificate.
    pub cert: PathBuf,
    /// The PEM file with its key.
    pub key: PathBuf,
    /// The oldest version that clients may speak.
    pub min_version: TlsVersion,
}

/// The files that are in use, each with what is in force of it.
#[derive(Default)]
pub struct Sources {
    users: BTreeMap<PathBuf, (Users, Watch)>,
    certificates: BTreeMap<CertificateKey, (Certificate, Watch)>,
}

/// What a configuration needs of the files, beside what is known already.
#[derive(Default)]
pub struct Needs {
    fresh: Sources,
    users: BTreeMap<PathBuf, Vec<String>>,
    certificates: BTreeMap<CertificateKey, Vec<String>>,
}

impl Needs {
    /// The users in this file, which this field names.
    ///
    /// # Errors
    ///
    /// When the file is not known yet and cannot be read or understood.
    pub fn users(&mut self, field: &str, file: PathBuf, known: &Sources) -> Result<Users, StartError> {
        self.users.entry(file.clone()).or_default().push(field.to_owned());
        if let Some((users, _)) = known.users.get(&file).or_else(|| self.fresh.users.get(&file)) {
            return Ok(Arc::clone(users));
        }
        let made = read_users(field, &file)?;
        let users = Arc::clone(&made.0);
        self.fresh.users.insert(file, made);
        Ok(users)
    }

    /// The certificate in these files, which this block names.
    ///
    /// # Errors
    ///
    /// When they are not known yet and cannot be read or understood.
    pub fn certificate(
        &mut self,
        field: &str,
        key: CertificateKey,
        known: &Sources,
    ) -> Result<Certificate, StartError> {
        self.certificates.entry(key.clone()).or_default().push(field.to_owned());
        if let Some((certificate, _)) = known.certificates.get(&key).or_else(|| self.fresh.certificates.get(&key)) {
            return Ok(certificate.clone());
        }
        let made = read_certificate(field, &key)?;
        let certificate = made.0.clone();
        self.fresh.certificates.insert(key, made);
        Ok(certificate)
    }
}

impl Sources {
    /// The configuration with these needs is in force: what it does not name is forgotten, what it named anew is known.
    pub fn adopt(&mut self, needs: Needs, counts: &ReloadCounts) {
        let Needs { fresh, users, certificates } = needs;
        self.users.extend(fresh.users);
        self.certificates.extend(fresh.certificates);
        self.users.retain(|file, _| users.contains_key(file));
        self.certificates.retain(|key, _| certificates.contains_key(key));
        let fields: BTreeSet<String> = users.values().chain(certificates.values()).flatten().cloned().collect();
        counts.keep(&fields);
        let named = |fields: Option<&Vec<String>>| {
            fields.into_iter().flatten().map(|field| (field.clone(), counts.of(field))).collect()
        };
        for (file, (_, watch)) in &mut self.users {
            watch.call(named(users.get(file)));
        }
        for (key, (_, watch)) in &mut self.certificates {
            watch.call(named(certificates.get(key)));
        }
    }

    /// Looks at all of them once.
    pub fn look(&mut self) {
        let users = self.users.values_mut().map(|(_, watch)| watch);
        let certificates = self.certificates.values_mut().map(|(_, watch)| watch);
        users.chain(certificates).for_each(Watch::look_and_tell);
    }
}

fn read_users(field: &str, file: &Path) -> Result<(Users, Watch), StartError> {
    let snapshot = read(field, &[file.to_owned()])?;
    let parsed = UsersFile::parse(first_or_empty(&snapshot.contents)).map_err(|source| StartError::Users {
        field: field.to_owned(),
        file: file.to_owned(),
        source,
    })?;
    warn_if_empty(&parsed, file);
    let users = Arc::new(ArcSwap::from_pointee(parsed));
    let (current, name) = (Arc::clone(&users), file.to_owned());
    let watch = Watch::new(
        vec![file.to_owned()],
        &snapshot,
        Box::new(move |contents| {
            let parsed = UsersFile::parse(first(contents)?)?;
            warn_if_empty(&parsed, &name);
            current.store(Arc::new(parsed));
            Ok(())
        }),
    );
    Ok((users, watch))
}

fn read_certificate(field: &str, key: &CertificateKey) -> Result<(Certificate, Watch), StartError> {
    let files = vec![key.cert.clone(), key.key.clone()];
    let min_version = key.min_version;
    let make = move |contents: &[Zeroizing<Vec<u8>>]| match contents {
        [cert, key] => tls::server_config(cert, key, min_version),
        _ => Err(TlsError::NoCertificate),
    };
    let snapshot = read(field, &files)?;
    let config = make(&snapshot.contents).map_err(|source| StartError::Tls {
        field: field.to_owned(),
        file: key.cert.clone(),
        source,
    })?;
    let end = |cert: &[u8]| tls::ends(cert).unwrap_or(i64::MIN);
    let ends = Arc::new(AtomicI64::new(end(first_or_empty(&snapshot.contents))));
    let current = Certificate { config: Arc::new(ArcSwap::new(config)), ends };
    let next = current.clone();
    let watch = Watch::new(
        files,
        &snapshot,
        Box::new(move |contents| {
            next.config.store(make(contents)?);
            next.ends.store(end(first(contents)?), Ordering::Relaxed);
            Ok(())
        }),
    );
    Ok((current, watch))
}

fn read(field: &str, files: &[PathBuf]) -> Result<Snapshot, StartError> {
    reload::read(files).map_err(|source| StartError::Read { field: field.to_owned(), source })
}

fn first(contents: &[Zeroizing<Vec<u8>>]) -> Result<&[u8], Box<dyn Error + Send + Sync>> {
    contents.first().map(|content| content.as_slice()).ok_or_else(|| "no file is named".into())
}

fn first_or_empty(contents: &[Zeroizing<Vec<u8>>]) -> &[u8] {
    contents.first().map(|content| content.as_slice()).unwrap_or_default()
}

/// An empty file is how the last user is removed, so it is obeyed; but it may also be a file that is being written.
fn warn_if_empty(parsed: &UsersFile, file: &Path) {
    if parsed.users().is_empty() {
        tracing::warn!(file = %file.display(), "the file has no users; nobody can log in");
    }
}
