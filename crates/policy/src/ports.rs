//! Sets of transport ports.

use crate::ranges::Ranges;
use sidewall_flow::Protocol;
use std::fmt;

const LAST: u128 = 65_535;

/// A set of ports of TCP, UDP and SCTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports([Ranges; 3]);

const fn slot(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

impl Ports {
    /// No port.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every port of every protocol.
    pub fn all() -> Self {
        Self(std::array::from_fn(|_| Ranges::of(0, LAST)))
    }

    /// The ports `first` to `last` of a protocol.
    pub fn of(protocol: Protocol, first: u16, last: u16) -> Self {
        let mut ports = Self::none();
        ports.0[slot(protocol)] = Ranges::of(first.into(), last.into());
        ports
    }

    /// A single port.
    pub fn one(protocol: Protocol, port: u16) -> Self {
        Self::of(protocol, port, port)
    }

    /// The ports of one protocol, as ranges.
    pub fn of_protocol(&self, protocol: Protocol) -> &Ranges {
        &self.0[slot(protocol)]
    }

    /// Whether it holds no port.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Ranges::is_empty)
    }

    /// Whether it holds every port.
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Whether a port is in it.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.of_protocol(protocol).contains(port.into())
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].union(&other.0[i])))
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].subtract(&other.0[i])))
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].intersect(&other.0[i])))
    }

    /// Every port as ranges with their protocol, in the order of protocols and numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Protocol, u16, u16)> + '_ {
        // Every bound is at most LAST.
        Protocol::ALL
            .into_iter()
            .flat_map(|p| self.of_protocol(p).iter().map(move |(first, last)| (p, first as u16, last as u16)))
    }
}

impl FromIterator<(Protocol, u16, u16)> for Ports {
    fn from_iter<I: IntoIterator<Item = (Protocol, u16, u16)>>(ranges: I) -> Self {
        let mut by_protocol: [Vec<(u128, u128)>; 3] = Default::default();
        for (protocol, first, last) in ranges {
            by_protocol[slot(protocol)].push((first.into(), last.into()));
        }
        Self(by_protocol.map(|ranges| ranges.into_iter().collect()))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all ports");
        }
        let parts: Vec<String> = self
            .iter()
            .map(
                |(protocol, first, last)| {
                    if first == last { format!("{protocol}/{first}") } else { format!("{protocol}/{first}-{last}") }
                },
            )
            .collect();
        f.write_str(&parts.join(", "))
    }
}
