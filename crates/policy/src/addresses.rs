//! Sets of IP addresses.

use crate::ranges::Ranges;
use ipnet::IpNet;
use std::net::IpAddr;

/// A set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses {
    /// IPv4 addresses, as 32-bit numbers.
    pub v4: Ranges,
    /// IPv6 addresses, as 128-bit numbers.
    pub v6: Ranges,
}

impl Addresses {
    /// Every address.
    pub fn all() -> Self {
        Self { v4: Ranges::of(0, u32::MAX.into()), v6: Ranges::of(0, u128::MAX) }
    }

    /// What no address block of a policy covers: loopback and multicast, the unspecified address and the limited
    /// broadcast (RFC 1122 §3.2.1.3, RFC 4291 §2.5–2.7).
    pub fn never_peers() -> Self {
        [
            "127.0.0.0/8",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "0.0.0.0/32",
            "::/128",
            "::1/128",
            "ff00::/8",
            "::ffff:0:0/96",
        ]
        .into_iter()
        .filter_map(|net| net.parse::<IpNet>().ok())
        .collect()
    }

    /// Link-local addresses (RFC 3927, RFC 4291 §2.5.6).
    pub fn link_local() -> Self {
        ["169.254.0.0/16", "fe80::/10"].into_iter().filter_map(|net| net.parse::<IpNet>().ok()).collect()
    }

    /// Whether there is no address in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits().into()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersect(&other.v4), v6: self.v6.intersect(&other.v6) }
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        Self { v4: self.v4.subtract(&other.v4), v6: self.v6.subtract(&other.v6) }
    }
}

impl FromIterator<IpNet> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits().into(), net.broadcast().to_bits().into())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }
}

impl FromIterator<Self> for Addresses {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend(set.v4.iter());
            v6.extend(set.v6.iter());
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        addresses.into_iter().map(IpNet::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_block_is_written_right() {
        let never = Addresses::never_peers();
        assert_eq!((never.v4.iter().len(), never.v6.iter().len()), (4, 3));
        assert_eq!((Addresses::link_local().v4.iter().len(), Addresses::link_local().v6.iter().len()), (1, 1));
    }

    #[test]
    fn blocks_and_exceptions() {
        let block: Addresses = ["10.0.0.0/8".parse::<IpNet>().unwrap()].into_iter().collect();
        let except: Addresses = ["10.1.0.0/16".parse::<IpNet>().unwrap()].into_iter().collect();
        let rest = block.subtract(&except);
        assert!(rest.contains("10.0.255.255".parse().unwrap()) && rest.contains("10.2.0.0".parse().unwrap()));
        assert!(!rest.contains("10.1.0.0".parse().unwrap()) && !rest.contains("10.1.255.255".parse().unwrap()));
        assert!(!rest.contains("::1".parse().unwrap()));
    }
}
