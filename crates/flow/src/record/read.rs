//! Records as lines of JSON.

use super::Record;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The version of the form of records that this crate writes and reads.
pub const VERSION: u32 = 1;

/// That a record has the form that this crate writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(VERSION)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            VERSION => Ok(Self),
            found => Err(D::Error::custom(ReadRecordError::Version { found })),
        }
    }
}

/// Why a line is no record.
#[derive(Debug)]
pub enum ReadRecordError {
    /// It has another version's form.
    Version {
        /// Which.
        found: u32,
    },
    /// It is not JSON, or has not the form of a record.
    Form(serde_json::Error),
}

impl fmt::Display for ReadRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found } => write!(
                f,
                "the record is of version {found}, and this program reads version {VERSION}: use the version of Sidewall that wrote it"
            ),
            Self::Form(error) => write!(f, "the line is no record of a flow log: {error}"),
        }
    }
}

impl std::error::Error for ReadRecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Version { .. } => None,
            Self::Form(error) => Some(error),
        }
    }
}

impl Record {
    /// The record as one line of JSON, without its line break.
    pub fn to_line(&self) -> String {
        // Its maps have text for keys and it holds no number that JSON lacks: nothing in it can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a line that [`Record::to_line`] wrote.
    ///
    /// # Errors
    /// [`ReadRecordError`]; unknown fields are errors.
    pub fn from_line(line: &str) -> Result<Self, ReadRecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // First: what is wrong with another version's form is its version.
        let Versioned { version } = serde_json::from_str(line).map_err(ReadRecordError::Form)?;
        if version != VERSION {
            return Err(ReadRecordError::Version { found: version });
        }
        serde_json::from_str(line).map_err(ReadRecordError::Form)
    }
}
