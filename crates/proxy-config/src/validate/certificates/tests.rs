use crate::{CertificateSource, Form, ProxyConfig};

fn of(tls: &[&str]) -> ProxyConfig {
    let listeners: Vec<String> = tls
        .iter()
        .enumerate()
        .map(|(index, tls)| {
            let (port, to) = (8000 + index, 9000 + index);
            format!(
                r#"{{"port": {port}, "forward": {{"port": {to}}}, "tls": {tls},
                   "authentication": [{{"basic": {{"secretName": "users", "key": "htpasswd"}}}}]}}"#
            )
        })
        .collect();
    serde_json::from_str(&format!(r#"{{"listeners": [{}]}}"#, listeners.join(","))).expect("it reads")
}

fn problems(tls: &[&str]) -> Vec<String> {
    let problems = of(tls).validate(Form::Cluster).err();
    problems.iter().flat_map(|problems| problems.as_slice()).map(ToString::to_string).collect()
}

#[test]
fn what_may_be_asked_for() {
    let config = of(&[r#"{"secretName": "web-tls", "certificate": {}}"#]);
    let request = config.listeners[0].tls.as_ref().and_then(|tls| tls.certificate.as_ref()).expect("the request");
    assert_eq!(request.source, CertificateSource::SelfManaged);
    let managed = r#"{"secretName": "a", "certificate": {"source": "CertManager", "issuerRef": {"name": "ca"},
        "dnsNames": ["shop.example.com", "*.example.com"]}}"#;
    let config = of(&[managed]);
    let request = config.listeners[0].tls.as_ref().and_then(|tls| tls.certificate.as_ref()).expect("the request");
    let issuer = request.issuer_ref.as_ref().expect("the issuer");
    assert_eq!((issuer.kind.as_str(), issuer.group.as_str()), ("Issuer", "cert-manager.io"));
    let own = r#"{"secretName": "web-tls", "certificate": {"dnsNames": ["web.shop.svc", "*.web.shop.svc.cluster.local", "localhost"]}}"#;
    assert_eq!(problems(&[managed, own, own, r#"{"secretName": "web-tls"}"#]), [""; 0]);
}

#[test]
fn what_may_not_be_asked_for() {
    for (tls, said) in [
        (r#"{"certificate": {}}"#, "tls: names no certificate"),
        (r#"{"certificate": {}}"#, "tls.secretName: is needed because `certificate` is set"),
        (
            r#"{"secretName": "a", "certificate": {"source": "CertManager"}}"#,
            "tls.certificate.issuerRef: is needed because `source: CertManager` is set",
        ),
        (
            r#"{"secretName": "a", "certificate": {"issuerRef": {"name": "ca"}}}"#,
            "tls.certificate.issuerRef: cannot stand beside `source: SelfManaged`",
        ),
        (
            r#"{"secretName": "a", "certificate": {"source": "CertManager", "issuerRef": {"name": "", "kind": "\n"}}}"#,
            "tls.certificate.issuerRef.kind: must have",
        ),
        (
            r#"{"secretName": "a", "certificate": {"dnsNames": ["web.shop.svc", "www.example.com"]}}"#,
            "tls.certificate.dnsNames[1]: is not signed by the operator's own authority",
        ),
        (
            r#"{"secretName": "a", "certificate": {"dnsNames": ["Web.shop.svc"]}}"#,
            "tls.certificate.dnsNames[0]: is no DNS name",
        ),
        (
            r#"{"secretName": "a", "certificate": {"dnsNames": ["localhost", "localhost"]}}"#,
            "tls.certificate.dnsNames[1]: is there already",
        ),
        (
            r#"{"secretName": "users", "certificate": {}}"#,
            "authentication[0].basic.secretName: is the Secret that the operator keeps for listeners[0].tls.certificate",
        ),
    ] {
        let found = problems(&[tls]);
        assert!(found.iter().any(|found| found.starts_with(&format!("listeners[0].{said}"))), "{tls}: {found:?}");
    }
    let many: Vec<String> = (0..33).map(|n| format!(r#""w{n}.shop.svc""#)).collect();
    let many = format!(r#"{{"secretName": "a", "certificate": {{"dnsNames": [{}]}}}}"#, many.join(","));
    assert_eq!(problems(&[&many]), ["listeners[0].tls.certificate.dnsNames: has 33 entries; 0 to 32 are allowed"]);
}

#[test]
fn one_secret_holds_one_certificate() {
    let one = r#"{"secretName": "a", "certificate": {"dnsNames": ["web.shop.svc"]}}"#;
    let other = r#"{"secretName": "a", "certificate": {}}"#;
    let found = problems(&[one, r#"{"secretName": "b", "certificate": {}}"#, other]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("listeners[2].tls.certificate: is not what listeners[0].tls.certificate asks for"));
}

#[test]
fn a_file_asks_for_no_certificate() {
    let found = of(&[r#"{"certFile": "a", "keyFile": "b", "certificate": {}}"#]).validate(Form::File).unwrap_err();
    assert!(found.as_slice().iter().any(|problem| problem.path == "listeners[0].tls.certificate"), "{found}");
}
