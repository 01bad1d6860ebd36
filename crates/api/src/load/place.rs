//! Where an object stands, so that what is found out later can still be shown at its line.

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;

use super::diagnostic::{Diagnostic, SourceText};
use super::node::{Content, Node};
use crate::problem::{FieldPath, Problem, Segment};

/// An object and where it was read from.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The object.
    pub object: T,
    /// Where it stands.
    pub place: Place,
}

/// Where an object stands in a file. Cheap to clone.
#[derive(Clone)]
pub struct Place {
    pub(super) source: Arc<SourceText>,
    pub(super) document: Arc<Node>,
    /// The way from the document to the object: empty, or `items[3]`.
    pub(super) inside: FieldPath,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.source.position(self.document.locate(&self.inside).start);
        write!(f, "{}:{}:{}", self.source.name(), at.line, at.column)
    }
}

impl Place {
    /// The file's name.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Shows a problem of the object at its line and column. A problem about a field that does not stand in the file is
    /// shown at the nearest thing around it.
    pub fn diagnostic(&self, problem: &Problem) -> Diagnostic {
        let path: FieldPath = self.inside.segments().iter().chain(problem.path.segments()).cloned().collect();
        let span = if problem.of_name {
            self.document.locate_key(&path).unwrap_or_else(|| self.document.locate(&path))
        } else {
            self.document.locate(&path)
        };
        self.source.diagnostic(span, problem.severity, Some(path), problem.message.clone())
    }

    pub(super) fn node(&self) -> &Node {
        let mut node = &*self.document;
        for segment in self.inside.segments() {
            node = match (segment, &node.content) {
                (Segment::Key(key), Content::Fields(_)) => node.get(key).unwrap_or(node),
                (Segment::Index(index), Content::List(items)) => items.get(*index).unwrap_or(node),
                _ => node,
            };
        }
        node
    }
}

impl<T: kube::Resource> Located<T> {
    /// The object of a name among others of its kind.
    pub fn find<'a>(all: &'a [Self], namespace: &str, name: &str) -> Option<&'a Self> {
        all.iter().find(|one| one.name() == name && one.namespace() == namespace)
    }

    /// The object's namespace; empty for one that has none.
    pub fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    /// The object's name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }
}
