//! A JSON document and the patch (RFC 6902) that has made it what it is.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchErrorKind, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

/// A document that is changed step by step, and the steps.
#[derive(Debug)]
pub struct Edits {
    document: Value,
    steps: Vec<PatchOperation>,
}

/// Why a step could not be made: the document does not have the shape that its type promises.
#[derive(Debug, thiserror::Error)]
#[error("the pod cannot be changed at {path}: {fault}")]
pub struct EditError {
    /// Where, as a JSON pointer (RFC 6901).
    pub path: String,
    /// Why.
    pub fault: PatchErrorKind,
}

impl Edits {
    /// Begins with a document.
    pub fn new(document: Value) -> Self {
        Self { document, steps: Vec::new() }
    }

    /// What stands at a place; none where nothing does, or a null.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let found = pointer(path).resolve(&self.document).ok()?;
        (!found.is_null()).then_some(found)
    }

    /// Lets a value stand in a field, and in objects made for it where there are none. Does nothing where it stands there.
    pub fn set(&mut self, path: &[&str], value: Value) -> Result<(), EditError> {
        match self.get(path) {
            Some(there) if *there == value => Ok(()),
            Some(_) => self.step(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value })),
            None => {
                for length in 1..path.len() {
                    self.vessel(path.get(..length).unwrap_or_default(), Value::Object(Default::default()))?;
                }
                self.step(PatchOperation::Add(AddOperation { path: pointer(path), value }))
            }
        }
    }

    /// Puts a value into a list, before the one at `index`; the list is made where there is none.
    pub fn insert(&mut self, list: &[&str], index: usize, value: Value) -> Result<(), EditError> {
        for length in 1..list.len() {
            self.vessel(list.get(..length).unwrap_or_default(), Value::Object(Default::default()))?;
        }
        self.vessel(list, Value::Array(Vec::new()))?;
        let mut path = pointer(list);
        path.push_back(index.to_string());
        self.step(PatchOperation::Add(AddOperation { path, value }))
    }

    /// Puts a value at the end of a list, which is made where there is none.
    pub fn push(&mut self, list: &[&str], value: Value) -> Result<(), EditError> {
        let length = self.get(list).and_then(Value::as_array).map_or(0, Vec::len);
        self.insert(list, length, value)
    }

    /// Takes a field or an element away. Does nothing where there is none.
    pub fn remove(&mut self, path: &[&str]) -> Result<(), EditError> {
        let path = pointer(path);
        if path.resolve(&self.document).is_err() {
            return Ok(());
        }
        self.step(PatchOperation::Remove(RemoveOperation { path }))
    }

    /// The steps.
    pub fn into_patch(self) -> Patch {
        Patch(self.steps)
    }

    /// Makes an empty object or list where there is nothing, or a null, which Kubernetes takes for nothing.
    fn vessel(&mut self, path: &[&str], empty: Value) -> Result<(), EditError> {
        match self.get(path) {
            Some(_) => Ok(()),
            None => self.step(PatchOperation::Add(AddOperation { path: pointer(path), value: empty })),
        }
    }

    fn step(&mut self, step: PatchOperation) -> Result<(), EditError> {
        json_patch::patch(&mut self.document, std::slice::from_ref(&step))
            .map_err(|error| EditError { path: error.path.to_string(), fault: error.kind })?;
        self.steps.push(step);
        Ok(())
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replayed(before: &Value, edits: Edits) -> Value {
        let mut value = before.clone();
        json_patch::patch(&mut value, &edits.into_patch()).expect("our own patch applies");
        value
    }

    #[test]
    fn the_steps_make_the_document() {
        let before = json!({"metadata": {"annotations": null}, "spec": {"containers": [{"name": "a"}]}});
        let mut edits = Edits::new(before.clone());
        edits.set(&["metadata", "annotations", "sidewall.dev/x~y"], json!("1")).unwrap();
        edits.insert(&["spec", "initContainers"], 0, json!({"name": "b"})).unwrap();
        edits.push(&["spec", "initContainers"], json!({"name": "c"})).unwrap();
        edits.insert(&["spec", "initContainers"], 0, json!({"name": "d"})).unwrap();
        edits.remove(&["spec", "containers", "0", "name"]).unwrap();
        edits.remove(&["spec", "nothing"]).unwrap();
        let after = json!({
            "metadata": {"annotations": {"sidewall.dev/x~y": "1"}},
            "spec": {"containers": [{}], "initContainers": [{"name": "d"}, {"name": "b"}, {"name": "c"}]},
        });
        assert_eq!(edits.document, after);
        assert_eq!(replayed(&before, edits), after);
    }

    #[test]
    fn what_stands_already_is_no_step() {
        let mut edits = Edits::new(json!({"a": {"b": [1]}}));
        edits.set(&["a", "b"], json!([1])).unwrap();
        assert!(edits.into_patch().0.is_empty());
    }

    #[test]
    fn a_document_of_another_shape_is_an_error() {
        let mut edits = Edits::new(json!({"a": "text"}));
        let error = edits.set(&["a", "b", "c"], json!(1)).unwrap_err();
        assert!(error.to_string().starts_with("the pod cannot be changed at /a/b: "), "{error}");
        assert!(edits.insert(&["a"], 0, json!(1)).is_err());
    }
}
