//! The proxy's configuration, from a SidecarProxy and what is written on a pod.
//!
//! Pods of one template have one configuration, in a ConfigMap whose name follows from what is fixed in them
//! ([`config_name`]). When the SidecarProxy changes, the text changes and the name does not, so that running pods see it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest, Sha256};
use sidewall_api::SidecarProxy;
use sidewall_api::names::DNS_SUBDOMAIN_MAX;
use sidewall_proxy_config::{Admin, Form, Probes, Problems, ProxyConfig};

use crate::admission::inject::{Record, Secrets};
use crate::admission::probes::Originals;
use crate::names::secret_file;
use crate::proxies::secrets::{Naming, TLS_CERT, TLS_KEY, namings};
use crate::settings::Ports;

/// What stands at the top of the file.
const HEADER: &str = "# Written by sidewall-operator from the SidecarProxy. Changes here are lost.\n";

/// The proxy's configuration, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file's content: YAML. The same input gives the same bytes. Not printed anywhere: probes may carry credentials.
    pub text: ConfigText,
    /// SHA-256 of the text, in hexadecimal digits.
    pub hash: String,
}

/// The text of a configuration, which is not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigText(String);

impl ConfigText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigText({} bytes)", self.0.len())
    }
}

/// Why there is no configuration for a pod.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The SidecarProxy is no good.
    #[error("the SidecarProxy cannot be used: {0}")]
    Proxy(Problems),
    /// The record's ConfigMap is not the one that follows from it: nobody of ours has written it.
    #[error(
        "the annotation sidewall.dev/proxy names the ConfigMap {config:?}, which is not its own: it was not written by Sidewall"
    )]
    Name {
        /// What it names.
        config: String,
    },
    /// It names a Secret that the pod was not made with.
    #[error(
        "{field} names key {key:?} of Secret {secret:?}, which this pod does not mount, because it was created before: restart \
         the pod, for example with `kubectl rollout restart`"
    )]
    NotMounted {
        /// The field of the SidecarProxy.
        field: String,
        /// The Secret.
        secret: String,
        /// Its key.
        key: String,
    },
    /// What was written on the pod as asked by its probes cannot be asked.
    #[error("{occasion} of container {container:?} cannot be asked: {reason}")]
    Probe {
        /// The container.
        container: String,
        /// The probe or hook.
        occasion: &'static str,
        /// Why.
        reason: String,
    },
    /// The proxy would not take it.
    #[error("the proxy would refuse it: {0}")]
    Invalid(Problems),
    /// It cannot be written as YAML.
    #[error("it cannot be written as YAML: {0}")]
    Write(serde_saphyr::ser::Error),
}

/// Renders the configuration of the pods that bear this record and these originals.
///
/// # Errors
///
/// The SidecarProxy cannot be used, or not by a pod that was made before it was changed.
pub fn render(
    proxy: &SidecarProxy,
    record: &Record,
    originals: &Originals,
    ports: Ports,
) -> Result<Rendered, RenderError> {
    // Or the author of a pod could have any ConfigMap of the namespace overwritten.
    if record.config != config_name(record, originals) {
        return Err(RenderError::Name { config: record.config.clone() });
    }
    let mut config = proxy.spec.config();
    config.validate(Form::Cluster).map_err(RenderError::Proxy)?;
    with_files(&mut config, &record.secrets)?;
    config.admin.get_or_insert_with(|| Admin { port: ports.admin, ..Admin::default() });
    // The port that the pod's probes were led to: a later word of the SidecarProxy cannot change that.
    let mut probes = Probes { port: record.probe_port, ..config.probes.take().unwrap_or_default() };
    for (container, asked) in originals {
        for (occasion, original) in asked {
            let target = original.target(container, *occasion).map_err(|error| RenderError::Probe {
                container: container.clone(),
                occasion: occasion.name(),
                reason: error.to_string(),
            })?;
            probes.targets.push(target);
        }
    }
    config.probes = Some(probes);
    config.validate(Form::File).map_err(RenderError::Invalid)?;
    let text = serde_saphyr::to_string(&config).map_err(RenderError::Write)?;
    let text = format!("{HEADER}{text}");
    let hash = hex(&Sha256::digest(&text));
    Ok(Rendered { text: ConfigText(text), hash })
}

/// Files in place of Secrets.
fn with_files(config: &mut ProxyConfig, mounted: &Secrets) -> Result<(), RenderError> {
    for Naming { field, secret, takes, .. } in namings(&config.listeners) {
        for key in takes.keys() {
            if !mounted.get(secret).is_some_and(|keys| keys.contains(key)) {
                return Err(RenderError::NotMounted { field, secret: secret.to_owned(), key: key.to_owned() });
            }
        }
    }
    for listener in &mut config.listeners {
        if let Some(tls) = &mut listener.tls
            && let Some(secret) = tls.secret_name.take()
        {
            // Who makes the certificate is nothing to the proxy.
            tls.certificate = None;
            tls.cert_file = Some(secret_file(&secret, TLS_CERT));
            tls.key_file = Some(secret_file(&secret, TLS_KEY));
        }
        for basic in listener.authentication.iter_mut().filter_map(|way| way.basic.as_mut()) {
            if let (Some(secret), Some(key)) = (basic.secret_name.take(), basic.key.take()) {
                basic.htpasswd_file = Some(secret_file(&secret, &key));
            }
        }
    }
    Ok(())
}

/// What distinguishes the configurations of one SidecarProxy: everything that is fixed in a pod.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fixed<'a> {
    proxy: &'a str,
    container: &'a str,
    probe_port: u16,
    secrets: &'a Secrets,
    originals: &'a Originals,
}

/// The name of the ConfigMap of pods that bear this record (but for the name itself) and these originals.
pub fn config_name(record: &Record, originals: &Originals) -> String {
    let Record { proxy, container, probe_port, secrets, config: _ } = record;
    let fixed = Fixed { proxy, container, probe_port: *probe_port, secrets, originals };
    // Maps with names as keys, and nothing that JSON does not have: this cannot fail. Were it to, the names of two
    // configurations would be the same, and the second pod be told that its Secrets are not mounted.
    let bytes = serde_json::to_vec(&fixed).unwrap_or_default();
    let hash = hex(&Sha256::digest(&bytes).iter().copied().take(8).collect::<Vec<u8>>());
    let room = DNS_SUBDOMAIN_MAX.saturating_sub("sidewall--".len() + hash.len());
    let name: String = proxy.chars().take(room).collect();
    format!("sidewall-{}-{hash}", name.trim_end_matches(['-', '.']))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The ConfigMap's data: the file by its name.
pub fn config_data(rendered: &Rendered) -> BTreeMap<String, String> {
    BTreeMap::from([(crate::names::FILE_CONFIG.to_owned(), rendered.text.as_str().to_owned())])
}

#[cfg(test)]
mod tests;
