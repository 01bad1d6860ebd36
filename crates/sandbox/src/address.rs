//! Chooses a pod's addresses: a small subnet for the node and the pod alone. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The ranges from which pods get their subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Cut into /30 subnets: the node has the first usable address, the pod the second.
    pub v4: Ipv4Net,
    /// Cut into /126 subnets likewise; `None` for pods without IPv6.
    pub v6: Option<Ipv6Net>,
}

impl Default for Pools {
    fn default() -> Self {
        Pools {
            v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 88, 0, 0), 16),
            v6: Some(Ipv6Net::new_assert(Ipv6Addr::new(0xfd53, 0x1de5, 0x0a11, 0, 0, 0, 0, 0), 64)),
        }
    }
}

/// The addresses of one pod and of the node toward it, with their prefix lengths, IPv4 first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The node's end.
    pub node: Vec<IpNet>,
    /// The pod's end.
    pub pod: Vec<IpNet>,
}

impl Pools {
    /// Picks the first free subnet, starting at a place that hangs on `seed`, so that a pod of the same name usually
    /// has the same addresses. `taken` are the addresses and routes that are there (default routes don't count).
    /// `None` when nothing is free.
    pub fn choose(&self, seed: u64, taken: &[IpNet]) -> Option<Addresses> {
        let taken: Vec<IpNet> = taken.iter().copied().filter(|net| net.prefix_len() > 0).collect();
        let mut count = 1u64 << 30u8.checked_sub(self.v4.prefix_len())?;
        if let Some(v6) = self.v6 {
            count = count.min(1 << 126u8.checked_sub(v6.prefix_len())?.min(32));
        }
        (0..count).map(|k| (seed % count + k) % count).find_map(|index| {
            let chosen = self.subnet(index)?;
            let clash = |net: &IpNet| taken.iter().any(|t| t.contains(net) || net.contains(t));
            (!chosen.node.iter().any(|n| clash(&n.trunc()))).then_some(chosen)
        })
    }

    fn subnet(&self, index: u64) -> Option<Addresses> {
        let base = u32::from(self.v4.network()) + u32::try_from(index * 4).ok()?;
        let v4 = |n: u32| IpNet::new(IpAddr::V4(Ipv4Addr::from(base + n)), 30).ok();
        let mut chosen = Addresses { node: vec![v4(1)?], pod: vec![v4(2)?] };
        if let Some(pool) = self.v6 {
            let base = u128::from(pool.network()) + u128::from(index) * 4;
            let v6 = |n: u128| IpNet::new(IpAddr::V6(Ipv6Addr::from(base + n)), 126).ok();
            chosen.node.push(v6(1)?);
            chosen.pod.push(v6(2)?);
        }
        Some(chosen)
    }
}

/// A number that is the same for the same text on every machine and in every version (FNV-1a).
pub(crate) fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn the_seed_decides_and_both_families_go_together() {
        let chosen = Pools::default().choose(5, &[]).unwrap();
        assert_eq!(chosen.node, nets(&["10.88.0.21/30", "fd53:1de5:a11::15/126"]));
        assert_eq!(chosen.pod, nets(&["10.88.0.22/30", "fd53:1de5:a11::16/126"]));
        assert_eq!(Pools::default().choose(5 + (1 << 14), &[]).unwrap(), chosen);
    }

    #[test]
    fn what_is_taken_is_passed_over_and_default_routes_are_not_taken() {
        let first = nets(&["10.88.0.22/32", "0.0.0.0/0", "::/0", "fd53:1de5:a11::18/128"]);
        let chosen = Pools::default().choose(5, &first).unwrap();
        assert_eq!(chosen.pod[0], nets(&["10.88.0.30/30"])[0]);
        assert_eq!(Pools::default().choose(5, &nets(&["10.0.0.0/8"])), None);
    }

    #[test]
    fn a_full_pool_gives_none_and_its_end_wraps_round() {
        let pools = Pools { v4: "10.1.0.0/29".parse().unwrap(), v6: None };
        assert_eq!(pools.choose(1, &nets(&["10.1.0.4/30"])).unwrap().pod, nets(&["10.1.0.2/30"]));
        assert_eq!(pools.choose(0, &nets(&["10.1.0.4/30", "10.1.0.1/32"])), None);
        assert_eq!(Pools { v4: "10.1.0.0/31".parse().unwrap(), v6: None }.choose(0, &[]), None);
    }
}
