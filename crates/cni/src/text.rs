//! JSON as text: where the parts of an object or an array stand, so that one can be changed and every other byte kept.
//!
//! The parser is serde_json's; what it borrows from the text tells the places.

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Its key, unescaped.
    pub key: String,
    /// Its value, as it is written, without white space around it.
    pub value: &'a str,
}

/// The members of an object, in their order, with those that occur twice.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                members.push(Member { key, value: value.get() });
            }
            Ok(members)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = reader.deserialize_map(Members)?;
    reader.end()?;
    Ok(members)
}

/// The elements of an array, in their order, without white space around them.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, serde_json::Error> {
    struct Elements;
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(value) = seq.next_element::<&'de RawValue>()? {
                elements.push(value.get());
            }
            Ok(elements)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let elements = reader.deserialize_seq(Elements)?;
    reader.end()?;
    Ok(elements)
}

/// Where a part stands in the text that it is a slice of.
pub(crate) fn place(part: &str, of: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - of.as_ptr() as usize;
    start..start + part.len()
}

/// Changes to a text, at places that do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Puts `with` where `range` is; an empty range inserts.
    pub fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.0.push((range, with.into()));
    }

    /// The text with the changes made.
    pub fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut made = String::with_capacity(text.len() + self.0.iter().map(|(_, with)| with.len()).sum::<usize>());
        let mut at = 0;
        for (range, with) in self.0 {
            made.push_str(&text[at..range.start]);
            made.push_str(&with);
            at = range.end;
        }
        made.push_str(&text[at..]);
        made
    }
}

/// The range to take away so that the part at `index` is gone from the object or array `of`, with the comma that
/// belongs to it. `parts` are the values of the members or the elements, as slices of `of`.
pub(crate) fn removal(parts: &[&str], index: usize, of: &str) -> Range<usize> {
    let here = place(parts[index], of);
    if let Some(before) = index.checked_sub(1) {
        return place(parts[before], of).end..here.end;
    }
    let open = of.find(['{', '[']).map_or(0, |open| open + 1);
    match parts.get(1) {
        // The comma after the part, which is the first that is not white space.
        Some(_) => open..of[here.end..].find(',').map_or(here.end, |comma| here.end + comma + 1),
        None => open..here.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_stand() {
        let text = " { \"a\" : [1, 2 ] ,\"\\u0062\":{\"x\":\"}\"}, \"a\":null}\n";
        let found = members(text).unwrap();
        let plain: Vec<_> = found.iter().map(|member| (member.key.as_str(), member.value)).collect();
        assert_eq!(plain, [("a", "[1, 2 ]"), ("b", "{\"x\":\"}\"}"), ("a", "null")]);
        assert_eq!(&text[place(found[1].value, text)], "{\"x\":\"}\"}");
        assert_eq!(elements(found[0].value).unwrap(), ["1", "2"]);
    }

    #[test]
    fn what_is_no_object_or_goes_on_is_refused() {
        for text in ["", "[]", "1", "{\"a\":1} x", "{\"a\":}", "{\"a\":1"] {
            assert!(members(text).is_err(), "{text}");
        }
        for text in ["", "{}", "[1,]", "[1] 2"] {
            assert!(elements(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_part_can_be_taken_away() {
        let text = "[ 1 , \"2,\" ,3 ]";
        let parts = elements(text).unwrap();
        let without = |index| {
            let mut edits = Edits::default();
            edits.replace(removal(&parts, index, text), "");
            edits.apply(text)
        };
        assert_eq!([without(0), without(1), without(2)], ["[ \"2,\" ,3 ]", "[ 1 ,3 ]", "[ 1 , \"2,\" ]"]);
        let only = "[7 ]";
        assert_eq!(removal(&elements(only).unwrap(), 0, only), 1..2);
    }
}
