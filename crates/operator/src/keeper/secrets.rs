//! What is wrong with the Secrets that SidecarProxies name: each is looked into once a version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use sidewall_api::SidecarProxy;

use crate::keeper::told::{SecretFault, SecretProblem};
use crate::proxies::render::hex;
use crate::proxies::secrets::{Fault, SecretContent, TLS_CERT, Use, faults, uses};
use crate::written::{WriteError, answered};

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
        for (secret, used) in uses(proxy) {
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
                |there| self::problems(&secret, &used, &SecretContent::of(there)),
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

/// What the status tells of a Secret.
fn problems(name: &str, used: &Use, content: &SecretContent) -> Vec<SecretProblem> {
    let fault = |fault| match fault {
        Fault::NoKey { key } => Some(SecretFault::NoKey { key }),
        Fault::Lines { key, lines, .. } => {
            lines.first().map(|line| SecretFault::Content { key, reason: line.to_string() })
        }
        Fault::Certificate(error) => Some(SecretFault::Content { key: TLS_CERT.to_owned(), reason: error.to_string() }),
        // The proxy goes by them; their author was told when he wrote the SidecarProxy.
        Fault::NoUsers { .. } | Fault::Dates(_) | Fault::Ended { .. } => None,
    };
    let faults = faults(used, content, None).into_iter().filter_map(fault);
    faults.map(|fault| SecretProblem { secret: name.to_owned(), fault }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn problems_name_keys_and_lines_and_quote_nothing() {
        let used = uses(&crate::fixture::tls());
        let secret = |key: &str, text: &str| {
            let data = Some([(key.to_owned(), ByteString(text.as_bytes().to_vec()))].into());
            SecretContent::of(Secret { data, ..Secret::default() })
        };
        let found = problems("users", &used["web-users"], &secret("htpasswd", "admin:secret-word\n"));
        let faults: Vec<&SecretFault> = found.iter().map(|problem| &problem.fault).collect();
        let [SecretFault::NoKey { key: missing }, SecretFault::Content { key, reason }] = faults.as_slice() else {
            panic!("{faults:?}")
        };
        assert_eq!((missing.as_str(), key.as_str()), ("metrics.users", "htpasswd"));
        assert!(reason.contains("line 1") && !reason.contains("secret-word"), "{reason}");
        let found = problems("tls", &used["web-tls"], &secret("tls.key", "secret-word"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].fault, SecretFault::NoKey { key: TLS_CERT.to_owned() });
        let found = problems("users", &used["web-users"], &secret("metrics.users", "# nobody\n"));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
