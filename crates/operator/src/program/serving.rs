//! What the webhooks serve with, kept current: self-managed in a Secret, or somebody else's in files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::admission::webhook::{self, TlsError};
use crate::certificates::{CertificateError, Store};
use crate::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::program::metrics::Metrics;
use crate::written::{WriteError, answered};

/// The Secret.
pub const NAME: &str = "sidewall-operator-webhook";
/// How often it is looked at, and whether the API server knows whom to believe.
const LOOK: Duration = Duration::from_secs(10);
/// The same while there is nothing to serve with.
const WAIT: Duration = Duration::from_millis(500);
/// The longest file, in octets.
const LONGEST: u64 = 1 << 20;

/// What is served with; none as long as there is nothing.
pub type Served = Option<Arc<rustls::ServerConfig>>;

/// Where certificates are kept and told of.
pub struct Keeping {
    /// Speaks to the API server.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The Service that the API server calls.
    pub service: String,
    /// The names that certificates are for.
    pub names: Vec<String>,
    /// The MutatingWebhookConfiguration.
    pub mutating: String,
    /// The ValidatingWebhookConfiguration.
    pub validating: String,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why there is nothing new to serve with.
#[derive(Debug, Error)]
enum ServingError {
    #[error("{0}")]
    Write(#[from] WriteError),
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("can't read {file}: {source}")]
    File { file: String, source: std::io::Error },
    #[error("{file} is longer than {LONGEST} octets")]
    Long { file: String },
}

impl Keeping {
    /// Keeps what is served with, until it is dropped: all operators serve with what the Secret holds, the leading one renews it.
    pub async fn run(self, leads: watch::Receiver<bool>, serve: watch::Sender<Served>) {
        let mut serving = String::new();
        let mut told = String::new();
        loop {
            let leading = *leads.borrow();
            match self.look(leading, &mut serving, &serve).await {
                Ok(()) => told.clear(),
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::warn!("the webhooks' certificates: {text}");
                        told = text;
                    }
                }
            }
            let wait = if serve.borrow().is_none() { WAIT } else { LOOK };
            sleep(wait).await;
        }
    }

    async fn look(
        &self,
        leading: bool,
        serving: &mut String,
        serve: &watch::Sender<Served>,
    ) -> Result<(), ServingError> {
        let Some(store) = self.store(leading).await? else { return Ok(()) };
        let (certificate, key) = store.serving();
        if serving != certificate {
            serve.send_replace(Some(webhook::config(certificate, key)?));
            let until = store.good_until().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.metrics.good_until.set(until.as_secs_f64());
            tracing::info!("the webhooks serve with another certificate");
            certificate.clone_into(serving);
        }
        if leading {
            let bundle = store.authorities();
            self.tell::<MutatingWebhookConfiguration>(&self.mutating, &bundle, |configuration| {
                let webhooks = configuration.webhooks.iter().flatten();
                webhooks.map(|webhook| (webhook.name.clone(), webhook.client_config.clone())).collect()
            })
            .await?;
            self.tell::<ValidatingWebhookConfiguration>(&self.validating, &bundle, |configuration| {
                let webhooks = configuration.webhooks.iter().flatten();
                webhooks.map(|webhook| (webhook.name.clone(), webhook.client_config.clone())).collect()
            })
            .await?;
        }
        Ok(())
    }

    /// The Secret's store; whoever comes first makes it, whoever leads renews it.
    async fn store(&self, leading: bool) -> Result<Option<Store>, ServingError> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let now = SystemTime::now();
        let Some(mut secret) = answered(secrets.get_opt(NAME)).await? else {
            // Whoever comes first: the leading one may be an older one, to which the certificates are somebody else's business, and
            // which stays until this one is ready.
            let store = Store::new(&self.names, now)?;
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    labels: Some(BTreeMap::from([(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned())])),
                    ..ObjectMeta::default()
                },
                data: Some(data(&store)),
                ..Secret::default()
            };
            let created = answered(secrets.create(&PostParams::default(), &secret)).await;
            self.metrics.write("webhook-secret", &created);
            return match created {
                Ok(_) => Ok(Some(store)),
                // Another has just made it, and it is read the next time.
                Err(error) if error.status() == Some(409) => Ok(None),
                Err(error) => Err(error.into()),
            };
        };
        let before = secret.data.take().unwrap_or_default();
        let read = Store::read(&before.into_iter().map(|(entry, value)| (entry, value.0)).collect());
        let next = match &read {
            Ok(store) if leading => store.next(&self.names, now)?,
            Ok(_) => None,
            Err(error) if leading => {
                tracing::warn!("what is in Secret {NAME:?} can't be used, and is made anew: {error}");
                Some(Store::new(&self.names, now)?)
            }
            Err(_) => None,
        };
        let Some(next) = next else { return Ok(Some(read?)) };
        // With the resourceVersion that was read: nobody's newer one is overwritten.
        secret.data = Some(data(&next));
        let replaced = answered(secrets.replace(NAME, &PostParams::default(), &secret)).await;
        self.metrics.write("webhook-secret", &replaced);
        replaced?;
        tracing::info!("the webhooks' certificates were renewed, a step");
        Ok(Some(next))
    }

    /// Tells the API server whom to believe, where a webhook is ours and it believes others.
    async fn tell<K>(
        &self,
        name: &str,
        bundle: &str,
        webhooks: impl FnOnce(&K) -> Vec<(String, WebhookClientConfig)>,
    ) -> Result<(), ServingError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let api = Api::<K>::all(self.client.clone());
        let Some(configuration) = answered(api.get_opt(name)).await? else {
            // It may be installed after the operator, or not at all.
            tracing::debug!("there is no {} {name:?}", K::kind(&()));
            return Ok(());
        };
        let mut steps: Vec<Value> = Vec::new();
        for (index, (webhook, client)) in webhooks(&configuration).into_iter().enumerate() {
            let ours = client
                .service
                .as_ref()
                .is_some_and(|service| service.name == self.service && service.namespace == self.namespace);
            if ours && client.ca_bundle.as_ref().is_none_or(|there| there.0 != bundle.as_bytes()) {
                let at = format!("/webhooks/{index}");
                steps.push(json!({"op": "test", "path": format!("{at}/name"), "value": webhook}));
                let value = ByteString(bundle.as_bytes().to_vec());
                steps.push(json!({"op": "add", "path": format!("{at}/clientConfig/caBundle"), "value": value}));
            }
        }
        if steps.is_empty() {
            return Ok(());
        }
        let patch: json_patch::Patch = serde_json::from_value(Value::Array(steps)).unwrap_or_default();
        let parameters = PatchParams { field_manager: Some(MANAGED_BY.to_owned()), ..PatchParams::default() };
        let patched = answered(api.patch(name, &parameters, &Patch::<()>::Json(patch))).await;
        self.metrics.write("webhook-configuration", &patched);
        patched?;
        tracing::info!("{} {name:?} was told whom to believe", K::kind(&()));
        Ok(())
    }
}

fn data(store: &Store) -> BTreeMap<String, ByteString> {
    store.written().into_iter().map(|(entry, value)| (entry, ByteString(value))).collect()
}

/// Serves with what is in a directory, and with what is there later, until it is dropped.
pub async fn files(directory: &Path, serve: watch::Sender<Served>) {
    let mut before = (String::new(), Zeroizing::new(String::new()));
    let mut told = String::new();
    loop {
        // Both are read anew each time: a mounted Secret changes by a link to another directory.
        let read = async {
            let certificate = read(&directory.join("tls.crt")).await?;
            let key = Zeroizing::new(read(&directory.join("tls.key")).await?);
            if (&certificate, &key) == (&before.0, &before.1) {
                return Ok(None);
            }
            let config = webhook::config(&certificate, &key)?;
            Ok(Some(((certificate, key), config)))
        };
        match read.await {
            Ok(None) => told.clear(),
            Ok(Some((now, config))) => {
                before = now;
                serve.send_replace(Some(config));
                tracing::info!("the webhooks serve with another certificate");
            }
            Err(error) => {
                let error: ServingError = error;
                let text = error.to_string();
                if text != told {
                    tracing::warn!("the webhooks' certificates in {}: {text}", directory.display());
                    told = text;
                }
            }
        }
        let wait = if serve.borrow().is_none() { WAIT } else { LOOK };
        sleep(wait).await;
    }
}

async fn read(path: &Path) -> Result<String, ServingError> {
    use tokio::io::AsyncReadExt;
    let failed = |source| ServingError::File { file: path.display().to_string(), source };
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(LONGEST + 1).read_to_string(&mut text).await.map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(ServingError::Long { file: path.display().to_string() });
    }
    Ok(text)
}
