//! Checks the shape of an object against its schema, before serde reads it.
//!
//! serde stops at the first error, and the types of the Kubernetes library pass over fields that they do not know: a
//! `runAsUsr` would leave a container without its user. This finds every unknown field, missing field, wrong type and
//! wrong word at once, each at its place.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::problem::{FieldPath, Problem, Severity};

/// The schema of one kind of object.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    root: Value,
    /// Fields of the root under which an unknown field is only worth a warning, because nobody writes them by hand.
    reported: &'static [&'static str],
    /// Whether a field without a value is an error. Otherwise it counts as absent, as the API server has it.
    strict_null: bool,
}

impl Shape {
    /// The shape of a kind of Kubernetes itself. Newer versions add fields to its status, which are only warned of.
    pub(crate) fn core<T: JsonSchema>() -> Self {
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
        Self { root: schema.to_value(), reported: &["status"], strict_null: false }
    }

    /// The shape of a kind of ours, from the schema of its CustomResourceDefinition.
    pub(crate) fn custom(mut schema: Value) -> Self {
        let meta = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<ObjectMeta>();
        let mut meta = meta.to_value();
        let defs = meta.as_object_mut().and_then(|meta| meta.remove("$defs")).unwrap_or_default();
        if let Some(properties) = schema.pointer_mut("/properties").and_then(Value::as_object_mut) {
            properties.insert("metadata".to_owned(), meta);
            for word in ["apiVersion", "kind"] {
                properties.insert(word.to_owned(), serde_json::json!({"type": "string"}));
            }
        }
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("$defs".to_owned(), defs);
        }
        Self { root: schema, reported: &["status"], strict_null: true }
    }

    /// The shape of a kind that is neither Kubernetes' own nor ours, or that is read more strictly than the library does,
    /// from the schema of its spec.
    pub(crate) fn foreign<Spec: JsonSchema>() -> Self {
        let mut spec = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Spec>().to_value();
        let spec_defs = spec.as_object_mut().and_then(|spec| spec.remove("$defs")).unwrap_or_default();
        let object = serde_json::json!({
            "type": "object",
            "properties": {"spec": spec, "status": {"type": "object"}},
            "additionalProperties": false,
        });
        let mut shape = Self::custom(object);
        shape.strict_null = false;
        if let (Some(defs), Value::Object(more)) =
            (shape.root.get_mut("$defs").and_then(Value::as_object_mut), spec_defs)
        {
            defs.extend(more);
        }
        shape
    }

    /// Checks `value` and takes out of it what it reports as unknown, so that the rest can still be read. Fields
    /// without a value are taken out too.
    pub(crate) fn check(&self, value: &mut Value) -> Vec<Problem> {
        let mut walk = Walk { shape: self, problems: Vec::new() };
        let strict = Place { severity: Severity::Error, null_is_error: false };
        walk.value(&self.root, value, &FieldPath::root(), strict);
        walk.problems
    }
}

/// What holds for a part of an object.
#[derive(Clone, Copy)]
struct Place {
    severity: Severity,
    null_is_error: bool,
}

struct Walk<'a> {
    shape: &'a Shape,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &'a Value, value: &mut Value, at: &FieldPath, place: Place) {
        let (schema, quantity) = self.resolve(schema);
        if quantity {
            // `cpu: 1` is a number in YAML, and a quantity to Kubernetes.
            if value.is_number() {
                *value = Value::String(value.to_string());
            }
            self.expect(value.is_string(), "a quantity such as 500m or 1Gi", value, at);
            return;
        }
        if flag(schema, "x-kubernetes-int-or-string") {
            self.expect(value.is_string() || value.is_i64(), "a number or a name", value, at);
            return;
        }
        if !self.has_type(schema, value, at) {
            return;
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            self.check_word(words, value, at);
        }
        match value {
            Value::Object(fields) => self.object(schema, fields, at, place),
            Value::Array(items) => {
                let schema = schema.get("items").unwrap_or(&Value::Null);
                for (i, item) in items.iter_mut().enumerate() {
                    let at = at.index(i);
                    if item.is_null() {
                        self.problems.push(Problem::error(at, "the list has an entry without a value: remove it"));
                    } else {
                        self.value(schema, item, &at, place);
                    }
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &'a Value, fields: &mut Map<String, Value>, at: &FieldPath, place: Place) {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let open = known.is_none() && others.is_none_or(|others| others != &Value::Bool(false));
        let mut unknown = Vec::new();
        let mut empty = Vec::new();
        for (name, value) in fields.iter_mut() {
            let at = at.key(name.as_str());
            let Some(schema) = known.and_then(|known| known.get(name)).or(others.filter(|o| o.is_object())) else {
                if !open {
                    unknown.push(name.clone());
                }
                continue;
            };
            let mut place = place;
            if at.segments().len() == 1 {
                if self.shape.reported.contains(&name.as_str()) {
                    place.severity = Severity::Warning;
                }
                place.null_is_error = self.shape.strict_null && name == "spec";
            }
            if value.is_null() {
                if place.null_is_error {
                    self.problems.push(Problem::error(at, no_value(schema)));
                }
                empty.push(name.clone());
            } else {
                self.value(schema, value, &at, place);
            }
        }
        for name in unknown {
            fields.remove(&name);
            let message = unknown_field(&name, known);
            self.problems.push(Problem { path: at.key(name), severity: place.severity, message, of_name: true });
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            // One without a value has been reported as such where that matters.
            if !fields.contains_key(name) || (fields[name].is_null() && !place.null_is_error) {
                self.problems.push(Problem::error(at.clone(), format!("field `{name}` is missing")));
            }
        }
        for name in empty {
            fields.remove(&name);
        }
    }

    /// Follows references, and looks through the forms that an optional or described type takes.
    fn resolve(&self, mut schema: &'a Value) -> (&'a Value, bool) {
        // The bound is for a schema that refers to itself; none here does.
        for _ in 0..16 {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                if reference.ends_with(".Quantity") {
                    return (schema, true);
                }
                let target = reference.strip_prefix('#').and_then(|pointer| self.shape.root.pointer(pointer));
                let Some(target) = target else { break };
                schema = target;
                continue;
            }
            let alternatives = schema.get("anyOf").or_else(|| schema.get("allOf")).and_then(Value::as_array);
            let mut real = alternatives
                .into_iter()
                .flatten()
                .filter(|one| one.get("type").and_then(Value::as_str) != Some("null"))
                .filter(|one| {
                    one.get("type").is_some() || one.get("$ref").is_some() || one.get("properties").is_some()
                });
            match (real.next(), real.next()) {
                (Some(one), None) if schema.get("properties").is_none() => schema = one,
                _ => break,
            }
        }
        (schema, false)
    }

    fn has_type(&mut self, schema: &Value, value: &Value, at: &FieldPath) -> bool {
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
            _ => return true,
        };
        let fits = types.iter().any(|word| match *word {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            _ => true,
        });
        let wanted = match types.first().copied() {
            Some("object") => "fields",
            Some("array") => "a list",
            Some("string") if value.is_number() || value.is_boolean() => "text: put it in quotes",
            Some("string") => "text",
            Some("boolean") => "true or false",
            Some("integer") => "a whole number",
            _ => "a number",
        };
        self.expect(fits, wanted, value, at);
        fits
    }

    fn expect(&mut self, fits: bool, wanted: &str, found: &Value, at: &FieldPath) {
        if !fits {
            let found = match found {
                Value::Null => "nothing",
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                Value::String(_) => "text",
                Value::Array(_) => "a list",
                Value::Object(_) => "fields",
            };
            let message = format!("here stands {found}, but this field takes {wanted}");
            self.problems.push(Problem::error(at.clone(), message));
        }
    }

    fn check_word(&mut self, words: &[Value], value: &Value, at: &FieldPath) {
        if words.contains(value) {
            return;
        }
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        let found = value.as_str().unwrap_or_default();
        let hint =
            suggest(found, words.iter().copied()).map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
        let message = format!("{found:?} is not one of {}{hint}", words.join(", "));
        self.problems.push(Problem::error(at.clone(), message));
    }
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn no_value(schema: &Value) -> &'static str {
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => "the field has no value: write [] for an empty list, or remove the field",
        Some("object") => "the field has no value: write {} for an empty one, or remove the field",
        _ => "the field has no value: give it one, or remove the field",
    }
}

fn unknown_field(name: &str, known: Option<&Map<String, Value>>) -> String {
    let known = known.map(|known| known.keys().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default();
    match suggest(name, known.iter().copied()) {
        Some(word) => format!("unknown field {name:?}; did you mean `{word}`?"),
        // A pod's spec has forty fields: a list of them helps nobody.
        None if known.is_empty() || known.len() > 12 => format!("unknown field {name:?}"),
        None => format!("unknown field {name:?}; known here: {}", known.join(", ")),
    }
}

/// The word that `found` most likely should have been, if one is near enough.
pub fn suggest<'w>(found: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // Longer text is no typing error, and comparing costs the product of the lengths.
    if found.len() > 64 {
        return None;
    }
    let lower = found.to_lowercase();
    words
        .map(|word| (strsim::osa_distance(&lower, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 5)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests;
