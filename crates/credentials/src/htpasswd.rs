//! The htpasswd file: who the users are and how their passwords are checked.
//!
//! One user a line, `name:hash`; what follows a second `:` is a comment. Blank lines and lines that start with `#` are
//! skipped. Hashes are bcrypt (`$2a$`, `$2b$`, `$2y$`), apr1 (`$apr1$`), SHA-256 and SHA-512 crypt (`$5$`, `$6$`) and
//! `{SHA}`. Anything else, plain text and DES crypt too, is an error that names the line and never quotes it: a line
//! that we do not understand may hold a password.
//!
//! Every hash has a cost that whoever sends a wrong password makes us pay, so it is bounded: [`MAX_BCRYPT_COST`],
//! [`MAX_SHA_CRYPT_ROUNDS`].

mod apr1;
mod hash;

pub use hash::{Algorithm, MAX_BCRYPT_COST, MAX_SHA_CRYPT_ROUNDS, MakeHashError, make_line};

use std::collections::BTreeMap;
use std::fmt;
use std::str;

use crate::secret::Password;
use hash::{Hash, HashFault};

/// The largest file that is read: what a Secret can hold.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The longest user name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest password that is hashed, in bytes. SHA crypt's cost grows with the password's length.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// The users of one htpasswd file.
#[derive(Clone, Default)]
pub struct Users {
    by_name: BTreeMap<String, Hash>,
}

impl Users {
    /// Reads an htpasswd file. A file without users is not an error: it lets nobody in.
    ///
    /// # Errors
    ///
    /// Names the first line that is not understood, and why, without quoting it.
    pub fn parse(bytes: &[u8]) -> Result<Self, UsersError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(UsersError::TooBig);
        }
        Ok(Self {
            by_name: entries(bytes)
                .map(|entry| entry.map(|(name, hash)| (name.to_owned(), hash)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether the password is the user's. Takes as long for an unknown name as for a known one: the name then picks
    /// another user's hash, by `pick` (any number that depends on the name and on a secret), whose result is thrown
    /// away. Blocks for as long as the hash costs: up to a second.
    pub fn verify(&self, name: &str, password: &Password, pick: u64) -> bool {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return false;
        }
        match self.by_name.get(name) {
            Some(hash) => hash.matches(password),
            None => {
                let count = self.by_name.len() as u64;
                let stand_in = pick
                    .checked_rem(count)
                    .and_then(|index| self.by_name.values().nth(usize::try_from(index).unwrap_or(0)));
                if let Some(hash) = stand_in {
                    // The work is the point, not the result.
                    std::hint::black_box(hash.matches(password));
                }
                false
            }
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({}, redacted)", self.by_name.len())
    }
}

/// What is to be said of an htpasswd file, of which [`Users::parse`] says only the first thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How many lines are users.
    pub users: usize,
    /// The first lines that are not understood.
    pub faults: Vec<UsersError>,
    /// How many more there are.
    pub more: usize,
}

/// Reads an htpasswd file to its end, and tells the first lines that are not understood, so many at most.
pub fn check(bytes: &[u8], most: usize) -> Checked {
    let mut checked = Checked { users: 0, faults: Vec::new(), more: 0 };
    if bytes.len() > MAX_FILE_BYTES {
        checked.faults.push(UsersError::TooBig);
        return checked;
    }
    for entry in entries(bytes) {
        match entry {
            Ok(_) => checked.users += 1,
            Err(fault) if checked.faults.len() < most => checked.faults.push(fault),
            Err(_) => checked.more += 1,
        }
    }
    checked
}

/// The users of a file line by line, or what is wrong with the line.
fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(&str, Hash), UsersError>> {
    let mut first_lines: BTreeMap<&str, usize> = BTreeMap::new();
    (1..).zip(bytes.split(|byte| *byte == b'\n')).filter_map(move |(line, raw)| {
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        if raw.trim_ascii().is_empty() || raw.starts_with(b"#") {
            return None;
        }
        let mut entry = || {
            let (name, hash) = split(raw)?;
            let hash = Hash::parse(hash).map_err(LineFault::Hash)?;
            match *first_lines.entry(name).or_insert(line) {
                first if first < line => Err(LineFault::Duplicate { first }),
                _ => Ok((name, hash)),
            }
        };
        Some(entry().map_err(|fault| UsersError::Line { line, fault }))
    })
}

/// Parts a line into name and hash.
fn split(line: &[u8]) -> Result<(&str, &str), LineFault> {
    let line = str::from_utf8(line).map_err(|_| LineFault::NotUtf8)?;
    let (name, rest) = line.split_once(':').ok_or(LineFault::NoColon)?;
    let hash = rest.split_once(':').map_or(rest, |(hash, _comment)| hash);
    if name.is_empty() {
        return Err(LineFault::NoName);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(LineFault::LongName);
    }
    // The name goes to the application in a header, where blanks at its ends would be lost: another name would arrive.
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err(LineFault::BadName);
    }
    Ok((name, hash.trim_end()))
}

/// Why an htpasswd file was refused. Never quotes the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// The file is larger than a Secret can be.
    #[error("the file is larger than {MAX_FILE_BYTES} bytes")]
    TooBig,
    /// One line is not understood.
    #[error("line {line}: {fault}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The line is not UTF-8.
    #[error("is not UTF-8; save the file in that encoding")]
    NotUtf8,
    /// The line has no colon.
    #[error("has no colon between user and hash; write `user:hash`")]
    NoColon,
    /// Nothing stands before the colon.
    #[error("has no user name before the colon")]
    NoName,
    /// The name is too long.
    #[error("has a user name of more than {MAX_NAME_BYTES} bytes")]
    LongName,
    /// The name cannot be passed on unchanged.
    #[error("has a user name that begins or ends with a blank or holds a control character")]
    BadName,
    /// The name was there before.
    #[error("has a user that line {first} has already; remove one of them")]
    Duplicate {
        /// The line of the first entry.
        first: usize,
    },
    /// The hash is not one.
    #[error(transparent)]
    Hash(HashFault),
}

#[cfg(test)]
mod tests;
