//! Points in time, as records write them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that RFC 3339's four digits of a year can tell: 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// A point in time, to the microsecond.
///
/// Its text form is RFC 3339 in UTC with six digits after the point, `2026-11-22T02:29:48.000123Z`: texts sort as times do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    /// Since the Unix epoch.
    micros: u64,
}

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseTimestampError(pub String);

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no time such as 2026-11-22T02:29:48Z (RFC 3339, UTC)", self.0)
    }
}

impl std::error::Error for ParseTimestampError {}

impl Timestamp {
    /// Now, by this machine's clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time as the system has it.
    pub fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.micros)
    }

    /// The earlier time by so much; the epoch, where there is none.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self { micros: self.micros.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)) }
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before the epoch become the epoch, those after the year 9999 its end; what is finer than a microsecond is cut.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = LAST * 1_000_000 + 999_999;
        Self { micros: u64::try_from(since.as_micros()).unwrap_or(last).min(last) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_rfc3339_micros(self.time()).to_string())
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_rfc3339(text).map(Self::from).map_err(|_| ParseTimestampError(text.to_owned()))
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = ParseTimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_to_the_microsecond() {
        let time = Timestamp::from(UNIX_EPOCH + Duration::new(1_795_314_588, 123_456_789));
        assert_eq!(time.to_string(), "2026-11-22T02:29:48.123456Z");
        assert_eq!("2026-11-22T02:29:48.123456Z".parse(), Ok(time));
        assert_eq!("2026-11-22T02:29:48Z".parse::<Timestamp>().unwrap().to_string(), "2026-11-22T02:29:48.000000Z");
        assert_eq!(time.before(Duration::from_secs(48)).to_string(), "2026-11-22T02:29:00.123456Z");
        for text in ["", "yesterday", "2026-11-22", "2026-13-01T00:00:00Z", "2026-11-22T02:29:48+01:00"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_time_is_out_of_range() {
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(5)).to_string(), "1970-01-01T00:00:00.000000Z");
        let far = Timestamp::from(UNIX_EPOCH + Duration::from_secs(LAST * 2));
        assert_eq!(far.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(far.to_string().parse(), Ok(far));
        assert_eq!(far.before(Duration::MAX).to_string(), "1970-01-01T00:00:00.000000Z");
    }
}
