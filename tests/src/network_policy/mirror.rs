//! A case's image: what it says of what may come in, said of what may go out, and the other way round.

use super::case::{Case, Step};
use super::expectation;
use serde_json::Value;

/// The image of a case.
///
/// # Panics
/// Where a policy leaves its types to be defaulted, which is not the same in both directions.
pub fn image(case: &Case) -> Case {
    let steps = case.steps.iter().map(|step| step_image(case, step)).collect();
    Case { family: case.family.clone(), title: format!("{} (mirrored)", case.title), steps }
}

fn step_image(case: &Case, step: &Step) -> Step {
    let mut image = step.clone();
    for (name, spec) in &mut image.apply {
        assert!(spec.get("policyTypes").is_some(), "{}: {}: {name} has no policyTypes", case.family, case.title);
        *spec = spec_image(spec);
    }
    image.expect = step.expect.iter().map(|line| expectation::image(line)).collect();
    image
}

fn spec_image(spec: &Value) -> Value {
    let fields = spec.as_object().expect("a spec is an object");
    let image = fields.iter().map(|(key, value)| match key.as_str() {
        "ingress" => ("egress".to_owned(), rules_image(value, "from", "to")),
        "egress" => ("ingress".to_owned(), rules_image(value, "to", "from")),
        "policyTypes" => (key.clone(), types_image(value)),
        _ => (key.clone(), value.clone()),
    });
    Value::Object(image.collect())
}

fn rules_image(rules: &Value, before: &str, after: &str) -> Value {
    let rule = |rule: &Value| -> Value {
        let fields = rule.as_object().expect("a rule is an object").iter();
        let name = |key: &String| if key == before { after.to_owned() } else { key.clone() };
        Value::Object(fields.map(|(key, value)| (name(key), value.clone())).collect())
    };
    match rules.as_array() {
        Some(rules) => rules.iter().map(rule).collect(),
        None => rules.clone(),
    }
}

fn types_image(types: &Value) -> Value {
    let other = |kind: &Value| if kind == "Ingress" { "Egress" } else { "Ingress" };
    types.as_array().expect("policyTypes is a list").iter().map(other).collect()
}
