//! A value that knows its place in the text.

use std::ops::Range;

use serde_json::{Map, Number, Value};

use crate::problem::{FieldPath, Segment};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) content: Content,
    /// How many values it holds, itself included.
    pub(super) values: usize,
    /// How many octets of text it holds.
    pub(super) text: usize,
    /// How deep it is.
    pub(super) depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text. Keys are unique.
    Fields(Vec<Field>),
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn leaf(span: Range<usize>, content: Content) -> Self {
        let text = if let Content::Text(text) = &content { text.len() } else { 0 };
        Self { span, content, values: 1, text, depth: 0 }
    }

    /// The value without its places.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(b) => Value::Bool(*b),
            Content::Number(n) => Value::Number(n.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Fields(fields) => {
                Value::Object(fields.iter().map(|f| (f.key.clone(), f.value.to_value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match &self.content {
            Content::Fields(fields) => fields.iter().find(|f| f.key == name).map(|f| &f.value),
            _ => None,
        }
    }

    /// Its text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// The place of a field, or of the nearest thing around it that exists.
    ///
    /// A field is shown at its key, unless its value is a single word, which then is what is wrong.
    pub(super) fn locate(&self, path: &FieldPath) -> Range<usize> {
        let mut node = self;
        let mut span = None;
        for segment in path.segments() {
            match (segment, &node.content) {
                (Segment::Key(key), Content::Fields(fields)) => {
                    let Some(field) = fields.iter().find(|f| f.key == *key) else { break };
                    let word = !matches!(field.value.content, Content::List(_) | Content::Fields(_) | Content::Null);
                    span = Some(if word { field.value.span.clone() } else { field.key_span.clone() });
                    node = &field.value;
                }
                (Segment::Index(index), Content::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    span = Some(item.start());
                    node = item;
                }
                _ => break,
            }
        }
        span.unwrap_or_else(|| self.start())
    }

    /// The key of a field, where the field itself and not its value is wrong.
    pub(super) fn locate_key(&self, path: &FieldPath) -> Option<Range<usize>> {
        let (Segment::Key(last), parents) = path.segments().split_last()? else { return None };
        let mut node = self;
        for segment in parents {
            node = match (segment, &node.content) {
                (Segment::Key(key), Content::Fields(_)) => node.get(key)?,
                (Segment::Index(index), Content::List(items)) => items.get(*index)?,
                _ => return None,
            };
        }
        match &node.content {
            Content::Fields(fields) => fields.iter().find(|f| f.key == *last).map(|f| f.key_span.clone()),
            _ => None,
        }
    }

    /// Where it begins: its first key or its first item rather than all of its lines.
    fn start(&self) -> Range<usize> {
        match &self.content {
            Content::Fields(fields) => fields.first().map_or_else(|| self.span.clone(), |f| f.key_span.clone()),
            Content::List(items) => items.first().map_or_else(|| self.span.clone(), Self::start),
            _ => self.span.clone(),
        }
    }
}
