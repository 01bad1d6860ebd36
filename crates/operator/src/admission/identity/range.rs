//! A range of users.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Users from the first to the last, both included; never 0, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UidRange {
    first: u32,
    last: u32,
}

/// Why a text is no range of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of users; write FIRST/COUNT or FIRST-LAST, from 1 to 4294967293")]
pub struct BadRange {
    /// The text.
    pub text: String,
}

/// The largest user: those above stand for "none" in system calls.
const LAST: u32 = u32::MAX - 2;

impl UidRange {
    /// A range, unless it were empty or had the user 0.
    pub fn new(first: u32, last: u32) -> Option<Self> {
        (first > 0 && first <= last && last <= LAST).then_some(Self { first, last })
    }

    /// The first user.
    pub fn first(self) -> u32 {
        self.first
    }

    /// The last user.
    pub fn last(self) -> u32 {
        self.last
    }

    /// All of them, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u32> {
        self.first..=self.last
    }

    /// Those up to `most`, if any.
    pub fn up_to(self, most: u32) -> Option<Self> {
        Self::new(self.first, self.last.min(most))
    }
}

impl Default for UidRange {
    fn default() -> Self {
        Self { first: 62_000, last: 62_999 }
    }
}

impl fmt::Display for UidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<UidRange> for String {
    fn from(range: UidRange) -> Self {
        range.to_string()
    }
}

impl TryFrom<String> for UidRange {
    type Error = BadRange;

    fn try_from(text: String) -> Result<Self, BadRange> {
        text.parse()
    }
}

impl FromStr for UidRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = || BadRange { text: text.chars().take(64).collect() };
        let number = |part: &str| part.trim().parse::<u32>().map_err(|_| bad());
        let (first, last) = if let Some((first, count)) = text.split_once('/') {
            let (first, count) = (number(first)?, number(count)?);
            let last = count.checked_sub(1).and_then(|more| first.checked_add(more)).ok_or_else(bad)?;
            (first, last)
        } else {
            let (first, last) = text.split_once('-').ok_or_else(bad)?;
            (number(first)?, number(last)?)
        };
        Self::new(first, last).ok_or_else(bad)
    }
}
