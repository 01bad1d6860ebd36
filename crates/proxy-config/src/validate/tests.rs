use super::*;

fn read(json: &str) -> ProxyConfig {
    serde_json::from_str(json).expect("the configuration reads")
}

fn problems(json: &str, form: Form) -> Vec<String> {
    match read(json).validate(form) {
        Ok(()) => Vec::new(),
        Err(problems) => problems.as_slice().iter().map(ToString::to_string).collect(),
    }
}

fn paths(json: &str, form: Form) -> Vec<String> {
    match read(json).validate(form) {
        Ok(()) => Vec::new(),
        Err(problems) => problems.as_slice().iter().map(|problem| problem.path.clone()).collect(),
    }
}

const FILE: &str = r#"{"listeners": [{"port": 80, "forward": {"port": 8080},
    "authentication": [{"basic": {"htpasswdFile": "users"}}]}]}"#;
const CLUSTER: &str = r#"{"listeners": [{"port": 443, "forward": {"port": 8080, "protocol": "HTTP"},
    "tls": {"secretName": "web-tls", "minVersion": "1.3"},
    "authentication": [{"basic": {"secretName": "web-users", "key": "htpasswd", "realm": "Shop"}}]}]}"#;

#[test]
fn each_form_is_accepted_where_it_belongs_and_nowhere_else() {
    assert!(problems(FILE, Form::File).is_empty());
    assert!(problems(CLUSTER, Form::Cluster).is_empty());
    assert_eq!(paths(FILE, Form::Cluster), ["listeners[0].authentication[0].basic.htpasswdFile"]);
    assert_eq!(
        paths(CLUSTER, Form::File),
        ["listeners[0].tls.secretName", "listeners[0].authentication[0].basic.secretName"]
    );
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = read(FILE);
    let basic = config.listeners[0].authentication[0].basic.as_ref().expect("basic");
    assert_eq!(basic.realm, "Protected");
    assert_eq!(config.listeners[0].forward.protocol, Protocol::Http);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.timeouts.drain_seconds, 30);
    assert!(!config.listeners[0].anonymous);
}

#[test]
fn a_listener_without_authentication_is_refused_unless_it_says_anonymous() {
    let open = r#"{"listeners": [{"port": 80, "forward": {"port": 8080}}]}"#;
    assert_eq!(paths(open, Form::File), ["listeners[0].authentication"]);
    let empty = r#"{"listeners": [{"port": 80, "forward": {"port": 8080}, "authentication": []}]}"#;
    assert_eq!(paths(empty, Form::File), ["listeners[0].authentication"]);
    let anonymous = r#"{"listeners": [{"port": 80, "forward": {"port": 8080}, "anonymous": true}]}"#;
    assert!(problems(anonymous, Form::File).is_empty());
    let both = r#"{"listeners": [{"port": 80, "forward": {"port": 8080}, "anonymous": true,
        "authentication": [{"basic": {"htpasswdFile": "u"}}]}]}"#;
    assert_eq!(paths(both, Form::File), ["listeners[0].anonymous"]);
}

#[test]
fn unknown_and_unenforced_fields_are_errors() {
    for (json, field) in [
        (r#"{"listeners": [], "capture": {"inbound": [8080], "outbound": []}}"#, "outbound"),
        (r#"{"listeners": [], "admin": {"token": "a"}}"#, "token"),
        (r#"{"listeners": [], "probes": {"target": []}}"#, "target"),
        (
            r#"{"listeners": [], "probes": {"targets": [{"container": "a", "occasion": "liveness", "exec": {}}]}}"#,
            "exec",
        ),
        (r#"{"listeners": [], "podSelector": {}}"#, "podSelector"),
        (r#"{"listeners": [{"port": 1, "forward": {"port": 2}, "authorization": {"rules": []}}]}"#, "authorization"),
        (r#"{"listeners": [{"port": 1, "forward": {"port": 2}, "authentication": [{"jwt": {}}]}]}"#, "jwt"),
        (r#"{"listeners": [{"port": 1, "forward": {"port": 2}, "tls": {"clientCA": {}}}]}"#, "clientCA"),
        (r#"{"listeners": [], "limits": {"header": 1}}"#, "header"),
        (r#"{"listeners": [], "timeouts": {"idle": 1}}"#, "idle"),
    ] {
        let error = serde_json::from_str::<ProxyConfig>(json).expect_err("an unknown field").to_string();
        assert!(error.contains(&format!("`{field}`")), "{error}");
    }
}

#[test]
fn protocols_that_are_not_spoken_yet_are_refused_in_words() {
    for protocol in ["HTTP2", "TCP"] {
        let json = format!(
            r#"{{"listeners": [{{"port": 80, "anonymous": true, "forward": {{"port": 8080, "protocol": "{protocol}"}}}}]}}"#
        );
        let found = problems(&json, Form::File);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("listeners[0].forward.protocol: "), "{found:?}");
        assert!(found[0].contains("not supported yet"), "{found:?}");
    }
}

#[test]
fn half_a_source_names_the_missing_field() {
    let with = |tls: &str, basic: &str| {
        format!(
            r#"{{"listeners": [{{"port": 80, "forward": {{"port": 8080}}, "tls": {tls},
                "authentication": [{{"basic": {basic}}}]}}]}}"#
        )
    };
    for (tls, basic, expected) in [
        (r#"{"certFile": "c"}"#, r#"{"htpasswdFile": "u"}"#, "listeners[0].tls.keyFile"),
        (r#"{"keyFile": "k"}"#, r#"{"htpasswdFile": "u"}"#, "listeners[0].tls.certFile"),
        (r#"{}"#, r#"{"htpasswdFile": "u"}"#, "listeners[0].tls"),
        (
            r#"{"certFile": "c", "keyFile": "k", "secretName": "s"}"#,
            r#"{"htpasswdFile": "u"}"#,
            "listeners[0].tls.certFile",
        ),
        (r#"{"certFile": "", "keyFile": "k"}"#, r#"{"htpasswdFile": "u"}"#, "listeners[0].tls.certFile"),
        (r#"{"certFile": "c", "keyFile": "k"}"#, r#"{}"#, "listeners[0].authentication[0].basic"),
        (r#"{"certFile": "c", "keyFile": "k"}"#, r#"{"secretName": "s"}"#, "listeners[0].authentication[0].basic.key"),
        (
            r#"{"certFile": "c", "keyFile": "k"}"#,
            r#"{"key": "k", "htpasswdFile": "u"}"#,
            "listeners[0].authentication[0].basic.htpasswdFile",
        ),
        (
            r#"{"certFile": "c", "keyFile": "k"}"#,
            r#"{"htpasswdFile": "u", "realm": "a\nb"}"#,
            "listeners[0].authentication[0].basic.realm",
        ),
        (
            r#"{"certFile": "c", "keyFile": "k"}"#,
            r#"{"htpasswdFile": "u", "realm": ""}"#,
            "listeners[0].authentication[0].basic.realm",
        ),
    ] {
        assert_eq!(paths(&with(tls, basic), Form::File), [expected], "{tls} {basic}");
    }
}

#[test]
fn ports_may_not_clash_nor_loop() {
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"listeners": [
                {{"port": 80, {first} "anonymous": true, "forward": {{"port": 8080}}}},
                {{"port": 80, {second} "anonymous": true, "forward": {{"port": 8080}}}}]}}"#
        )
    };
    assert_eq!(paths(&two("", ""), Form::File), ["listeners[1].port"]);
    assert_eq!(paths(&two(r#""address": "10.0.0.1","#, ""), Form::File), ["listeners[1].port"]);
    assert_eq!(paths(&two(r#""address": "0.0.0.0","#, r#""address": "10.0.0.1","#), Form::File), ["listeners[1].port"]);
    assert!(paths(&two(r#""address": "10.0.0.1","#, r#""address": "10.0.0.2","#), Form::File).is_empty());
    assert!(paths(&two(r#""address": "0.0.0.0","#, r#""address": "::","#), Form::File).is_empty());

    let itself = r#"{"listeners": [{"port": 80, "anonymous": true, "forward": {"port": 80}}]}"#;
    assert_eq!(paths(itself, Form::File), ["listeners[0].forward.port"]);
    let own_address =
        r#"{"listeners": [{"port": 80, "address": "10.0.0.1", "anonymous": true, "forward": {"port": 80}}]}"#;
    assert!(paths(own_address, Form::File).is_empty());
    let zero = r#"{"listeners": [{"port": 0, "anonymous": true, "forward": {"port": 0}}]}"#;
    assert_eq!(paths(zero, Form::File), ["listeners[0].port", "listeners[0].forward.port"]);
    let none = r#"{"listeners": []}"#;
    assert_eq!(paths(none, Form::File), ["listeners"]);
}

#[test]
fn all_problems_come_at_once_and_bounds_name_their_field() {
    let json = r#"{"listeners": [{"port": 80, "forward": {"port": 8080, "protocol": "TCP"}},
        {"port": 81, "forward": {"port": 0}, "authentication": [{}, {"basic": {"htpasswdFile": "a"}}, {"basic": {"htpasswdFile": "b"}}]}],
        "limits": {"headerBytes": 1, "passwordChecks": 0}, "timeouts": {"drainSeconds": 0}}"#;
    assert_eq!(
        paths(json, Form::File),
        [
            "listeners[0].forward.protocol",
            "listeners[0].authentication",
            "listeners[1].forward.port",
            "listeners[1].authentication[0]",
            "listeners[1].authentication[2].basic",
            "limits.headerBytes",
            "limits.passwordChecks",
            "timeouts.drainSeconds",
        ]
    );
}

#[test]
fn what_is_written_reads_back() {
    for json in [FILE, CLUSTER] {
        let config = read(json);
        let text = serde_json::to_string(&config).expect("it serialises");
        assert_eq!(read(&text), config);
    }
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_knows_every_field_and_no_other() {
    let schema = serde_json::to_value(schemars::schema_for!(ProxyConfig)).expect("a schema");
    assert_eq!(schema["additionalProperties"], false);
    let fields = |of: &serde_json::Value| -> Vec<String> {
        of["properties"].as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(fields(&schema), ["admin", "capture", "limits", "listeners", "probes", "timeouts"]);
    let definitions = &schema["$defs"];
    assert_eq!(fields(&definitions["Listener"]), ["address", "anonymous", "authentication", "forward", "port", "tls"]);
    assert_eq!(fields(&definitions["Tls"]), ["certFile", "certificate", "keyFile", "minVersion", "secretName"]);
    assert_eq!(fields(&definitions["Basic"]), ["htpasswdFile", "key", "realm", "secretName"]);
}
