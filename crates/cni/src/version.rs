//! Versions of the CNI specification.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of the CNI specification that this plugin speaks.
///
/// 0.3.0 and 0.3.1 are among them because many networks' configurations still name them, and a chain is spoken to in
/// the one version of its list: what a plugin does at ADD and DEL and what a result looks like are the same in them as
/// in 0.4.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SpecVersion {
    /// 0.3.0: chains and the rich result.
    #[serde(rename = "0.3.0")]
    V0_3_0,
    /// 0.3.1: 0.3.0 with its errors corrected.
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` at DEL.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 1.0.0: lists only; no `version` beside an address.
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// 1.1.0: STATUS and GC.
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl SpecVersion {
    /// All, oldest first.
    pub const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As the specification writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that is written so; `None` for one that this plugin does not speak.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Whether a result says beside each address which family it is of (`ips[].version`), as it did before 1.0.0.
    pub const fn says_family(self) -> bool {
        matches!(self, Self::V0_3_0 | Self::V0_3_1 | Self::V0_4_0)
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
