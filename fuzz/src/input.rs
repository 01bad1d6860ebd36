//! What a target is given.

use bolero::{TypeGenerator, produce};

/// The longest input, in bytes.
pub const INPUT_MAX: usize = 16 << 10;

/// The most random bytes of an input that is nothing else: longer ones find nothing that these do not.
const BYTES_MAX: usize = 512;

/// What a target is given.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Input {
    /// Any bytes.
    Bytes(#[generator(produce::<Vec<u8>>().with().len(0..=BYTES_MAX))] Vec<u8>),
    /// Something valid, with a few edits.
    Mutant(Mutant),
}

impl Input {
    /// The input as bytes. `bases` are valid inputs, `words` are what is worth inserting; neither is empty.
    pub fn bytes(&self, bases: &[impl AsRef<[u8]>], words: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Mutant(mutant) => mutant.bytes(bases, words),
        }
    }
}

/// Something valid with a few edits.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Mutant {
    base: u8,
    #[generator(produce::<Vec<Edit>>().with().len(0..=4_usize))]
    edits: Vec<Edit>,
}

impl Mutant {
    /// As [`Input::bytes`].
    pub fn bytes(&self, bases: &[impl AsRef<[u8]>], words: &[&[u8]]) -> Vec<u8> {
        let base = |number: u8| bases[usize::from(number) % bases.len()].as_ref();
        let mut bytes = base(self.base).to_vec();
        for edit in &self.edits {
            edit.apply(&mut bytes, base, words);
            bytes.truncate(INPUT_MAX);
        }
        bytes
    }
}

/// A change to an input. Places and lines are taken modulo what is there.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Edit {
    /// Sets a byte.
    Set {
        /// Where.
        at: u16,
        /// To what.
        byte: u8,
    },
    /// Sets two bytes at an aligned place, as netlink's lengths and types are, in this machine's order.
    Number {
        /// Where, in units of two.
        at: u16,
        /// To what.
        number: u16,
    },
    /// Adds to a byte, as off-by-one errors in lengths do.
    Add {
        /// Where.
        at: u16,
        /// How much.
        by: u8,
    },
    /// Inserts bytes.
    Insert {
        /// Where.
        at: u16,
        /// Which.
        bytes: [u8; 2],
    },
    /// Inserts a word.
    Word {
        /// Where.
        at: u16,
        /// Which.
        word: u8,
    },
    /// Puts a word in the place of the letters and digits that stand somewhere.
    Swap {
        /// Where.
        at: u16,
        /// Which.
        word: u8,
    },
    /// Takes bytes out.
    Remove {
        /// From where.
        at: u16,
        /// How many.
        count: u8,
    },
    /// Writes bytes several times over.
    Repeat {
        /// From where.
        at: u16,
        /// How many.
        count: u8,
        /// How often.
        times: u8,
    },
    /// Copies from another valid input.
    Graft {
        /// Whither.
        at: u16,
        /// From which.
        base: u8,
        /// From where.
        from: u16,
        /// How many bytes.
        count: u8,
    },
    /// Leaves the rest away.
    Cut {
        /// From where.
        at: u16,
    },
    /// Writes a line behind another line.
    CopyLine {
        /// Which.
        line: u8,
        /// Behind which.
        behind: u8,
    },
    /// Takes a line out.
    DropLine {
        /// Which.
        line: u8,
    },
    /// Moves a line to the right.
    Indent {
        /// Which.
        line: u8,
        /// By how much.
        by: u8,
    },
}

impl Edit {
    fn apply<'a>(&self, bytes: &mut Vec<u8>, base: impl Fn(u8) -> &'a [u8], words: &[&[u8]]) {
        let place = |at: u16, bytes: &[u8]| usize::from(at) % (bytes.len() + 1);
        let run = |at: u16, count: u8, bytes: &[u8]| {
            let start = place(at, bytes);
            start..(start + usize::from(count)).min(bytes.len())
        };
        let word = |number: u8| words[usize::from(number) % words.len()].iter().copied();
        match *self {
            Self::Set { at, byte } => {
                let at = place(at, bytes);
                bytes.get_mut(at).into_iter().for_each(|old| *old = byte);
            }
            Self::Number { at, number } => {
                let at = place(at, bytes) & !1;
                let there = bytes.iter_mut().skip(at);
                there.zip(number.to_ne_bytes()).for_each(|(old, new)| *old = new);
            }
            Self::Add { at, by } => {
                let at = place(at, bytes);
                bytes.get_mut(at).into_iter().for_each(|old| *old = old.wrapping_add(by));
            }
            Self::Insert { at, bytes: new } => {
                let at = place(at, bytes);
                bytes.splice(at..at, new);
            }
            Self::Word { at, word: new } => {
                let at = place(at, bytes);
                bytes.splice(at..at, word(new));
            }
            Self::Swap { at, word: new } => {
                let at = place(at, bytes);
                let part = |byte: &u8| byte.is_ascii_alphanumeric();
                let start = bytes[..at].iter().rposition(|byte| !part(byte)).map_or(0, |before| before + 1);
                let end = bytes[at..].iter().position(|byte| !part(byte)).map_or(bytes.len(), |length| at + length);
                bytes.splice(start..end, word(new));
            }
            Self::Remove { at, count } => {
                bytes.drain(run(at, count, bytes));
            }
            Self::Repeat { at, count, times } => {
                let range = run(at, count, bytes);
                let times = usize::from(times).min(INPUT_MAX / (range.len() + 1));
                let again = bytes[range.clone()].repeat(times);
                bytes.splice(range.end..range.end, again);
            }
            Self::Graft { at, base: other, from, count } => {
                let (at, other) = (place(at, bytes), base(other));
                bytes.splice(at..at, other[run(from, count, other)].iter().copied());
            }
            Self::Cut { at } => bytes.truncate(place(at, bytes)),
            Self::CopyLine { line, behind } => edit_lines(bytes, |lines| {
                let copy = lines[usize::from(line) % lines.len()].clone();
                lines.insert(usize::from(behind) % lines.len() + 1, copy);
            }),
            Self::DropLine { line } => edit_lines(bytes, |lines| {
                lines.remove(usize::from(line) % lines.len());
            }),
            Self::Indent { line, by } => edit_lines(bytes, |lines| {
                let line = usize::from(line) % lines.len();
                lines[line].splice(0..0, vec![b' '; usize::from(by % 8)]);
            }),
        }
    }
}

/// Changes a text by its lines, of which there is always one.
fn edit_lines(bytes: &mut Vec<u8>, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    edit(&mut lines);
    *bytes = lines.join(&b'\n');
}
