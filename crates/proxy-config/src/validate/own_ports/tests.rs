use crate::{Admin, Capture, Form, HookKey, Occasion, Probes, ProxyConfig, Target};

const KEY: &str = "abcdefghijklmnopqrstuvwx";

fn config(rest: &str) -> ProxyConfig {
    let text = format!(
        r#"{{"listeners": [{{"port": 80, "anonymous": true, "forward": {{"port": 8080}}}},
            {{"port": 443, "address": "10.0.0.1", "anonymous": true, "forward": {{"port": 8080}}}}]{rest}}}"#
    );
    serde_json::from_str(&text).expect("the configuration reads")
}

fn problems(rest: &str, form: Form) -> Vec<String> {
    match config(rest).validate(form) {
        Ok(()) => Vec::new(),
        Err(problems) => problems.as_slice().iter().map(ToString::to_string).collect(),
    }
}

fn paths(rest: &str) -> Vec<String> {
    problems(rest, Form::File).iter().map(|text| text.split(": ").next().unwrap_or_default().to_owned()).collect()
}

fn target(rest: &str) -> Vec<String> {
    let base = r#""container": "app", "occasion": "readiness""#;
    paths(&format!(r#", "probes": {{"targets": [{{{base}, {rest}}}]}}"#))
        .into_iter()
        .map(|path| path.trim_start_matches("probes.targets[0]").trim_start_matches('.').to_owned())
        .collect()
}

#[test]
fn empty_blocks_mean_the_documented_ports() {
    let config = config(r#", "admin": {}, "probes": {}, "capture": {"inbound": [8080]}"#);
    assert_eq!(config.validate(Form::Cluster), Ok(()));
    let Admin { address, port } = config.admin.expect("admin");
    assert_eq!((address.to_string().as_str(), port), ("127.0.0.1", 15410));
    assert_eq!(config.probes, Some(Probes { port: 15411, address: None, targets: Vec::new() }));
    assert_eq!(config.capture, Some(Capture { inbound: vec![8080], port: 15412 }));
    assert_eq!(config.timeouts.unready_seconds, 3);
}

#[test]
fn own_ports_are_nobody_elses() {
    assert_eq!(problems(r#", "admin": {"port": 80}"#, Form::File).len(), 1);
    for (rest, expected) in [
        (r#", "admin": {"port": 80}"#, "admin.port"),
        (r#", "admin": {"port": 443}"#, "admin.port"),
        (r#", "admin": {"port": 8080}"#, "admin.port"),
        (r#", "admin": {"port": 0}"#, "admin.port"),
        (r#", "admin": {"port": 9}, "probes": {"port": 9}"#, "probes.port"),
        (r#", "probes": {"port": 80}"#, "probes.port"),
        (r#", "probes": {"port": 9}, "capture": {"port": 9, "inbound": [8080]}"#, "capture.port"),
    ] {
        assert_eq!(paths(rest), [expected], "{rest}");
    }
}

#[test]
fn a_captured_port_has_a_listener_behind_it_and_none_on_it() {
    for (inbound, expected) in [
        ("[]", vec!["capture.inbound"]),
        ("[0]", vec!["capture.inbound[0]"]),
        ("[8080, 8080]", vec!["capture.inbound[1]"]),
        ("[8080, 9090]", vec!["capture.inbound[1]"]),
        ("[80]", vec!["capture.inbound[0]"]),
        ("[8080]", vec![]),
    ] {
        assert_eq!(paths(&format!(r#", "capture": {{"inbound": {inbound}}}"#)), expected, "{inbound}");
    }
    let text = r#"{"listeners": [{"port": 80, "address": "10.0.0.1", "anonymous": true, "forward": {"port": 80}}],
        "capture": {"inbound": [80]}}"#;
    let config: ProxyConfig = serde_json::from_str(text).expect("it reads");
    let found = config.validate(Form::File).expect_err("the listener's own port").to_string();
    assert!(found.contains("capture.inbound[0]: port 80 is already taken by listeners[0].port"), "{found}");
}

#[test]
fn a_target_asks_one_thing_of_this_pod() {
    for (rest, expected) in [
        (r#""httpGet": {"port": 8080}"#, vec![]),
        (r#""httpGet": {"port": 8080, "host": "localhost", "scheme": "HTTPS", "path": "/ok?a=b"}"#, vec![]),
        (r#""tcpSocket": {"port": 8080, "host": "::1"}"#, vec![]),
        (r#""grpc": {"port": 8080, "service": "shop"}"#, vec![]),
        (r#""timeoutSeconds": 1"#, vec![""]),
        (r#""httpGet": {"port": 8080}, "grpc": {"port": 8080}"#, vec![""]),
        (r#""httpGet": {"port": 0}"#, vec!["httpGet.port"]),
        (r#""httpGet": {"port": 15411}"#, vec!["httpGet.port"]),
        (r#""tcpSocket": {"port": 8080, "host": "10.0.0.9"}"#, vec!["tcpSocket.host"]),
        (r#""httpGet": {"port": 8080, "host": "example.com"}"#, vec!["httpGet.host"]),
        (r#""httpGet": {"port": 8080, "path": "/a\r\nX: 1"}"#, vec!["httpGet.path"]),
        (
            r#""httpGet": {"port": 8080, "httpHeaders": [{"name": "a b", "value": "c\nd"}]}"#,
            vec!["httpGet.httpHeaders[0].name", "httpGet.httpHeaders[0].value"],
        ),
        (r#""grpc": {"port": 8080, "service": "a\nb"}"#, vec!["grpc.service"]),
        (r#""timeoutSeconds": 0, "tcpSocket": {"port": 8080}"#, vec!["timeoutSeconds"]),
        (r#""key": "abcdefghijklmnopqrstuvwx", "tcpSocket": {"port": 8080}"#, vec!["key"]),
    ] {
        assert_eq!(target(rest), expected, "{rest}");
    }
    let twice = r#"{"container": "app", "occasion": "liveness", "tcpSocket": {"port": 8080}}"#;
    assert_eq!(paths(&format!(r#", "probes": {{"targets": [{twice}, {twice}]}}"#)), ["probes.targets[1]"]);
    let named = r#"{"container": "../app", "occasion": "liveness", "tcpSocket": {"port": 8080}}"#;
    assert_eq!(paths(&format!(r#", "probes": {{"targets": [{named}]}}"#)), ["probes.targets[0].container"]);
    let found = problems(&format!(r#", "probes": {{"targets": [{twice}]}}"#), Form::Cluster);
    assert!(found.len() == 1 && found[0].starts_with("probes.targets: a SidecarProxy"), "{found:?}");
}

#[test]
fn a_hook_has_a_key_that_is_never_shown() {
    let hook =
        |rest: &str| format!(r#", "probes": {{"targets": [{{"container": "app", "occasion": "preStop", {rest}}}]}}"#);
    assert!(paths(&hook(&format!(r#""key": "{KEY}", "httpGet": {{"port": 8080}}"#))).is_empty());
    assert_eq!(paths(&hook(r#""httpGet": {"port": 8080}"#)), ["probes.targets[0].key"]);
    assert_eq!(paths(&hook(&format!(r#""key": "{KEY}", "tcpSocket": {{"port": 8080}}"#))), ["probes.targets[0]"]);
    for key in ["sesame", "sesame/sesame/sesame/sesame"] {
        let found = problems(&hook(&format!(r#""key": "{key}", "httpGet": {{"port": 8080}}"#)), Form::File);
        assert!(found.len() == 1 && found[0].starts_with("probes.targets[0].key") && !found[0].contains("sesame"));
    }
    let config = config(&hook(&format!(
        r#""key": "{KEY}", "httpGet": {{"port": 8080, "httpHeaders": [{{"name": "Authorization", "value": "Bearer t0p"}}]}}"#
    )));
    let shown = format!("{config:?}");
    assert!(!shown.contains(KEY) && !shown.contains("t0p"), "{shown}");
    let again: ProxyConfig = serde_json::from_str(&serde_json::to_string(&config).expect("written")).expect("read");
    assert_eq!(again, config);
}

#[test]
fn paths_name_container_and_occasion() {
    let target = |occasion, key: Option<&str>| Target {
        container: "app".to_owned(),
        occasion,
        key: key.map(HookKey::new),
        timeout_seconds: 1,
        http_get: None,
        tcp_socket: None,
        grpc: None,
    };
    assert_eq!(target(Occasion::Liveness, None).path(), "/probe/app/liveness");
    assert_eq!(target(Occasion::PostStart, Some(KEY)).path(), format!("/lifecycle/app/postStart/{KEY}"));
}
