use super::*;
use crate::fixture::{split, split_of};

fn with_link(link: Value) -> PodSplit {
    let mut split = split();
    split.spec.link = serde_json::from_value(link).expect("a link");
    split
}

fn config_of(link: Value) -> Value {
    let definition = definition(&with_link(link)).expect("one of ours");
    serde_json::from_str(definition["spec"]["config"].as_str().expect("text")).expect("JSON")
}

#[test]
fn a_link_that_nobody_describes_is_a_bridge() {
    let definition = definition(&split()).expect("one of ours");
    assert_eq!(
        (&definition["kind"], &definition["metadata"]["name"]),
        (&json!("NetworkAttachmentDefinition"), &json!("sidewall-web"))
    );
    assert_eq!(definition["metadata"]["ownerReferences"][0]["uid"], "split-uid");
    let config = config_of(json!({}));
    assert_eq!(config["type"], "bridge");
    assert_eq!((&config["isGateway"], &config["ipMasq"]), (&json!(false), &json!(false)));
    let bridge = config["bridge"].as_str().expect("a name");
    assert!(bridge.len() <= 15 && bridge.starts_with("sw-"), "{bridge}");
    assert_eq!(config["ipam"], json!({"type": "host-local", "ranges": [[{"subnet": "10.213.0.0/16"}]]}));
    assert!(config.get("routes").is_none() && config["ipam"].get("routes").is_none());
}

#[test]
fn two_splits_have_two_links() {
    let bridge = |namespace: &str, name: &str| {
        let mut split = split();
        split.metadata.namespace = Some(namespace.to_owned());
        split.metadata.name = Some(name.to_owned());
        let config: Value =
            serde_json::from_str(definition(&split).expect("ours")["spec"]["config"].as_str().expect("text"))
                .expect("JSON");
        (config["bridge"].clone(), config["name"].clone())
    };
    assert_ne!(bridge("shop", "web"), bridge("bank", "web"));
    assert_ne!(bridge("shop", "web"), bridge("shop", "web2"));
    assert_eq!(bridge("shop", "web"), bridge("shop", "web"));
}

#[test]
fn a_link_is_what_is_asked_for() {
    let config = config_of(json!({
        "type": "Macvlan", "parent": "eth1", "ipam": "Whereabouts", "subnets": ["10.1.0.0/24", "fd00::/64"],
    }));
    assert_eq!(
        (&config["type"], &config["master"], &config["mode"]),
        (&json!("macvlan"), &json!("eth1"), &json!("bridge"))
    );
    assert_eq!(config["ipam"]["type"], "whereabouts");
    assert_eq!(config["ipam"]["ipRanges"], json!([{"range": "10.1.0.0/24"}, {"range": "fd00::/64"}]));
    assert_eq!(config["ipam"]["network_name"], config["name"]);
    let config = config_of(json!({"type": "Macvlan", "subnets": ["10.1.0.0/24", "fd00::/64"]}));
    assert!(config.get("master").is_none());
    assert_eq!(config["ipam"]["ranges"], json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]));
}

#[test]
fn a_link_of_the_users_is_left_to_him() {
    let split = with_link(json!({"network": {"name": "mine"}}));
    assert_eq!((link(&split).to_string(), definition(&split)), ("shop/mine".to_owned(), None));
    let long = {
        let mut split = split_of(json!([{"name": "a", "containers": ["b"]}]));
        split.metadata.name = Some("x".repeat(253));
        link(&split).name
    };
    assert!(sidewall_api::names::is_dns_subdomain(&long), "{long}");
}

fn network(text: &str) -> NetworkName {
    NetworkName::parse(text, "shop").expect("a name")
}

#[test]
fn networks_are_added_in_the_form_that_is_there() {
    let link = network("shop/sidewall-web");
    let added = |text: Option<&str>| attach(text, "shop", &link, None).expect("it can be added");
    let ours = json!({"name": "sidewall-web", "namespace": "shop", "interface": "link0"});
    assert_eq!(added(None), json!([ours]).to_string());
    assert_eq!(added(Some("  ")), json!([ours]).to_string());
    assert_eq!(added(Some("net-a, ns/net-b@eth5")), "net-a,ns/net-b@eth5,shop/sidewall-web@link0");
    let other = json!({"name": "net-a", "ips": ["10.0.0.2/24"], "interface": "net1"});
    assert_eq!(added(Some(&json!([other]).to_string())), json!([other, ours]).to_string());
}

#[test]
fn adding_twice_is_adding_once_and_a_link_that_changed_is_replaced() {
    let (link, next) = (network("shop/sidewall-web"), network("shop/mine"));
    for text in [None, Some("net-a"), Some(r#"[{"name":"net-a"}]"#)] {
        let once = attach(text, "shop", &link, None).expect("it can be added");
        assert_eq!(attach(Some(&once), "shop", &link, Some(&link)).expect("it is there"), once);
        let moved = attach(Some(&once), "shop", &next, Some(&link)).expect("it can be replaced");
        assert_eq!(moved, attach(text, "shop", &next, None).expect("it can be added"), "{once}");
    }
}

#[test]
fn a_device_that_is_taken_and_text_that_is_no_list_are_refused() {
    let link = network("shop/sidewall-web");
    for taken in ["net-a@link0", "shop/sidewall-web@link0", r#"[{"name": "a", "interface": "link0"}]"#] {
        assert!(matches!(attach(Some(taken), "shop", &link, None), Err(AttachError::Taken)), "{taken}");
    }
    for bad in ["[", "{}", "[1]", "\"a\""] {
        assert!(matches!(attach(Some(bad), "shop", &link, None), Err(AttachError::Unreadable(_))), "{bad}");
    }
    let long = "a,".repeat(NETWORKS_MAX);
    assert!(matches!(attach(Some(&long), "shop", &link, None), Err(AttachError::Unreadable(_))));
}
