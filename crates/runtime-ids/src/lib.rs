//! Names that the container runtime gives: of a pod's sandbox and of a container. CRI and NRI speak of both.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest id, in bytes. Those of containerd and CRI-O have 64.
pub const ID_MAX: usize = 128;

/// This is no id: it would not be safe in a path or in a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadId {
    /// There is none.
    #[error("the id is empty")]
    Empty,
    /// It has more than [`ID_MAX`] bytes.
    #[error("the id has {0} bytes, more than {ID_MAX}")]
    Long(usize),
    /// It has something else than letters, digits, `-`, `_` and `.`, or begins with a `.`.
    #[error("the id has a character that none may have at byte {0}")]
    Character(usize),
}

fn check(id: &str) -> Result<(), BadId> {
    if id.is_empty() {
        return Err(BadId::Empty);
    }
    if id.len() > ID_MAX {
        return Err(BadId::Long(id.len()));
    }
    let good =
        |(at, byte): (usize, u8)| byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || byte == b'.' && at > 0;
    match id.bytes().enumerate().find(|found| !good(*found)) {
        Some((at, _)) => Err(BadId::Character(at)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The id as the runtime writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(id: String) -> Result<Self, BadId> {
                check(&id)?;
                Ok(Self(id))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(id: &str) -> Result<Self, BadId> {
                id.to_owned().try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id! {
    /// The runtime's name of a pod's sandbox: one attempt to run the pod. 1 to [`ID_MAX`] letters, digits, `-`, `_`, `.`.
    SandboxId
}
id! {
    /// The runtime's name of a container: one attempt to run it. 1 to [`ID_MAX`] letters, digits, `-`, `_`, `.`.
    ContainerId
}

#[cfg(test)]
mod tests {
    use super::{BadId, ContainerId, ID_MAX};

    #[test]
    fn an_id_is_safe_in_a_path_and_in_a_log() {
        assert_eq!("a.b-c_d".parse::<ContainerId>().unwrap().as_str(), "a.b-c_d");
        let parse = |id: &str| id.parse::<ContainerId>().unwrap_err();
        assert_eq!(parse(""), BadId::Empty);
        assert_eq!(parse(&"f".repeat(ID_MAX + 1)), BadId::Long(ID_MAX + 1));
        assert_eq!(parse(".."), BadId::Character(0));
        assert_eq!(parse("ab/../c"), BadId::Character(2));
    }
}
