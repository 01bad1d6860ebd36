//! Protocols as IP headers number them, whether a rule can allow them or not.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A protocol by the number in the IP header (IANA "Assigned Internet Protocol Numbers").
///
/// Its text form is a name for those in [`IpProtocol::NAMES`] and the number for all others; each has one form only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpProtocol(pub u8);

/// A text that is no protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIpProtocolError(pub String);

impl fmt::Display for ParseIpProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no protocol: write a number from 0 to 255, or one of the names", self.0)?;
        IpProtocol::NAMES.iter().try_for_each(|(_, name)| write!(f, " {name}"))
    }
}

impl std::error::Error for ParseIpProtocolError {}

impl IpProtocol {
    /// The protocols that have names here.
    pub const NAMES: [(u8, &'static str); 10] = [
        (1, "ICMP"),
        (2, "IGMP"),
        (6, "TCP"),
        (17, "UDP"),
        (33, "DCCP"),
        (47, "GRE"),
        (50, "ESP"),
        (58, "ICMPv6"),
        (132, "SCTP"),
        (136, "UDPLite"),
    ];
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl FromStr for IpProtocol {
    type Err = ParseIpProtocolError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::NAMES.iter().find(|(_, name)| *name == text).map(|(number, _)| Self(*number));
        let protocol = named.or_else(|| text.parse().ok().map(Self));
        // One protocol has one form: neither `6` nor `017`.
        protocol.filter(|protocol| protocol.to_string() == text).ok_or_else(|| ParseIpProtocolError(text.to_owned()))
    }
}

impl From<crate::Protocol> for IpProtocol {
    fn from(protocol: crate::Protocol) -> Self {
        Self(protocol.number())
    }
}

impl From<IpProtocol> for String {
    fn from(protocol: IpProtocol) -> Self {
        protocol.to_string()
    }
}

impl TryFrom<String> for IpProtocol {
    type Error = ParseIpProtocolError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_form() {
        for number in 0..=u8::MAX {
            assert_eq!(IpProtocol(number).to_string().parse(), Ok(IpProtocol(number)));
        }
        for text in ["6", "06", "tcp", "256", "-1", "+9", ""] {
            assert!(text.parse::<IpProtocol>().is_err(), "{text}");
        }
    }
}
