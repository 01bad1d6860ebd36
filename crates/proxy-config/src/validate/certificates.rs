//! Certificates that are to be made.

use std::collections::BTreeMap;

use super::{Checker, Fault, Form};
use crate::certificate::is_of_some_namespace;
use crate::{CertificateRequest, CertificateSource, DNS_NAME_MAX, DNS_NAMES_MAX, ProxyConfig, is_dns_name};

impl Checker {
    pub(super) fn certificates(&mut self, config: &ProxyConfig) {
        let mut kept: BTreeMap<&str, (String, &CertificateRequest)> = BTreeMap::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let Some(tls) = &listener.tls else { continue };
            let Some(request) = &tls.certificate else { continue };
            let path = format!("listeners[{index}].tls.certificate");
            if self.form == Form::File {
                self.add(path, Fault::CertificateInFile);
                continue;
            }
            self.request(&path, request);
            let Some(secret) = &tls.secret_name else {
                // Where files are named instead, that is said already.
                if tls.cert_file.is_none() && tls.key_file.is_none() {
                    self.add(format!("listeners[{index}].tls.secretName"), Fault::NeededBy { other: "certificate" });
                }
                continue;
            };
            match kept.get(secret.as_str()) {
                Some((other, first)) if *first != request => {
                    self.add(path, Fault::OtherCertificate { other: other.clone() });
                }
                Some(_) => {}
                None => drop(kept.insert(secret, (path, request))),
            }
        }
        for (index, listener) in config.listeners.iter().enumerate() {
            for (way, authentication) in listener.authentication.iter().enumerate() {
                let secret = authentication.basic.as_ref().and_then(|basic| basic.secret_name.as_deref());
                if let Some((by, _)) = secret.and_then(|secret| kept.get(secret)) {
                    let path = format!("listeners[{index}].authentication[{way}].basic.secretName");
                    self.add(path, Fault::KeptSecret { by: by.clone() });
                }
            }
        }
    }

    fn request(&mut self, path: &str, request: &CertificateRequest) {
        let at = format!("{path}.issuerRef");
        match (request.source, &request.issuer_ref) {
            (CertificateSource::CertManager, None) => {
                self.add(at, Fault::NeededBy { other: "source: CertManager" });
            }
            (CertificateSource::SelfManaged, Some(_)) => {
                self.add(at, Fault::Excludes { other: "source: SelfManaged" });
            }
            (CertificateSource::CertManager, Some(issuer)) => {
                for (field, value) in [("name", &issuer.name), ("kind", &issuer.kind), ("group", &issuer.group)] {
                    let field = format!("{at}.{field}");
                    self.not_empty(&field, value);
                    if value.len() > DNS_NAME_MAX || value.chars().any(char::is_control) {
                        self.add(field, Fault::Text { max: DNS_NAME_MAX });
                    }
                }
            }
            (CertificateSource::SelfManaged, None) => {}
        }
        let names = &request.dns_names;
        if names.len() > DNS_NAMES_MAX {
            self.add(format!("{path}.dnsNames"), Fault::Count { count: names.len(), min: 0, max: DNS_NAMES_MAX });
        }
        for (index, name) in names.iter().enumerate() {
            let at = format!("{path}.dnsNames[{index}]");
            if !is_dns_name(name) {
                self.add(at, Fault::DnsName);
            } else if request.source == CertificateSource::SelfManaged && !is_of_some_namespace(name) {
                self.add(at, Fault::ForeignDnsName);
            } else if names[..index].contains(name) {
                self.add(at, Fault::Twice);
            }
        }
    }
}

#[cfg(test)]
mod tests;
