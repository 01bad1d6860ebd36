//! The operator's secret for hooks, which all its replicas have in common: a Secret in its own namespace, made by the first.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::admission::probes::{BadHookSecret, HookSecret};
use crate::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::written::{WriteError, answered};

/// The Secret.
pub const NAME: &str = "sidewall-operator-hooks";
/// Its entry.
const ENTRY: &str = "key";
/// The wait before the next try.
const AGAIN: Duration = Duration::from_secs(2);

/// Why there is no secret.
#[derive(Debug, Error)]
enum HooksError {
    #[error("Secret {NAME:?} can't be read or made: {0}")]
    Write(#[from] WriteError),
    #[error("Secret {NAME:?} is there and has no entry {ENTRY:?}: delete it, and it is made anew")]
    NoEntry,
    #[error("Secret {NAME:?}: {0}: delete it, and it is made anew")]
    Bad(#[from] BadHookSecret),
    #[error("there are no random numbers to be had")]
    Random,
}

/// Reads the secret, or makes it; tries until it can.
pub async fn secret(client: &Client, namespace: &str) -> HookSecret {
    loop {
        match try_secret(client, namespace).await {
            Ok(secret) => return secret,
            Err(error) => tracing::warn!("{error}"),
        }
        sleep(AGAIN).await;
    }
}

async fn try_secret(client: &Client, namespace: &str) -> Result<HookSecret, HooksError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    if let Some(secret) = answered(secrets.get_opt(NAME)).await? {
        return of(secret);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut()).map_err(|_| HooksError::Random)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from([(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(bytes.to_vec()))])),
        ..Secret::default()
    };
    match answered(secrets.create(&PostParams::default(), &secret)).await {
        Ok(secret) => of(secret),
        // Another replica was faster: its secret counts.
        Err(error) if error.status() == Some(409) => of(answered(secrets.get(NAME)).await?),
        Err(error) => Err(error.into()),
    }
}

fn of(secret: Secret) -> Result<HookSecret, HooksError> {
    let mut data = secret.data.unwrap_or_default();
    let bytes = Zeroizing::new(data.remove(ENTRY).ok_or(HooksError::NoEntry)?.0);
    Ok(HookSecret::new(&bytes)?)
}
