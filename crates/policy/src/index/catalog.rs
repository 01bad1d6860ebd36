//! Policies of one kind, by namespace and name.

use super::Named;
use std::collections::BTreeMap;

/// Policies of one kind.
#[derive(Debug)]
pub(super) struct Catalog<T>(BTreeMap<String, BTreeMap<String, T>>);

impl<T> Default for Catalog<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Catalog<T> {
    /// Puts one in the place of the one of its name; gives that one.
    pub fn put(&mut self, name: Named, policy: T) -> Option<T> {
        self.0.entry(name.namespace).or_default().insert(name.name, policy)
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &Named) -> Option<T> {
        let here = self.0.get_mut(&name.namespace)?;
        let removed = here.remove(&name.name);
        if here.is_empty() {
            self.0.remove(&name.namespace);
        }
        removed
    }

    pub fn get(&self, name: &Named) -> Option<&T> {
        self.0.get(&name.namespace)?.get(&name.name)
    }

    /// Those of a namespace.
    pub fn of(&self, namespace: &str) -> impl Iterator<Item = &T> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// The namespaces that have any.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(BTreeMap::values)
    }
}
