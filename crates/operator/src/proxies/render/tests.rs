use proptest::prelude::*;
use serde_json::json;
use sidewall_proxy_config::{Form, ProxyConfig};

use super::*;
use crate::admission::inject::Needs;
use crate::admission::probes::Original;
use crate::fixture::{Try, tls, web};

const POD: &str = "{name: app, image: a, livenessProbe: {httpGet: {port: 8080, path: /live}}, lifecycle: {preStop: {httpGet: \
                   {port: 8080, path: /stop}}}}";

fn needs(of: SidecarProxy) -> Needs {
    Try::containers(POD).by(of).patched().1.needs.unwrap()
}

fn read(text: &str) -> ProxyConfig {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn the_text_is_a_configuration_file_with_files_for_secrets_and_targets_for_probes() {
    let config = read(needs(tls()).config.text.as_str());
    assert_eq!(config.validate(Form::File), Ok(()));
    let listener = &config.listeners[0];
    assert_eq!(listener.tls.as_ref().unwrap().cert_file.as_deref(), Some("/etc/sidewall/secrets/web-tls/tls.crt"));
    let basic = listener.authentication[0].basic.as_ref().unwrap();
    assert_eq!(basic.htpasswd_file.as_deref(), Some("/etc/sidewall/secrets/web-users/htpasswd"));
    assert_eq!((&basic.secret_name, &basic.key), (&None, &None));
    let probes = config.probes.unwrap();
    assert_eq!(probes.port, 15411);
    let paths: Vec<String> = probes.targets.iter().map(|target| target.path()).collect();
    assert_eq!(paths[0], "/probe/app/liveness");
    assert!(paths[1].starts_with("/lifecycle/app/preStop/"));
    assert!(config.admin.unwrap().address.is_loopback());
}

#[test]
fn the_path_in_the_pod_is_the_path_in_the_configuration() {
    let (pod, patched) = Try::containers(POD).patched();
    let targets = read(patched.needs.unwrap().config.text.as_str()).probes.unwrap().targets;
    let app = &pod["spec"]["containers"][0];
    let in_pod = [&app["livenessProbe"]["httpGet"]["path"], &app["lifecycle"]["preStop"]["httpGet"]["path"]];
    let in_config: Vec<String> = targets.iter().map(|target| target.path()).collect();
    assert_eq!(in_pod.map(|path| path.as_str().unwrap().to_owned()).to_vec(), in_config);
}

#[test]
fn a_change_of_the_proxy_reaches_running_pods_under_the_same_name() {
    let Needs { record, originals, config, .. } = needs(tls());
    let ports = Ports::default();
    assert_eq!(render(&tls(), &record, &originals, ports).unwrap(), config);
    let mut changed = tls();
    changed.spec.listeners[0].authentication[0].basic.as_mut().unwrap().realm = "Staff".to_owned();
    let again = render(&changed, &record, &originals, ports).unwrap();
    assert_ne!(again.hash, config.hash);
    assert_eq!(config_name(&record, &originals), record.config);
}

#[test]
fn a_secret_that_the_pod_was_made_without_is_told() {
    let Needs { record, originals, .. } = needs(tls());
    let mut changed = tls();
    changed.spec.listeners[1].tls.as_mut().unwrap().secret_name = Some("new-tls".to_owned());
    let error = render(&changed, &record, &originals, Ports::default()).unwrap_err().to_string();
    assert!(error.contains("spec.listeners[1].tls.secretName") && error.contains("\"new-tls\""), "{error}");
    assert!(error.contains("rollout restart"), "{error}");
}

#[test]
fn a_record_that_names_somebody_elses_config_map_is_refused() {
    let Needs { mut record, originals, .. } = needs(web());
    record.config = "kube-root-ca.crt".to_owned();
    let error = render(&web(), &record, &originals, Ports::default()).unwrap_err().to_string();
    assert!(error.contains("\"kube-root-ca.crt\""), "{error}");
}

#[test]
fn a_listener_on_the_port_to_which_probes_were_led_is_refused() {
    let Needs { record, originals, .. } = needs(web());
    let mut changed = web();
    changed.spec.listeners[0].port = record.probe_port;
    let error = render(&changed, &record, &originals, Ports { probe: 1, admin: 2 }).unwrap_err().to_string();
    assert!(error.contains("probes.port"), "{error}");
}

#[test]
fn names_of_config_maps_are_names() {
    let Needs { mut record, originals, .. } = needs(web());
    for name in ["w".repeat(253), "a.".repeat(126) + "a", "x-".repeat(111) + "y"] {
        record.proxy = name;
        assert!(sidewall_api::names::is_dns_subdomain(&config_name(&record, &originals)), "{}", record.proxy);
    }
    let mut other = record.clone();
    other.probe_port = 1;
    assert_ne!(config_name(&record, &originals), config_name(&other, &originals));
}

#[test]
fn nothing_that_could_be_a_password_is_printed() {
    let mut needs = needs(web());
    let header = json!({"port": 8080, "httpHeaders": [{"name": "Authorization", "value": "Basic c2VjcmV0"}]});
    let original = needs.originals.get_mut("app").unwrap().values_mut().next().unwrap();
    *original = Original { http_get: Some(header), ..original.clone() };
    needs.record.config = config_name(&needs.record, &needs.originals);
    needs.config = render(&web(), &needs.record, &needs.originals, Ports::default()).unwrap();
    assert!(needs.config.text.as_str().contains("Basic c2VjcmV0"));
    let printed = format!("{needs:?}");
    assert!(!printed.contains("c2VjcmV0") && !printed.contains("preStop/"), "{printed}");
}

proptest! {
    #[test]
    fn what_is_written_is_what_was_meant(realm in "[^\\p{Cc}]{1,40}", path in "/[!-~ä]{0,30}", value in "[^\\p{Cc}]{0,30}") {
        let mut proxy = web();
        proxy.spec.listeners[0].authentication[0].basic.as_mut().unwrap().realm = realm.clone();
        let mut needs = needs(web());
        let words = json!({"port": 8080, "path": path, "httpHeaders": [{"name": "X", "value": value}]});
        let original = needs.originals.get_mut("app").unwrap().values_mut().next().unwrap();
        *original = Original { http_get: Some(words), ..original.clone() };
        needs.record.config = config_name(&needs.record, &needs.originals);
        let config = read(render(&proxy, &needs.record, &needs.originals, Ports::default()).unwrap().text.as_str());
        prop_assert_eq!(&config.listeners[0].authentication[0].basic.as_ref().unwrap().realm, &realm);
        let http = config.probes.unwrap().targets[0].http_get.clone().unwrap();
        prop_assert_eq!(http.path, path);
        prop_assert_eq!(&http.http_headers[0].value, &value);
    }
}

#[test]
fn who_makes_the_certificate_is_nothing_to_the_proxy() {
    let mut asks = tls();
    asks.spec.listeners[0].tls.as_mut().unwrap().certificate =
        Some(sidewall_proxy_config::CertificateRequest::default());
    let Needs { record, config, .. } = needs(asks.clone());
    assert_eq!(record.secrets, crate::proxies::secrets::needed(&tls()));
    assert_eq!(config, needs(tls()).config);
}
