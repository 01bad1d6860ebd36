//! The certificates that SidecarProxies ask for, kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use sidewall_api::SidecarProxy;

use crate::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::program::metrics::Metrics;
use crate::proxies::issue::{
    AUTHORITY_SECRET, Decision, Managed, ProxyAuthority, Signer, Standing, WantedCertificate, managed, next, wanted,
};
use crate::written::{WriteError, answered};

/// The longest that a certificate is not looked at: the authority changes, too.
const LOOK: Duration = Duration::from_secs(6 * 3600);
/// The wait for what cert-manager makes.
const WAIT: Duration = Duration::from_secs(10);

/// Keeps certificates for SidecarProxies.
pub struct Issuing {
    client: Client,
    /// The operator's own namespace, where the authority is.
    own: String,
    looked: Mutex<BTreeMap<(String, String), Seen>>,
}

/// What was seen of a Secret.
#[derive(Clone)]
struct Seen {
    version: Option<String>,
    wanted: WantedCertificate,
    standing: Standing,
    until: SystemTime,
}

/// How it stands with the certificates of a SidecarProxy, by Secret; and when they are to be looked at again.
pub type Standings = (BTreeMap<String, Standing>, Option<SystemTime>);

impl Issuing {
    /// Keeps the authority in this namespace.
    pub fn new(client: Client, own: String) -> Self {
        Self { client, own, looked: Mutex::default() }
    }

    /// Makes and renews the certificates of a SidecarProxy. `version` says which version there is of a Secret.
    ///
    /// # Errors
    /// The API server does not let it.
    pub async fn keep(
        &self,
        proxy: &SidecarProxy,
        version: impl Fn(&str) -> Option<String>,
        metrics: &Metrics,
    ) -> Result<Standings, WriteError> {
        let mut standings = BTreeMap::new();
        let mut soonest: Option<SystemTime> = None;
        for wanted in wanted(proxy) {
            let now = SystemTime::now();
            let key = (wanted.namespace.clone(), wanted.secret.clone());
            let there = version(&wanted.secret);
            let before = self.looked.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            let fresh = before.filter(|seen| seen.version == there && seen.wanted == wanted && now < seen.until);
            let seen = match fresh {
                Some(seen) => seen,
                None => {
                    let (standing, until) = match &wanted.signer {
                        Signer::SelfManaged => self.sign(&wanted, now, metrics).await?,
                        Signer::CertManager(_) => self.ask(&wanted, now, metrics).await?,
                    };
                    let until = until.min(now + LOOK);
                    let seen = Seen { version: there, wanted: wanted.clone(), standing, until };
                    self.looked.lock().unwrap_or_else(PoisonError::into_inner).insert(key, seen.clone());
                    seen
                }
            };
            soonest = Some(soonest.map_or(seen.until, |soonest| soonest.min(seen.until)));
            standings.insert(wanted.secret, seen.standing);
        }
        Ok((standings, soonest))
    }

    /// Signs, where that is to be done.
    async fn sign(
        &self,
        wanted: &WantedCertificate,
        now: SystemTime,
        metrics: &Metrics,
    ) -> Result<(Standing, SystemTime), WriteError> {
        let authority = self.authority(now, metrics).await?;
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &wanted.namespace);
        let existing = answered(secrets.get_opt(&wanted.secret)).await?;
        match next(wanted, existing.as_ref(), &authority, now) {
            Ok(Decision::Keep { good_until, until }) => Ok((Standing::Good { until: Some(good_until) }, until)),
            Ok(Decision::NotOurs(whose)) => Ok((Standing::Taken(whose), now + LOOK)),
            Ok(Decision::Write(write)) => {
                let parameters = PostParams { field_manager: Some(MANAGED_BY.to_owned()), ..PostParams::default() };
                let written = if write.is_new() {
                    answered(secrets.create(&parameters, write.secret())).await
                } else {
                    answered(secrets.replace(&wanted.secret, &parameters, write.secret())).await
                };
                metrics.write("proxy-certificate", &written);
                written?;
                let (namespace, secret, why) = (&wanted.namespace, &wanted.secret, write.why().as_str());
                tracing::info!(namespace, secret, why, "a proxy's certificate was made");
                // The news of it have it looked at again, and say until when it is good.
                Ok((Standing::Good { until: Some(write.good_until()) }, now + LOOK))
            }
            Err(error) => Ok((Standing::Failed { why: error.to_string() }, now + WAIT)),
        }
    }

    /// The authority, as its Secret has it; made, and changed by a step where it is time.
    async fn authority(&self, now: SystemTime, metrics: &Metrics) -> Result<ProxyAuthority, WriteError> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.own);
        let failed = |error: crate::certificates::CertificateError| WriteError::Certificate(error);
        let existing = answered(secrets.get_opt(AUTHORITY_SECRET)).await?;
        let data = |authority: &ProxyAuthority| {
            authority.written().into_iter().map(|(entry, value)| (entry, ByteString(value))).collect()
        };
        let Some(mut secret) = existing else {
            let authority = ProxyAuthority::new(now).map_err(failed)?;
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(AUTHORITY_SECRET.to_owned()),
                    labels: Some([(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(data(&authority)),
                ..Secret::default()
            };
            let created = answered(secrets.create(&PostParams::default(), &secret)).await;
            metrics.write("proxy-authority", &created);
            created?;
            return Ok(authority);
        };
        let entries =
            secret.data.take().unwrap_or_default().into_iter().map(|(entry, value)| (entry, value.0)).collect();
        // One that can't be read is not made anew by itself: every client of every proxy would have to be told of another.
        let authority = ProxyAuthority::read(&entries).map_err(failed)?;
        let Some(stepped) = authority.next(now).map_err(failed)? else { return Ok(authority) };
        secret.data = Some(data(&stepped));
        let replaced = answered(secrets.replace(AUTHORITY_SECRET, &PostParams::default(), &secret)).await;
        metrics.write("proxy-authority", &replaced);
        replaced?;
        Ok(stepped)
    }

    /// Has cert-manager make it.
    async fn ask(
        &self,
        wanted: &WantedCertificate,
        now: SystemTime,
        metrics: &Metrics,
    ) -> Result<(Standing, SystemTime), WriteError> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
        let certificates = Api::<DynamicObject>::namespaced_with(self.client.clone(), &wanted.namespace, &kind);
        let existing = match answered(certificates.get_opt(&wanted.secret)).await {
            Ok(existing) => existing,
            Err(error) if error.status() == Some(403) => {
                let why = "the operator may not ask cert-manager: install Sidewall with operator.certManager=true";
                return Ok((Standing::Failed { why: why.to_owned() }, now + WAIT));
            }
            Err(error) => return Err(error),
        };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &wanted.namespace);
        let secret = answered(secrets.get_metadata_opt(&wanted.secret)).await?;
        let certificate: Option<Value> = existing.as_ref().and_then(|object| serde_json::to_value(object).ok());
        let parameters = PostParams { field_manager: Some(MANAGED_BY.to_owned()), ..PostParams::default() };
        let object = |value: Value| serde_json::from_value::<DynamicObject>(value).map_err(WriteError::Object);
        let decided = managed(wanted, certificate.as_ref(), secret.as_ref().map(|secret| &secret.metadata));
        let written = match decided {
            None => return Ok((Standing::Pending { why: "nobody is to sign it".to_owned() }, now + LOOK)),
            Some(Managed::Keep(standing)) => {
                let good = matches!(standing, Standing::Good { .. });
                return Ok((standing, if good { now + LOOK } else { now + WAIT }));
            }
            Some(Managed::NotOurs(whose)) => return Ok((Standing::Taken(whose), now + LOOK)),
            Some(Managed::Create(value)) => answered(certificates.create(&parameters, &object(value)?)).await,
            Some(Managed::Replace(value)) => {
                answered(certificates.replace(&wanted.secret, &parameters, &object(value)?)).await
            }
        };
        metrics.write("certificate", &written);
        match written {
            Ok(_) => Ok((Standing::Pending { why: "cert-manager was asked".to_owned() }, now + WAIT)),
            Err(error) if error.status() == Some(404) => {
                let why = "there is no cert-manager here: install it, or let the source be SelfManaged";
                Ok((Standing::Failed { why: why.to_owned() }, now + WAIT))
            }
            Err(error) => Err(error),
        }
    }
}

/// How it stands with the certificates of a SidecarProxy in whose namespace the operator may not touch Secrets.
pub fn issue_nothing(proxy: &SidecarProxy) -> BTreeMap<String, Standing> {
    let why = "the operator may not read and write Secrets in this namespace: list it in operator.secrets";
    let failed = Standing::Failed { why: why.to_owned() };
    wanted(proxy).into_iter().map(|wanted| (wanted.secret, failed.clone())).collect()
}
