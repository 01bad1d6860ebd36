//! JSON with a few edits that keep it JSON.

use bolero::{TypeGenerator, produce};
use serde_json::Value;

/// Something valid with a few edits to its tree.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Tree {
    base: u8,
    #[generator(produce::<Vec<Twist>>().with().len(0..=4_usize))]
    twists: Vec<Twist>,
}

/// A change to a tree. Places and values are taken modulo what is there.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Twist {
    /// Puts a value somewhere.
    Put {
        /// Where.
        at: u16,
        /// Which.
        value: u8,
    },
    /// Copies what stands at one place to another.
    Copy {
        /// From where.
        from: u16,
        /// Whither.
        to: u16,
    },
    /// Takes a field or an entry away.
    Remove {
        /// Which.
        at: u16,
    },
    /// Writes an entry of a list several times.
    Repeat {
        /// Which.
        at: u16,
        /// How often.
        times: u8,
    },
    /// Adds a field to an object, or an entry to a list.
    Add {
        /// Where.
        at: u16,
        /// Under which of the names.
        name: u8,
        /// Which value.
        value: u8,
    },
}

impl Tree {
    /// The tree. `bases` are valid, `values` worth putting somewhere, `names` worth adding as fields; none is empty.
    pub fn value(&self, bases: &[Value], values: &[Value], names: &[&str]) -> Value {
        let mut tree = bases[usize::from(self.base) % bases.len()].clone();
        for twist in &self.twists {
            twist.apply(&mut tree, values, names);
        }
        tree
    }
}

impl Twist {
    fn apply(&self, tree: &mut Value, values: &[Value], names: &[&str]) {
        let mut places = Vec::new();
        find(tree, &mut String::new(), &mut places);
        let place = |at: u16| places[usize::from(at) % places.len()].as_str();
        let value = |number: u8| values[usize::from(number) % values.len()].clone();
        match *self {
            Self::Put { at, value: number } => put(tree, place(at), value(number)),
            Self::Copy { from, to } => {
                let copied = tree.pointer(place(from)).cloned().unwrap_or_default();
                // Else a few copies of the root into itself would fill the memory.
                if copied.to_string().len() < 4096 {
                    put(tree, place(to), copied);
                }
            }
            Self::Remove { at } => {
                let Some((parent, key)) = place(at).rsplit_once('/') else { return };
                match tree.pointer_mut(parent) {
                    Some(Value::Object(fields)) => drop(fields.remove(&unescaped(key))),
                    Some(Value::Array(entries)) => drop(key.parse().ok().map(|index: usize| entries.remove(index))),
                    _ => {}
                }
            }
            Self::Repeat { at, times } => {
                let Some((parent, key)) = place(at).rsplit_once('/') else { return };
                if let (Some(Value::Array(entries)), Ok(index)) = (tree.pointer_mut(parent), key.parse::<usize>())
                    && entries.len() < 64
                {
                    let entry = entries[index].clone();
                    entries.extend(std::iter::repeat_n(entry, usize::from(times % 8)));
                }
            }
            Self::Add { at, name, value: number } => match tree.pointer_mut(place(at)) {
                Some(Value::Object(fields)) => {
                    fields.insert(names[usize::from(name) % names.len()].to_owned(), value(number));
                }
                Some(Value::Array(entries)) => entries.push(value(number)),
                _ => {}
            },
        }
    }
}

fn put(tree: &mut Value, place: &str, value: Value) {
    if let Some(at) = tree.pointer_mut(place) {
        *at = value;
    }
}

/// Every place of a tree as a JSON pointer (RFC 6901), the root first.
fn find(value: &Value, at: &mut String, places: &mut Vec<String>) {
    places.push(at.clone());
    let length = at.len();
    let mut step = |key: &str, value: &Value| {
        at.push('/');
        at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        find(value, at, places);
        at.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| step(key, value)),
        Value::Array(entries) => entries.iter().enumerate().for_each(|(i, value)| step(&i.to_string(), value)),
        _ => {}
    }
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}
