//! Makes a pod's network: its namespace, loopback, and the link to the node.

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use sidewall_netns::{Links, NetNs, sysctl};

use crate::address::{Addresses, Pools, seed};
use crate::error::{Error, Result};
use crate::pod::INTERFACE;
use crate::state::LINK_PREFIX;

/// How long the kernel may take to notice that both ends of the link are up.
const LINK_LIMIT: Duration = Duration::from_secs(10);

/// Chooses what is free at the node: a subnet, and a name for its end of the link. To be made under the machine's lock.
pub(crate) fn choose(pools: &Pools, node: &NetNs, name: &str) -> Result<(Addresses, String)> {
    let mut links = Links::of(node)?;
    let mut taken: Vec<IpNet> = links.addresses()?.into_iter().map(|(_, net)| net).collect();
    taken.extend(links.routes()?.into_iter().map(|r| r.destination));
    let seed = seed(name);
    let addresses = pools.choose(seed, &taken).ok_or_else(|| Error::NoAddress {
        v4: pools.v4.to_string(),
        v6: pools.v6.map(|v6| format!(" and {v6}")).unwrap_or_default(),
    })?;
    if pools.v6.is_some() && !Path::new("/proc/sys/net/ipv6").exists() {
        return Err(Error::NoIpv6);
    }
    let names: Vec<String> = links.links()?.into_iter().map(|l| l.name).collect();
    // Another state directory may have a pod of the same name.
    let link = (0u64..).map(|k| format!("{LINK_PREFIX}{:010x}", seed.wrapping_add(k) & 0xff_ffff_ffff));
    let link = link.into_iter().find(|n| !names.contains(n)).unwrap_or_default();
    Ok((addresses, link))
}

/// Sets up `pod` and its link to `node`.
pub(crate) fn connect(
    pod: &NetNs,
    node: &NetNs,
    link: &str,
    addresses: &Addresses,
    settings: &[(String, String)],
) -> Result<()> {
    let (mut at_pod, mut at_node) = (Links::of(pod)?, Links::of(node)?);
    // Processes have no capability here, so the ports below 1024 are open to all, as container runtimes do it. What the
    // manifest says comes afterwards and wins.
    sysctl::set(pod, "net.ipv4.ip_unprivileged_port_start", "0")?;
    for (key, value) in settings {
        sysctl::set(pod, key, value)?;
    }
    at_pod.set_up("lo")?;
    at_node.add_veth(link, pod, INTERFACE)?;
    for net in &addresses.node {
        at_node.add_address(link, *net)?;
    }
    for net in &addresses.pod {
        at_pod.add_address(INTERFACE, *net)?;
    }
    at_node.set_up(link)?;
    at_pod.set_up(INTERFACE)?;
    for gateway in &addresses.node {
        let any = if gateway.addr().is_ipv4() {
            IpNet::from(ipnet::Ipv4Net::default())
        } else {
            ipnet::Ipv6Net::default().into()
        };
        at_pod.add_route(any, Some(gateway.addr()), INTERFACE)?;
    }
    // Or the first packets of the pod, or the first probe, would be lost.
    at_node.wait_operational(link, LINK_LIMIT)?;
    at_pod.wait_operational(INTERFACE, LINK_LIMIT)?;
    Ok(())
}
