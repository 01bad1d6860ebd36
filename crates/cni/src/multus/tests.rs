use super::*;

const THICK: &str = r#"{"capabilities":{"portMappings":true},"cniVersion":"0.3.1","logLevel":"verbose","name":"multus-cni-network","clusterNetwork":"/host/etc/cni/net.d/10-flannel.conflist","type":"multus-shim","daemonSocketDir":"/run/multus/"}"#;
const THIN: &str = r#"{
    "cniVersion": "1.0.0",
    "name": "multus-cni-network",
    "plugins": [ {
        "type": "multus",
        "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
        "delegates": [
            {"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap"}]}
        ]
    }]
}
"#;
const THIN_SINGLE: &str = r#"{ "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus",
    "delegates": [ { "cniVersion": "0.3.1", "name": "podnet", "type": "bridge" } , {"name":"other"} ] }"#;

#[test]
fn the_default_network_is_found() {
    assert_eq!(default_network(THICK).unwrap(), Some(Default::File("10-flannel.conflist".into())));
    let named = THICK.replace("/host/etc/cni/net.d/10-flannel.conflist", "cbr0");
    assert_eq!(default_network(&named).unwrap(), Some(Default::Name("cbr0".into())));
    assert_eq!(default_network(THIN).unwrap(), Some(Default::Copy("cbr0".into())));
    assert_eq!(default_network(THIN_SINGLE).unwrap(), Some(Default::Copy("podnet".into())));
    for other in [
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"flannel","delegates":[{}]},{"type":"multus"}]}"#,
        r#"{"cniVersion":"1.0.0","name":"n","type":"bridge"}"#,
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#,
        "{}",
    ] {
        assert_eq!(default_network(other).unwrap(), None, "{other}");
    }
    assert!(default_network(r#"{"type":"multus"}"#).is_err());
    assert!(default_network(r#"{"type":"multus","delegates":[{}]}"#).is_err());
    assert!(default_network("[]").is_err());
}

#[test]
fn a_copy_of_a_list_has_us_as_its_last() {
    let made = with(THIN, &Entry::default()).unwrap().unwrap();
    assert_eq!(made, THIN.replace(r#"{"type":"portmap"}]"#, r#"{"type":"portmap"},{"type":"sidewall-cni"}]"#));
    assert_eq!(with(&made, &Entry::default()).unwrap(), None);
    assert_eq!(without(&made).unwrap().unwrap(), THIN);
    assert_eq!(without(THIN).unwrap(), None);
}

#[test]
fn a_copy_of_a_single_configuration_becomes_a_list() {
    let made = with(THIN_SINGLE, &Entry::default()).unwrap().unwrap();
    insta::assert_snapshot!(made);
    assert_eq!(with(&made, &Entry::default()).unwrap(), None);
    assert_eq!(without(&made).unwrap().unwrap(), THIN_SINGLE);
    let newer = Entry { timeout_milliseconds: Some(500), ..Entry::default() };
    let changed = with(&made, &newer).unwrap().unwrap();
    assert_eq!(without(&changed).unwrap().unwrap(), THIN_SINGLE);
}
