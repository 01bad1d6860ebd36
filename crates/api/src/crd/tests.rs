use std::fs;
use std::path::Path;

use super::*;

#[test]
fn files_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let expected = crd_files();
    for (name, text) in &expected {
        let found = fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(&found == text, "deploy/crds/{name} is not current: run `cargo xtask crds`");
    }
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = expected.iter().any(|(file, _)| *file == name) || !name.ends_with(".yaml");
        assert!(known, "deploy/crds/{name} belongs to no kind of ours: remove it");
    }
}

#[test]
fn the_same_every_time() {
    assert_eq!(crd_yaml(), crd_yaml());
    assert_eq!(crd_files(), crd_files());
}

#[test]
fn yaml_says_what_the_objects_say() {
    let loaded = crate::load::load("crds.yaml", &crd_yaml());
    // CRDs are no objects of the loader: it passes each over with a warning, and finds nothing wrong with the text.
    assert_eq!(loaded.diagnostics.len(), 4, "{:?}", loaded.diagnostics);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
}

#[test]
fn names() {
    let crds = crds();
    let of = |i: usize| {
        let names = &crds[i].spec.names;
        (crds[i].metadata.name.clone().unwrap(), names.kind.clone(), names.short_names.clone().unwrap())
    };
    assert_eq!(
        of(0),
        ("containernetworkpolicies.sidewall.dev".into(), "ContainerNetworkPolicy".into(), vec!["ctnp".to_owned()])
    );
    assert_eq!(of(1), ("nodeenforcements.sidewall.dev".into(), "NodeEnforcement".into(), vec!["nenf".to_owned()]));
    assert_eq!(crds[1].spec.scope, "Cluster");
    assert_eq!(of(2), ("podsplits.sidewall.dev".into(), "PodSplit".into(), vec!["psplit".to_owned()]));
    assert_eq!(of(3), ("sidecarproxies.sidewall.dev".into(), "SidecarProxy".into(), vec!["scp".to_owned()]));
    let policy = &crds[0].spec.versions[0];
    assert!(policy.served && policy.storage);
    assert!(policy.subresources.as_ref().unwrap().status.is_some());
    assert!(policy.additional_printer_columns.as_ref().unwrap().iter().any(|c| c.json_path == ".spec.mode"));
}

/// The rules for structural schemas: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
#[test]
fn schemas_are_structural() {
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        structural(&serde_json::to_value(schema).unwrap(), &crd.spec.names.kind);
    }
}

fn structural(schema: &Value, at: &str) {
    for word in ["$ref", "$defs", "definitions", "oneOf", "anyOf", "allOf", "not", "const", "nullable"] {
        assert!(schema.get(word).is_none(), "{at} has {word}");
    }
    let int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    assert_eq!(schema.get("type").is_some(), !int_or_string, "{at}: a type, or int-or-string");
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        assert!(["int32", "int64", "cidr", "date-time"].contains(&format), "{at}: format {format}");
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    assert!(
        properties.is_none() || schema.get("additionalProperties").is_none(),
        "{at}: properties exclude additionalProperties"
    );
    for (name, property) in properties.into_iter().flatten() {
        structural(property, &format!("{at}.{name}"));
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(word) {
            structural(inner, &format!("{at}.{word}"));
        }
    }
    if schema.get("type") == Some(&"array".into()) {
        assert!(schema.get("items").is_some(), "{at}: a list needs items");
    }
}

#[test]
fn the_api_server_prunes_nothing_of_a_spec() {
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let mut objects = 0;
        keeps_unknown(schema.pointer("/properties/spec").unwrap(), &mut objects);
        // What a node writes of itself is no rule, and says only whose it is.
        let least = if crd.spec.names.kind == "NodeEnforcement" { 1 } else { 4 };
        assert!(objects >= least, "{}", crd.spec.names.kind);
    }
}

fn keeps_unknown(schema: &Value, objects: &mut usize) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        assert_eq!(schema.get("x-kubernetes-preserve-unknown-fields"), Some(&Value::Bool(true)), "{schema}");
        *objects += 1;
        properties.values().for_each(|property| keeps_unknown(property, objects));
    }
    schema.get("items").into_iter().for_each(|items| keeps_unknown(items, objects));
}

#[test]
fn lists_with_rules_are_bounded() {
    // The API server estimates the cost of CEL rules from these bounds, and refuses a schema without them.
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        bounded(schema.pointer("/properties/spec").unwrap(), &crd.spec.names.kind);
    }
}

/// Whether anything inside has a rule.
fn bounded(schema: &Value, at: &str) -> bool {
    let own = schema.get("x-kubernetes-validations").is_some();
    let mut inside = false;
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        inside |= bounded(property, &format!("{at}.{name}"));
    }
    if let Some(items) = schema.get("items") {
        let rules = bounded(items, &format!("{at}[]"));
        assert!(!rules || schema.get("maxItems").is_some(), "{at} has rules inside and no maxItems");
        inside |= rules;
    }
    own || inside
}

/// Each field of each kind, with its schema.
fn fields() -> Vec<(String, Value)> {
    fn walk(schema: &Value, at: &str, found: &mut Vec<(String, Value)>) {
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            found.push((format!("{at}.{name}"), property.clone()));
            walk(property, &format!("{at}.{name}"), found);
        }
        for word in ["items", "additionalProperties"] {
            schema.get(word).into_iter().for_each(|inner| walk(inner, &format!("{at}[]"), found));
        }
    }
    let mut found = Vec::new();
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        walk(&serde_json::to_value(schema).unwrap(), &crd.spec.names.kind, &mut found);
    }
    assert!(found.len() > 100, "{}", found.len());
    found
}

#[test]
fn every_field_is_explained_to_people() {
    for (at, schema) in fields() {
        let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(text.len() >= 5 && text.ends_with(['.', ':', '>', '`']), "{at}: {text:?}");
        // What only rustdoc reads.
        assert!(!text.contains("[`") && !text.contains("`]"), "{at}: {text:?}");
    }
}

#[test]
fn every_list_says_how_it_is_merged() {
    let mut maps = Vec::new();
    for (at, schema) in fields() {
        if schema.get("type") != Some(&"array".into()) {
            continue;
        }
        let (kind, items) =
            (schema.get("x-kubernetes-list-type").and_then(Value::as_str), schema.get("items").unwrap());
        match kind {
            Some("atomic") => {}
            Some("set") => assert!(["string", "integer"].contains(&items["type"].as_str().unwrap()), "{at}"),
            Some("map") => {
                let keys: Vec<String> =
                    serde_json::from_value(schema["x-kubernetes-list-map-keys"].clone()).unwrap_or_default();
                let required: Vec<String> = serde_json::from_value(items["required"].clone()).unwrap_or_default();
                assert!(!keys.is_empty() && keys.iter().all(|key| required.contains(key)), "{at}: {keys:?}");
                maps.push(format!("{at} by {}", keys.join(", ")));
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    assert_eq!(
        maps,
        [
            "ContainerNetworkPolicy.status.conditions by type",
            "PodSplit.spec.parts by name",
            "PodSplit.status.conditions by type",
            "SidecarProxy.spec.listeners by port",
            "SidecarProxy.status.conditions by type",
        ]
    );
}
