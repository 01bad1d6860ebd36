use super::*;
use crate::entry::TYPE;

const BRIDGE: &str = r#"{"cniVersion":"0.4.0","name":"podnet","type":"bridge"}"#;
const LIST: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap"}]}"#;

fn files(of: &[(&str, &str)]) -> Files {
    of.iter().map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned()))).collect()
}

/// The files after a plan.
fn after(files: &Files, plan: &Plan) -> Files {
    let mut made = files.clone();
    for step in &plan.steps {
        let there = made.get(&step.name).map(|file| file.clone().unwrap());
        assert_eq!(there, step.from, "{}", step.name);
        match &step.to {
            Some(text) => made.insert(step.name.clone(), Ok(text.clone())),
            None => made.remove(&step.name),
        };
    }
    made
}

/// Installs, sees that doing so again changes nothing and that uninstalling restores everything; gives the chained
/// files.
fn installed(before: &Files) -> (Files, Vec<String>) {
    let plan = install(before, &Entry::default()).unwrap();
    let made = after(before, &plan);
    let again = install(&made, &Entry::default()).unwrap();
    assert!(again.steps.is_empty(), "{:#?}", again.steps);
    let undo = uninstall(&made);
    assert_eq!(&after(&made, &undo), before);
    assert!(uninstall(before).steps.is_empty());
    let mut chained: Vec<_> = plan.chained.iter().map(|chained| chained.file.clone()).collect();
    chained.sort();
    (made, chained)
}

/// The types of the first configuration's plugins.
fn first_types(files: &Files) -> Vec<String> {
    let first = in_order(files.keys().map(String::as_str))[0];
    List::read(files[first].as_ref().unwrap()).unwrap().types().to_vec()
}

#[test]
fn the_first_list_is_chained_and_no_other() {
    let before = files(&[("10-flannel.conflist", LIST), ("20-other.conflist", LIST), ("99-loopback.conf", "{}")]);
    let (made, chained) = installed(&before);
    assert_eq!(chained, ["10-flannel.conflist"]);
    assert_eq!(first_types(&made), ["flannel", "portmap", TYPE]);
    assert_eq!(made["20-other.conflist"], before["20-other.conflist"]);
}

#[test]
fn a_single_configuration_gets_a_list_that_comes_before_it() {
    let before = files(&[("10-bridge.conf", BRIDGE), ("10-bridge.conflist", LIST)]);
    let (made, chained) = installed(&before);
    assert_eq!(chained, ["10-bridge.00-sidewall.conflist"]);
    assert_eq!(first_types(&made), ["bridge", TYPE]);
    assert_eq!(made["10-bridge.conf"], before["10-bridge.conf"]);
}

#[test]
fn a_list_beside_follows_its_file() {
    let before = files(&[("10-bridge.conf", BRIDGE)]);
    let (mut made, _) = installed(&before);
    // The network's own installer writes another configuration.
    let changed = BRIDGE.replace("bridge", "ptp");
    made.insert("10-bridge.conf".into(), Ok(changed));
    let made = after(&made, &install(&made, &Entry::default()).unwrap());
    assert_eq!(first_types(&made), ["ptp", TYPE]);
    // Somebody else puts itself into our list: that stays.
    let mut joined = made.clone();
    let beside = joined["10-bridge.00-sidewall.conflist"].clone().unwrap();
    let beside = beside.replace("\n  ]", ",\n    {\"type\":\"istio-cni\"}\n  ]");
    joined.insert("10-bridge.00-sidewall.conflist".into(), Ok(beside));
    let plan = install(&joined, &Entry::default()).unwrap();
    assert!(plan.steps.is_empty(), "{:#?}", plan.steps);
    assert_eq!(plan.chained[0].behind, ["istio-cni"]);
    // The network is taken away: our list must not keep it alive.
    let mut gone = made;
    gone.remove("10-bridge.conf");
    gone.insert("20-new.conflist".into(), Ok(LIST.into()));
    let made = after(&gone, &install(&gone, &Entry::default()).unwrap());
    assert_eq!(made.keys().collect::<Vec<_>>(), ["20-new.conflist"]);
    assert_eq!(first_types(&made), ["flannel", "portmap", TYPE]);
}

#[test]
fn another_installer_that_writes_the_list_anew_is_followed() {
    let before = files(&[("10-flannel.conflist", LIST)]);
    let (made, _) = installed(&before);
    let mut rewritten = made;
    rewritten.insert("10-flannel.conflist".into(), Ok(LIST.into()));
    let again = after(&rewritten, &install(&rewritten, &Entry::default()).unwrap());
    assert_eq!(first_types(&again), ["flannel", "portmap", TYPE]);
}

#[test]
fn what_no_runtime_loads_is_passed_over_and_told() {
    let mut before = files(&[("05-broken.conflist", "{"), ("06-list.conf", LIST), ("10-flannel.conflist", LIST)]);
    before.insert("07-long.conf".into(), Err(Unreadable::Long));
    let plan = install(&before, &Entry::default()).unwrap();
    let skipped: Vec<_> = plan.skipped.iter().map(|skipped| skipped.file.as_str()).collect();
    assert_eq!(skipped, ["05-broken.conflist", "06-list.conf", "07-long.conf"]);
    assert_eq!(plan.chained[0].file, "10-flannel.conflist");
}

#[test]
fn without_a_network_there_is_nothing_to_do_yet() {
    assert!(matches!(install(&Files::new(), &Entry::default()), Err(Problem::NoNetwork)));
    let broken = install(&files(&[("10-a.conflist", "{")]), &Entry::default()).unwrap_err().to_string();
    assert!(broken.contains("can't be read"), "{broken}");
    let long = format!("{}.conf", "x".repeat(245));
    assert!(matches!(install(&files(&[(&long, BRIDGE)]), &Entry::default()), Err(Problem::NameTooLong(_))));
}

const THICK: &str =
    r#"{"cniVersion":"0.3.1","name":"multus-cni-network","clusterNetwork":"NETWORK","type":"multus-shim"}"#;
const THIN: &str =
    r#"{"cniVersion":"1.0.0","name":"multus-cni-network","plugins":[{"type":"multus","delegates":[DELEGATE]}]}"#;

#[test]
fn behind_multus_the_default_networks_file_is_chained() {
    for network in ["/host/etc/cni/net.d/10-flannel.conflist", "cbr0"] {
        let multus = THICK.replace("NETWORK", network);
        let before = files(&[("00-multus.conf", &multus), ("10-flannel.conflist", LIST)]);
        let (made, chained) = installed(&before);
        assert_eq!(chained, ["10-flannel.conflist"]);
        assert_eq!(made["00-multus.conf"], before["00-multus.conf"]);
    }
    let multus = THICK.replace("NETWORK", "podnet");
    let (made, chained) = installed(&files(&[("00-multus.conf", &multus), ("10-bridge.conf", BRIDGE)]));
    assert_eq!(chained, ["10-bridge.00-sidewall.conflist"], "by its name, the first that has it");
    assert!(made.contains_key("10-bridge.conf"));
}

#[test]
fn what_multus_has_elsewhere_is_told() {
    for (network, words) in [
        ("/x/10-none.conflist", "not in this directory"),
        ("nad", "not in this directory"),
        ("/x/10-bridge.conf", "no list"),
    ] {
        let multus = THICK.replace("NETWORK", network);
        let error = install(&files(&[("00-multus.conf", &multus), ("10-bridge.conf", BRIDGE)]), &Entry::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn multus_copy_is_chained_and_the_file_it_is_made_from() {
    let multus = THIN.replace("DELEGATE", LIST);
    let before = files(&[("00-multus.conflist", &multus), ("10-flannel.conflist", LIST)]);
    let (made, chained) = installed(&before);
    assert_eq!(chained, ["00-multus.conflist", "10-flannel.conflist"]);
    // What Multus makes of the file is what we have made of its copy.
    let remade = THIN.replace("DELEGATE", made["10-flannel.conflist"].as_ref().unwrap());
    assert_eq!(made["00-multus.conflist"].as_ref().unwrap(), &remade);

    let multus = THIN.replace("DELEGATE", BRIDGE);
    let before = files(&[("00-multus.conflist", &multus), ("10-bridge.conf", BRIDGE)]);
    let (made, chained) = installed(&before);
    assert_eq!(chained, ["00-multus.conflist", "10-bridge.00-sidewall.conflist"]);
    // The entrypoint takes the first file that is not Multus' own.
    let first = in_order(made.keys().map(String::as_str)).into_iter().find(|name| !name.starts_with("00-multus.conf"));
    assert_eq!(first, Some("10-bridge.00-sidewall.conflist"));

    let (_, chained) = installed(&files(&[("00-multus.conflist", &multus), ("10-other.conflist", LIST)]));
    assert_eq!(chained, ["00-multus.conflist"], "another network is left alone");
}
