//! YAML and JSON text as trees whose every part knows its place.
//!
//! One tree a document. The limits are all here: depth, number of values, and what aliases may add up to, so that a
//! small file cannot grow into gigabytes ("billion laughs").

use std::collections::BTreeMap;
use std::ops::Range;

use super::node::{Content, Field, Node};
use super::scalar::{self, Plain};
use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

/// How deep lists and fields may be nested.
pub const DEPTH_MAX: usize = 64;

/// The most values of one file, those that aliases repeat included.
pub const VALUES_MAX: usize = 500_000;

/// The most octets of text of one file, that which aliases repeat included.
pub const TEXT_MAX: usize = 32 << 20;

/// The most documents of one file.
pub const DOCUMENTS_MAX: usize = 10_000;

/// The most findings of one file. What follows is not looked for.
pub const FINDINGS_MAX: usize = 100;

/// Something that is wrong with the text at a place, in octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// What stands in it, as far as it could be read. `None`: nothing.
    pub(super) root: Option<Node>,
    /// The text is broken: `root` ends where it broke.
    pub(super) broken: bool,
    /// What is wrong with it.
    pub(super) findings: Vec<Finding>,
}

/// Reads all documents of a text. It goes on after a document that is broken.
pub(super) fn parse(text: &str) -> Vec<Document> {
    // The anchors' names are not needed, comments neither. Nesting is bounded here, with a message of our own.
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut budget = Budget { values: VALUES_MAX, text: TEXT_MAX };
    let mut documents = Vec::new();
    let mut builder = Builder::new(text.len());
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((Event::DocumentStart(..), span))) => {
                if documents.len() == DOCUMENTS_MAX {
                    let span = range(&span, text.len());
                    documents.push(refused(span, format!("more than {DOCUMENTS_MAX} documents: divide the file")));
                    break;
                }
                builder = Builder::new(text.len());
            }
            Some(Ok((Event::DocumentEnd, _))) => documents.push(builder.finish(false)),
            Some(Ok((event, span))) => {
                builder.event(event, range(&span, text.len()), &mut budget);
                if builder.exhausted {
                    documents.push(builder.finish(true));
                    break;
                }
                if builder.fatal && !next_document(&mut parser, &mut builder, &mut documents) {
                    break;
                }
            }
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
                builder.find(at..at, format!("this is no YAML: {}", error.kind()));
                if !next_document(&mut parser, &mut builder, &mut documents) {
                    break;
                }
            }
        }
    }
    documents
}

/// Ends a broken document and goes to the next one, if there is one.
fn next_document<'t>(
    parser: &mut Parser<'t, StrInput<'t>>,
    builder: &mut Builder,
    documents: &mut Vec<Document>,
) -> bool {
    let mut broken = std::mem::replace(builder, Builder::new(builder.end));
    documents.push(broken.finish(true));
    parser.proceed_next_document().unwrap_or(false)
}

fn refused(span: Range<usize>, message: String) -> Document {
    Document { root: None, broken: true, findings: vec![Finding { span, message }] }
}

fn range(span: &Span, end: usize) -> Range<usize> {
    let range = span.byte_range().unwrap_or(end..end);
    let from = range.start.min(end);
    from..range.end.clamp(from, end)
}

/// What may still be built.
struct Budget {
    values: usize,
    text: usize,
}

impl Budget {
    fn take(&mut self, values: usize, text: usize) -> bool {
        match (self.values.checked_sub(values), self.text.checked_sub(text)) {
            (Some(values), Some(text)) => {
                *self = Self { values, text };
                true
            }
            _ => false,
        }
    }
}

/// A list or fields that are not complete yet.
struct Open {
    start: usize,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Fields {
        fields: Vec<Field>,
        /// Where each key stands, so that looking for doubles stays cheap.
        keys: BTreeMap<String, usize>,
        /// The key whose value comes next. `None` inside: one that was refused, whose value is thrown away.
        key: Option<Option<(String, Range<usize>)>>,
    },
}

struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    findings: Vec<Finding>,
    /// The document cannot go on.
    fatal: bool,
    /// The file cannot go on.
    exhausted: bool,
    /// The text's length.
    end: usize,
}

impl Builder {
    fn new(end: usize) -> Self {
        Self {
            open: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
            findings: Vec::new(),
            fatal: false,
            exhausted: false,
            end,
        }
    }

    fn find(&mut self, span: Range<usize>, message: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { span, message: message.into() });
        }
    }

    /// Takes the document as far as it has come. What is still open ends here.
    fn finish(&mut self, broken: bool) -> Document {
        while let Some(open) = self.open.pop() {
            let node = close(open, self.end).0;
            self.place(node);
        }
        Document { root: self.root.take(), broken, findings: std::mem::take(&mut self.findings) }
    }

    fn event(&mut self, event: Event<'_>, span: Range<usize>, budget: &mut Budget) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let taken = budget.take(1, text.len());
                let content = self.scalar(text.as_ref(), style, tag.as_deref(), &span);
                let node = Node::leaf(span.clone(), content);
                self.complete(node, anchor, taken, &span);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.start(span, anchor, tag.as_deref(), OpenKind::List(Vec::new()), "seq", budget);
            }
            Event::MappingStart(_, anchor, tag) => {
                let kind = OpenKind::Fields { fields: Vec::new(), keys: BTreeMap::new(), key: None };
                self.start(span, anchor, tag.as_deref(), kind, "map", budget);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let (node, anchor) = close(open, span.end);
                    self.complete(node, anchor, true, &span);
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let taken = budget.take(node.values, node.text);
                    if self.open.len() + node.depth > DEPTH_MAX {
                        self.too_deep(span);
                    } else if taken {
                        // Only now is it copied: what does not fit is never built.
                        let node = Node { span: span.clone(), ..node.clone() };
                        self.complete(node, 0, true, &span);
                    } else {
                        self.exhaust(span);
                    }
                }
                None => {
                    self.find(span.clone(), "the alias stands inside what it repeats");
                    self.complete(Node::leaf(span.clone(), Content::Null), 0, true, &span);
                }
            },
            // The other events carry no values: the stream's ends, and what the options leave out.
            _ => {}
        }
    }

    fn start(
        &mut self,
        span: Range<usize>,
        anchor: usize,
        tag: Option<&Tag>,
        kind: OpenKind,
        own_tag: &str,
        budget: &mut Budget,
    ) {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(own_tag)
        {
            self.find(span.clone(), format!("the tag {tag} is not known here: remove it"));
        }
        if self.open.len() >= DEPTH_MAX {
            self.too_deep(span);
        } else if budget.take(1, 0) {
            self.open.push(Open { start: span.start, anchor, kind });
        } else {
            self.exhaust(span);
        }
    }

    fn too_deep(&mut self, span: Range<usize>) {
        self.find(span, format!("nested more than {DEPTH_MAX} deep"));
        self.fatal = true;
    }

    fn exhaust(&mut self, span: Range<usize>) {
        let message = format!(
            "the file, with what its aliases repeat, holds more than {VALUES_MAX} values or {} MiB of text: divide it",
            TEXT_MAX >> 20
        );
        self.find(span, message);
        self.exhausted = true;
    }

    fn complete(&mut self, node: Node, anchor: usize, taken: bool, span: &Range<usize>) {
        if !taken {
            self.exhaust(span.clone());
            return;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node);
    }

    /// Puts a complete value where it belongs: as a key, as a value, or as the root.
    fn place(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        let (fields, keys, key) = match &mut open.kind {
            OpenKind::List(items) => {
                items.push(node);
                return;
            }
            OpenKind::Fields { fields, keys, key } => (fields, keys, key),
        };
        match key.take() {
            Some(Some((name, key_span))) => fields.push(Field { key: name, key_span, value: node }),
            Some(None) => {}
            None => {
                let span = node.span.clone();
                let (name, complaint) = key_of(node.content);
                let double = name.as_ref().is_some_and(|name| keys.contains_key(name));
                let first = name.as_ref().and_then(|name| keys.get(name)).copied();
                *key = Some(match name {
                    Some(name) if !double => {
                        keys.insert(name.clone(), span.start);
                        Some((name, span.clone()))
                    }
                    _ => None,
                });
                if let Some(complaint) = complaint {
                    self.find(span, complaint);
                } else if first.is_some() {
                    self.find(span, "this field is already there: a field can be given once only");
                }
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Range<usize>) -> Content {
        let plain = style == ScalarStyle::Plain;
        let core = tag.and_then(Tag::core_suffix);
        match (tag, core) {
            (None, _) if !plain => return Content::Text(text.to_owned()),
            (Some(_), Some("str")) => return Content::Text(text.to_owned()),
            (None, _) => {}
            (Some(tag), _) => {
                self.find(span.clone(), format!("the tag {tag} is not known here: remove it"));
                return Content::Text(text.to_owned());
            }
        }
        match scalar::plain(text) {
            Plain::Null => Content::Null,
            Plain::Bool(b) => Content::Bool(b),
            Plain::Number(number) => Content::Number(number),
            Plain::Text => Content::Text(text.to_owned()),
            Plain::Doubtful(why) => {
                self.find(span.clone(), why);
                Content::Text(text.to_owned())
            }
        }
    }
}

fn close(open: Open, end: usize) -> (Node, usize) {
    let Open { start, anchor, kind } = open;
    let content = match kind {
        OpenKind::List(items) => Content::List(items),
        OpenKind::Fields { mut fields, key, .. } => {
            // A key whose value never came, in a document that broke there.
            if let Some(Some((key, key_span))) = key {
                let value = Node::leaf(key_span.end..key_span.end, Content::Null);
                fields.push(Field { key, key_span, value });
            }
            Content::Fields(fields)
        }
    };
    let children: Vec<&Node> = match &content {
        Content::List(items) => items.iter().collect(),
        Content::Fields(fields) => fields.iter().map(|f| &f.value).collect(),
        _ => Vec::new(),
    };
    let keys: usize = if let Content::Fields(fields) = &content { fields.iter().map(|f| f.key.len()).sum() } else { 0 };
    let values = 1 + children.iter().map(|child| child.values).sum::<usize>();
    let text = keys + children.iter().map(|child| child.text).sum::<usize>();
    let depth = 1 + children.iter().map(|child| child.depth).max().unwrap_or(0);
    (Node { span: start..end.max(start), content, values, text, depth }, anchor)
}

/// The name that a key stands for, and what is wrong with it.
fn key_of(content: Content) -> (Option<String>, Option<&'static str>) {
    match content {
        Content::Text(text) if text == "<<" => (None, Some("merge keys (<<) are not read: write the fields out")),
        Content::Text(text) => (Some(text), None),
        // As Kubernetes has it: the number's text is the key.
        Content::Number(number) => (Some(number.to_string()), None),
        Content::Null => (None, Some("a field needs a name")),
        Content::Bool(_) => (None, Some("this name means true or false: put it in quotes")),
        Content::List(_) | Content::Fields(_) => (None, Some("a field's name must be text")),
    }
}
