//! A certificate that cert-manager is asked for, by a `Certificate` object of its own (cert-manager.io/v1).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use sidewall_proxy_config::IssuerRef;

use super::{ANNOTATION_PROXY_UID, NotOurs, Signer, Standing, WantedCertificate};

/// The version of cert-manager's API.
const API: &str = "cert-manager.io/v1";

/// What is to become of a Certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Managed {
    /// Nothing. This is how it stands with what cert-manager makes of it.
    Keep(Standing),
    /// It is to be created.
    Create(Value),
    /// It is to be replaced: it bears the `resourceVersion` that was looked at.
    Replace(Value),
    /// It, or the Secret that it would have filled, is somebody else's.
    NotOurs(NotOurs),
}

/// What is to become of the Certificate of a [`WantedCertificate`] whose signer is [`Signer::CertManager`]; none for another.
/// `certificate` and `secret` are the Certificate and the Secret of its name as they are now.
///
/// cert-manager fills a Secret whoever has made it. So nothing is asked of it where there is one that is not ours.
pub fn managed(
    wanted: &WantedCertificate,
    certificate: Option<&Value>,
    secret: Option<&ObjectMeta>,
) -> Option<Managed> {
    let Signer::CertManager(issuer) = &wanted.signer else { return None };
    Some(decide(wanted, issuer, certificate, secret).unwrap_or_else(Managed::NotOurs))
}

fn decide(
    wanted: &WantedCertificate,
    issuer: &IssuerRef,
    certificate: Option<&Value>,
    secret: Option<&ObjectMeta>,
) -> Result<Managed, NotOurs> {
    if let Some(existing) = certificate {
        let metadata = existing.get("metadata").cloned().unwrap_or_default();
        // Metadata that can't be read bears no label of ours.
        let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap_or_default();
        wanted.owns("Certificate", &metadata)?;
    }
    if let Some(secret) = secret {
        wanted.owns_secret(secret)?;
    }
    let desired = object(wanted, issuer);
    let Some(existing) = certificate else { return Ok(Managed::Create(desired)) };
    if holds(existing.get("spec").unwrap_or(&Value::Null), &desired["spec"]) {
        return Ok(Managed::Keep(standing(existing)));
    }
    let mut replaced = existing.clone();
    replaced["spec"] = desired["spec"].clone();
    if let Some(metadata) = replaced.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(Managed::Replace(replaced))
}

/// The Certificate as it should be.
fn object(wanted: &WantedCertificate, issuer: &IssuerRef) -> Value {
    json!({
        "apiVersion": API,
        "kind": "Certificate",
        "metadata": wanted.metadata(),
        "spec": {
            "secretName": wanted.secret,
            "dnsNames": wanted.names,
            "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
            "usages": ["digital signature", "server auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "secretTemplate": {"annotations": {ANNOTATION_PROXY_UID: wanted.uid}},
        },
    })
}

/// Whether what there is has all that there should be: cert-manager fills in more.
fn holds(existing: &Value, desired: &Value) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => {
            desired.iter().all(|(key, value)| existing.get(key).is_some_and(|existing| holds(existing, value)))
        }
        _ => existing == desired,
    }
}

fn standing(certificate: &Value) -> Standing {
    let conditions = certificate.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let Some(ready) = ready else {
        return Standing::Pending { why: "cert-manager has not looked at its Certificate yet".to_owned() };
    };
    if ready["status"] == "True" {
        let until = certificate.pointer("/status/notAfter").and_then(Value::as_str);
        return Standing::Good { until: until.and_then(|at| at.parse::<jiff::Timestamp>().ok()).map(Into::into) };
    }
    let said = ready["message"].as_str().unwrap_or("it does not say why");
    Standing::Pending { why: format!("cert-manager: {said}") }
}
