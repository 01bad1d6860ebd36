//! A finding about one field of an object: where, what, and what to do.

use std::fmt;

use serde::{Serialize, Serializer};

/// How grave a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object means something, but perhaps not what its author meant.
    Warning,
    /// The object cannot be understood, and what it selects has to be isolated.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field of an object, or a key of a map.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

/// The way from an object's root to one of its fields: `spec.egress[0].to[1].ipBlock`.
///
/// A key that is not a plain word is quoted: `metadata.labels["app.kubernetes.io/name"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The path of the object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path `spec`.
    pub fn spec() -> Self {
        Self::root().key("spec")
    }

    /// This path with a field after it.
    pub fn key(&self, key: impl Into<String>) -> Self {
        let mut longer = self.clone();
        longer.0.push(Segment::Key(key.into()));
        longer
    }

    /// This path with a place in a list after it.
    pub fn index(&self, index: usize) -> Self {
        let mut longer = self.clone();
        longer.0.push(Segment::Index(index));
        longer
    }

    /// The steps, from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Reads the text form of a path. Quoted keys are read with JSON's escapes.
    ///
    /// Returns `None` for text that is no path.
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("[\"") {
                let end = quoted.match_indices("\"]").map(|(i, _)| i).find(|i| !quoted[..*i].ends_with('\\'))?;
                segments.push(Segment::Key(serde_json::from_str(&rest[1..end + 3]).ok()?));
                rest = &quoted[end + 2..];
            } else if let Some(index) = rest.strip_prefix('[') {
                let end = index.find(']')?;
                segments.push(Segment::Index(index[..end].parse().ok()?));
                rest = &index[end + 1..];
            } else {
                let word = if segments.is_empty() { rest } else { rest.strip_prefix('.')? };
                let end = word.find(['.', '[']).unwrap_or(word.len());
                let (word, after) = word.split_at(end);
                segments.push(Segment::Key(is_word(word).then(|| word.to_owned())?));
                rest = after;
            }
        }
        Some(Self(segments))
    }

    /// Whether this is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Segment> for FieldPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_word(key) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
                // Debug's quoting also takes the sting out of control characters.
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A finding about one field of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The field.
    pub path: FieldPath,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// Whether the field's name is what is wrong, and not its value: where to show it.
    #[serde(skip)]
    pub of_name: bool,
}

impl Problem {
    /// A problem that makes its object unusable.
    pub fn error(path: FieldPath, message: impl Into<String>) -> Self {
        Self { path, severity: Severity::Error, message: message.into(), of_name: false }
    }

    /// A problem that its author should hear of.
    pub fn warning(path: FieldPath, message: impl Into<String>) -> Self {
        Self { path, severity: Severity::Warning, message: message.into(), of_name: false }
    }

    /// The same problem, about the field's name.
    pub fn of_name(mut self) -> Self {
        self.of_name = true;
        self
    }

    /// Whether the object is unusable because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_root() {
            write!(f, "{}: {}", self.severity, self.message)
        } else {
            write!(f, "{}: {}: {}", self.severity, self.path, self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_an_author_writes_them() {
        let path = FieldPath::spec().key("egress").index(0).key("to").index(1).key("ipBlock");
        assert_eq!(path.to_string(), "spec.egress[0].to[1].ipBlock");
        let label = FieldPath::root().key("metadata").key("labels").key("app.kubernetes.io/name");
        assert_eq!(label.to_string(), r#"metadata.labels["app.kubernetes.io/name"]"#);
        assert_eq!(FieldPath::root().to_string(), "");
        for path in [&path, &label, &FieldPath::root(), &FieldPath::root().index(3).key("a")] {
            assert_eq!(FieldPath::parse(&path.to_string()).as_ref(), Some(path));
        }
        for bad in ["[", "[a]", "a..b", ".a", "a b", "[\"a", "a[1", "a[\"x\\\"]"] {
            assert_eq!(FieldPath::parse(bad), None, "{bad}");
        }
        assert_eq!(FieldPath::root().key("\u{1b}[0m").to_string(), r#"["\u{1b}[0m"]"#);
    }

    #[test]
    fn a_problem_says_where_and_what() {
        let problem = Problem::error(FieldPath::spec().key("mode"), "unknown");
        assert_eq!(problem.to_string(), "error: spec.mode: unknown");
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({"path": "spec.mode", "severity": "error", "message": "unknown"})
        );
    }
}
