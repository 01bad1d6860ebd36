use super::*;
use proptest::prelude::*;

const FLANNEL: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": { "hairpinMode": true,   "isDefaultGateway": true }
    },
    {
      "type": "portmap",
      "capabilities": { "portMappings": true }
    }
  ]
}
"#;

fn entry() -> Entry {
    Entry { socket: Some("/run/x/cni.sock".into()), ..Entry::default() }
}

fn with(text: &str) -> Option<String> {
    List::read(text).unwrap().with(&entry()).unwrap()
}

fn without(text: &str) -> Option<String> {
    List::read(text).unwrap().without().unwrap()
}

#[test]
fn our_entry_becomes_the_last_and_looks_like_the_others() {
    let made = with(FLANNEL).unwrap();
    let expected = FLANNEL
        .replace("    }\n  ]\n", "    },\n    {\"type\":\"sidewall-cni\",\"socket\":\"/run/x/cni.sock\"}\n  ]\n");
    assert_eq!(made, expected);
    let list = List::read(&made).unwrap();
    assert_eq!((list.name(), list.types().len(), list.behind_ours().len()), ("cbr0", 3, 0));
    assert_eq!(list.entry(), Some(entry()));
    assert_eq!(with(&made), None, "once is enough");
    assert_eq!(without(&made).unwrap(), FLANNEL);
    assert_eq!(without(FLANNEL), None);

    let dense = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;
    let made = with(dense).unwrap();
    assert_eq!(made, dense.replace("}]", r#"},{"type":"sidewall-cni","socket":"/run/x/cni.sock"}]"#));
    assert_eq!(without(&made).unwrap(), dense);
}

#[test]
fn our_entry_is_brought_up_to_date_where_it_stands() {
    let older = List::read(FLANNEL).unwrap().with(&Entry::default()).unwrap().unwrap();
    assert_eq!(with(&older), with(FLANNEL));
    // Written otherwise, by another installer that has written the list anew, but saying the same.
    let spaced = with(FLANNEL).unwrap().replace(r#""sidewall-cni","socket":"#, r#""sidewall-cni" , "socket": "#);
    assert_eq!(with(&spaced), None);
    let unknown = with(FLANNEL).unwrap().replace(r#""sidewall-cni","#, r#""sidewall-cni","later":1,"#);
    assert_eq!(with(&unknown), with(FLANNEL));
}

#[test]
fn who_wants_to_be_the_last_too_is_let() {
    let made = with(FLANNEL).unwrap().replace("\n  ]", ",\n    {\"type\":\"istio-cni\"}\n  ]");
    assert_eq!(with(&made), None);
    assert_eq!(List::read(&made).unwrap().behind_ours(), ["istio-cni"]);
    let rest = without(&made).unwrap();
    assert_eq!(rest, FLANNEL.replace("    }\n  ]\n", "    },\n    {\"type\":\"istio-cni\"}\n  ]\n"));
}

#[test]
fn copies_of_our_entry_go() {
    let ours = r#"{"type":"sidewall-cni"}"#;
    for plugins in [
        format!(r#"[{{"type":"a"}},{ours},{ours},{{"type":"b"}},{ours}]"#),
        format!(r#"[{ours} , {ours} ,{{"type":"a"}},{{"type":"b"}}]"#),
        format!(r#"[{ours},{{"type":"a"}},{{"type":"b"}},{ours}]"#),
    ] {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":{plugins}}}"#);
        let made = with(&text).unwrap();
        let list = List::read(&made).unwrap();
        assert_eq!(list.types().iter().filter(|kind| *kind == TYPE).count(), 1, "{made}");
        assert_ne!(list.types()[0], TYPE, "{made}");
        assert_eq!(with(&made), None);
        let rest = without(&text).unwrap();
        assert_eq!(List::read(&rest).unwrap().types(), ["a", "b"], "{rest}");
    }
}

#[test]
fn what_can_not_have_a_chain_is_refused() {
    for (text, words) in [
        ("", "can't be read"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "no list of plugins"),
        (r#"{"cniVersion":"1.1.0","name":"n"}"#, "no list of plugins"),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"bridge"}"#, "single plugin"),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#, "no name"),
        (r#"{"name":"n","plugins":[{"type":"a"}]}"#, "cniVersion is missing"),
        (r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}"#, "0.2.0"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"kind":"a"}]}"#, "plugin 1 has no type"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[7]}"#, "can't be read"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}],"plugins":[]}"#, "plugins stands there twice"),
    ] {
        let error = List::read(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let only_us = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"sidewall-cni"}]}"#;
    assert!(matches!(List::read(only_us).unwrap().with(&entry()), Err(ListError::NothingElse)));
    assert!(matches!(List::read(only_us).unwrap().without(), Err(ListError::NothingElse)));
}

#[test]
fn a_list_may_name_several_versions() {
    let text = r#"{"cniVersions":["1.0.0","1.2.0"],"name":"n","plugins":[{"type":"a"}]}"#;
    assert!(with(text).is_some());
}

#[test]
fn a_single_configuration_becomes_a_list() {
    let single = "{\n  \"cniVersion\": \"0.3.1\", \"name\" : \"podnet\",\n  \"Type\": \"bridge\",\n  \"mtu\": 1e3 }\n";
    let made = list_of(single, &entry()).unwrap();
    insta::assert_snapshot!(made);
    let list = List::read(&made).unwrap();
    assert_eq!((list.name(), list.types()), ("podnet", &["bridge".to_owned(), TYPE.to_owned()][..]));
    assert_eq!(list.plugins()[0], single.trim());
    for (text, words) in [
        (r#"{"cniVersion":"0.1.0","name":"n","type":"a"}"#, "0.1.0"),
        (r#"{"cniVersion":"1.0.0","name":"n"}"#, "no type"),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"sidewall-cni"}"#, "no plugin but"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}]}"#, "is a list"),
        (r#"{"cniVersion":"1.0.0","type":"a"}"#, "no name"),
    ] {
        let error = list_of(text, &entry()).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

/// JSON with white space drawn between its parts, and numbers that no reader keeps.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1.50e+400".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "[a-z\\[\\]{},:\"\\\\ é]{0,8}".prop_map(|text| Value::from(text).to_string()),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = "[a-z,\\]}]{0,4}".prop_map(|text| Value::from(text).to_string());
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), space()).prop_map(|(parts, space)| array(&parts, &space)),
            (prop::collection::vec((key, inner), 0..4), space()).prop_map(|(parts, space)| object(&parts, &space)),
        ]
    })
}

fn space() -> impl Strategy<Value = String> {
    "[ \n\t\r]{0,3}"
}

fn array(parts: &[String], space: &str) -> String {
    format!("[{space}{}{space}]", parts.join(&format!("{space},{space}")))
}

fn object(parts: &[(String, String)], space: &str) -> String {
    let parts: Vec<_> = parts.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
    format!("{{{space}{}{space}}}", parts.join(&format!("{space},{space}")))
}

/// A list of a network, with other members before and behind what counts, and other plugins.
fn list() -> impl Strategy<Value = String> {
    let plugin =
        ("[a-z]{1,6}", prop::collection::vec(("[A-S]{1,4}", json()), 0..3), space()).prop_map(|(kind, rest, space)| {
            let mut parts: Vec<_> = rest.into_iter().map(|(key, value)| (format!("\"{key}\""), value)).collect();
            parts.insert(parts.len() / 2, ("\"type\"".to_owned(), format!("\"{kind}\"")));
            object(&parts, &space)
        });
    let plugins = (prop::collection::vec(plugin, 1..5), space()).prop_map(|(plugins, space)| array(&plugins, &space));
    let others = || prop::collection::vec(("[A-Z]{1,4}", json()), 0..3);
    (plugins, others(), others(), space(), space()).prop_map(|(plugins, before, behind, inner, outer)| {
        let quote = |(key, value): (String, String)| (format!("\"{key}\""), value);
        let mut parts: Vec<_> = before.into_iter().map(quote).collect();
        parts.push(("\"cniVersion\"".to_owned(), "\"1.0.0\"".to_owned()));
        parts.push(("\"plugins\"".to_owned(), plugins));
        parts.push(("\"name\"".to_owned(), "\"n\"".to_owned()));
        parts.extend(behind.into_iter().map(quote));
        format!("{outer}{}{outer}", object(&parts, &inner))
    })
}

proptest! {
    #[test]
    fn adding_and_taking_away_gives_the_same_octets(text in list()) {
        let made = with(&text).unwrap();
        prop_assert_eq!(with(&made), None);
        prop_assert_eq!(without(&made), Some(text.clone()));
        prop_assert_eq!(without(&text), None);
        // Besides our entry, everything is there, as it was and in its order.
        let (before, after) = (List::read(&text).unwrap(), List::read(&made).unwrap());
        prop_assert_eq!(before.plugins(), &after.plugins()[..before.plugins().len()]);
        prop_assert_eq!(after.types().last().map(String::as_str), Some(TYPE));
        let others = |text: &str| {
            let found = members(text).unwrap().into_iter().filter(|member| member.key != "plugins");
            found.map(|member| (member.key, member.value.to_owned())).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&text), others(&made));
    }

    #[test]
    fn any_text_is_read_or_refused(text in json()) {
        if let Ok(list) = List::read(&text) {
            let _ = (list.with(&entry()), list.without());
        }
        let _ = list_of(&text, &entry());
        let _ = crate::multus::default_network(&text);
    }
}
