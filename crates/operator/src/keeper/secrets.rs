//! What is wrong with the Secrets that SidecarProxies name: each is looked into once a version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use sidewall_api::SidecarProxy;
use sidewall_credentials::{htpasswd, tls};
use sidewall_proxy_config::{TlsSource, TlsVersion, UsersSource};
use zeroize::Zeroizing;

use crate::render::{TLS_CERT, TLS_KEY, hex};
use crate::status::{SecretFault, SecretProblem};
use crate::written::{WriteError, answered};

/// How a SidecarProxy uses a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Used {
    /// The keys whose values are users.
    users: BTreeSet<String>,
    /// Whether it is a certificate with its key.
    certificate: bool,
}

/// A namespace, a SidecarProxy and a Secret.
type Key = (String, String, String);

/// What was found in Secrets, and in which version of them.
#[derive(Default)]
pub struct Looked(Mutex<BTreeMap<Key, (String, Vec<SecretProblem>)>>);

impl Looked {
    /// What is wrong with the Secrets of a SidecarProxy. `version` says which version there is of one; none where there is none.
    ///
    /// # Errors
    /// The API server does not tell what is in one.
    pub async fn problems(
        &self,
        client: &Client,
        namespace: &str,
        proxy: &SidecarProxy,
        version: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<SecretProblem>, WriteError> {
        let name = proxy.metadata.name.clone().unwrap_or_default();
        let mut problems = Vec::new();
        for (secret, used) in used(proxy) {
            let Some(version) = version(&secret) else {
                problems.push(SecretProblem { secret, fault: SecretFault::Missing });
                continue;
            };
            // With how it is used, which the SidecarProxy may change.
            let print = hex(&Sha256::digest(format!("{version} {used:?}")));
            let key = (namespace.to_owned(), name.clone(), secret.clone());
            let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            if let Some((before, found)) = before
                && before == print
            {
                problems.extend(found);
                continue;
            }
            let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
            let there = answered(secrets.get_opt(&secret)).await?;
            let found = there.map_or_else(
                || vec![SecretProblem { secret: secret.clone(), fault: SecretFault::Missing }],
                |there| faults(&secret, &used, there),
            );
            problems.extend(found.iter().cloned());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (print, found));
        }
        Ok(problems)
    }

    /// Forgets what is of a namespace's SidecarProxies that are no more.
    pub fn keep(&self, namespace: &str, proxies: &BTreeSet<String>) {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.retain(|(at, proxy, _), _| at != namespace || proxies.contains(proxy));
    }
}

fn used(proxy: &SidecarProxy) -> BTreeMap<String, Used> {
    let mut all: BTreeMap<String, Used> = BTreeMap::new();
    for listener in &proxy.spec.listeners {
        if let Some(Ok(TlsSource::Secret { name })) = listener.tls.as_ref().map(|tls| tls.source()) {
            all.entry(name.to_owned()).or_default().certificate = true;
        }
        for basic in listener.authentication.iter().filter_map(|way| way.basic.as_ref()) {
            if let Ok(UsersSource::Secret { name, key }) = basic.source() {
                all.entry(name.to_owned()).or_default().users.insert(key.to_owned());
            }
        }
    }
    all
}

/// What is wrong with a Secret; nothing of its content is said.
fn faults(name: &str, used: &Used, secret: Secret) -> Vec<SecretProblem> {
    let data: BTreeMap<String, Zeroizing<Vec<u8>>> =
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, Zeroizing::new(value.0))).collect();
    let mut faults = Vec::new();
    let needed = used
        .users
        .iter()
        .map(String::as_str)
        .chain(used.certificate.then_some([TLS_CERT, TLS_KEY]).into_iter().flatten());
    for key in needed {
        if !data.contains_key(key) {
            faults.push(SecretFault::NoKey { key: key.to_owned() });
        }
    }
    for key in &used.users {
        let Some(file) = data.get(key) else { continue };
        let checked = htpasswd::check(file, 1);
        if let Some(fault) = checked.faults.first() {
            faults.push(SecretFault::Content { key: key.clone(), reason: fault.to_string() });
        }
    }
    if used.certificate
        && let (Some(certificate), Some(key)) = (data.get(TLS_CERT), data.get(TLS_KEY))
        && let Err(error) = tls::server_config(certificate, key, TlsVersion::default())
    {
        faults.push(SecretFault::Content { key: TLS_CERT.to_owned(), reason: error.to_string() });
    }
    faults.into_iter().map(|fault| SecretProblem { secret: name.to_owned(), fault }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn faults_name_keys_and_lines_and_quote_nothing() {
        let used = Used { users: ["htpasswd".to_owned()].into(), certificate: true };
        let secret = |text: &str| Secret {
            data: Some([("htpasswd".to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        let found = faults("users", &used, secret("admin:secret-word\n"));
        let keys: Vec<&SecretFault> = found.iter().map(|problem| &problem.fault).collect();
        let [
            SecretFault::NoKey { key: first },
            SecretFault::NoKey { key: second },
            SecretFault::Content { key, reason },
        ] = keys.as_slice()
        else {
            panic!("{keys:?}")
        };
        assert_eq!((first.as_str(), second.as_str(), key.as_str()), (TLS_CERT, TLS_KEY, "htpasswd"));
        assert!(reason.contains("line 1") && !reason.contains("secret-word"), "{reason}");
    }
}
