//! The namespaces' labels, with the one that Kubernetes gives each.

use crate::world::{Labels, NAMESPACE_NAME_LABEL};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// All namespaces that are known.
#[derive(Debug, Default)]
pub(super) struct Namespaces(BTreeMap<String, Labels>);

impl Namespaces {
    /// The labels of a namespace, known or not.
    pub fn labels(&self, namespace: &str) -> Cow<'_, Labels> {
        match self.0.get(namespace) {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned(with_name(namespace, Labels::new())),
        }
    }

    /// Gives a namespace its labels, or forgets it; says whether that changes anything.
    pub fn put(&mut self, namespace: &str, labels: Option<Labels>) -> bool {
        let before = match labels {
            Some(labels) => {
                let labels = with_name(namespace, labels);
                if *self.labels(namespace) == labels {
                    self.0.insert(namespace.to_owned(), labels);
                    return false;
                }
                self.0.insert(namespace.to_owned(), labels)
            }
            None => self.0.remove(namespace),
        };
        *self.labels(namespace) != before.unwrap_or_else(|| with_name(namespace, Labels::new()))
    }

    /// Every namespace that is known.
    pub fn all(&self) -> &BTreeMap<String, Labels> {
        &self.0
    }
}

fn with_name(namespace: &str, mut labels: Labels) -> Labels {
    labels.insert(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned());
    labels
}
