//! Who stands at an end of a flow inside the pod.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The number of a container in its pod's ruleset: 1 to 60.
///
/// It belongs to a container's name and is not given to another while the pod lives, because live flows carry it in
/// their conntrack mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ContainerId(u8);

impl ContainerId {
    /// The greatest number. The mark has six bits; 0 is nobody, 61 to 63 are not containers.
    pub const MAX: u8 = 60;

    /// The number as the mark carries it.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A container number outside 1 to 60.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerIdError(pub u8);

impl fmt::Display for ContainerIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "container number {} is not in 1 to {}: a pod can have at most {} containers",
            self.0,
            ContainerId::MAX,
            ContainerId::MAX
        )
    }
}

impl std::error::Error for ContainerIdError {}

impl TryFrom<u8> for ContainerId {
    type Error = ContainerIdError;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if (1..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(ContainerIdError(number)) }
    }
}

impl From<ContainerId> for u8 {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

/// An end of a flow inside the pod's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A container that the ruleset knows.
    Container(ContainerId),
    /// A socket of no known container.
    Unknown,
    /// A process of the node itself inside the namespace: the runtime's port-forward, for example.
    Node,
}

impl Party {
    /// The six-bit number in the conntrack mark.
    pub const fn number(self) -> u8 {
        match self {
            Self::Container(id) => id.0,
            Self::Unknown => 61,
            Self::Node => 62,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(id) => write!(f, "c{}", id.0),
            Self::Unknown => f.write_str("unknown"),
            Self::Node => f.write_str("node"),
        }
    }
}

impl FromStr for Party {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "unknown" => Ok(Self::Unknown),
            "node" => Ok(Self::Node),
            _ => {
                let digits = text.strip_prefix('c').ok_or(())?;
                // Rust also reads `+1` and `01`; one party has one name.
                if !digits.starts_with(|first: char| matches!(first, '1'..='9')) {
                    return Err(());
                }
                let number: u8 = digits.parse().map_err(|_| ())?;
                ContainerId::try_from(number).map(Self::Container).map_err(|_| ())
            }
        }
    }
}
