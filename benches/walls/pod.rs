//! A pod's network namespace with a network behind it, and its cgroups.

use crate::Result;
use crate::walls::By;
use sidewall_flow::ContainerId;
use sidewall_netns::{Cgroup, Cgroups, Launch, Links, NetNs, sysctl};
use sidewall_policy::model::{Identities, UserIdentities};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

/// The pod's addresses.
pub const POD4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// The same for IPv6.
pub const POD6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));
/// The pod's device.
pub const DEVICE: &str = "eth0";
/// The address of the network next to the pod.
pub const NODE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// The same for IPv6.
pub const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
/// The user, and group, of the measured container.
pub const USER: u32 = 20_001;
/// The same of the other container.
pub const OTHER_USER: u32 = 20_002;
/// What the names of this benchmark's cgroups begin with; the process id follows.
const GROUP: &str = "sidewall-bench-";

/// The way that the connections take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Inside the pod, from one container to another.
    Loopback,
    /// From the pod to the network.
    Out,
    /// From the network to the pod.
    In,
}

/// A pod's network namespace, joined to one that answers for every address.
pub struct PodNet {
    /// The pod's.
    pub pod: NetNs,
    /// The network's.
    pub network: NetNs,
}

impl PodNet {
    /// Makes both. What the network sends to the pod has the source address that is given, else the node's.
    pub fn new(source: Option<IpAddr>) -> Result<Self> {
        let (pod, network) = (NetNs::new()?, NetNs::new()?);
        let (mut inside, mut outside) = (Links::of(&pod)?, Links::of(&network)?);
        outside.add_veth("pod0", &pod, DEVICE)?;
        for (links, device, addresses) in [(&mut inside, DEVICE, [POD4, POD6]), (&mut outside, "pod0", [NODE4, NODE6])]
        {
            links.set_up("lo")?;
            for address in addresses {
                let length = if address.is_ipv4() { 24 } else { 64 };
                links.add_address(device, ipnet::IpNet::new(address, length)?)?;
            }
            links.set_up(device)?;
        }
        inside.add_route("0.0.0.0/0".parse()?, Some(NODE4), DEVICE)?;
        inside.add_route("::/0".parse()?, Some(NODE6), DEVICE)?;
        if let Some(source) = source {
            // IPv6 prefers no source that is on no device.
            outside.add_address("lo", ipnet::IpNet::from(source))?;
        }
        let source = |v4: bool| match source {
            Some(source) if source.is_ipv4() == v4 => format!(" src {source}"),
            _ => String::new(),
        };
        ip(&network, "-4 route add local default dev lo table local")?;
        ip(&network, "-6 route add local default dev lo table local")?;
        ip(&network, &format!("-4 route add 10.77.0.0/24 dev pod0 table local{}", source(true)))?;
        ip(&network, &format!("-6 route add fd77::/64 dev pod0 table local{}", source(false)))?;
        for ns in [&pod, &network] {
            sysctl::set(ns, "net.ipv4.ip_local_port_range", "10000 65000")?;
        }
        Ok(Self { pod, network })
    }
}

fn ip(ns: &NetNs, arguments: &str) -> Result<()> {
    let launch = Launch::new("/usr/sbin/ip").args(arguments.split(' ')).netns(ns).privileged();
    let status = launch.stderr(Stdio::inherit()).spawn()?.wait()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments}: {status}").into()) }
}

/// The cgroups of a pod; removed with this.
pub struct Groups {
    top: Cgroup,
    pods: Cgroup,
    /// That of the first container.
    pub client: Cgroup,
    /// That of the second.
    pub server: Cgroup,
}

impl Groups {
    /// Makes them.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{GROUP}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let top = Cgroups::find()?.top().create(&name)?;
        let pods = top.create("pods")?;
        let (client, server) = (pods.create("client")?, pods.create("server")?);
        Ok(Self { top, pods, client, server })
    }

    /// How the kernel tells the containers apart; those beyond the first two have not started.
    pub fn identities(&self, by: By) -> Result<Identities> {
        let ids = [ContainerId::try_from(1)?, ContainerId::try_from(2)?];
        Ok(match by {
            By::Cgroup => Identities::Cgroup {
                level: u8::try_from(self.client.level())?,
                containers: [(ids[0], [self.client.id()?.0].into()), (ids[1], [self.server.id()?.0].into())].into(),
                pods_level: u8::try_from(self.pods.level())?,
                pods: self.pods.id()?.0,
            },
            By::Uid => Identities::Uid(UserIdentities {
                containers: [(ids[0], USER), (ids[1], OTHER_USER)].into(),
                node: [0].into(),
            }),
        })
    }
}

/// Removes the cgroups of runs that were killed before they could: their processes died with them, and their network
/// namespaces with those.
pub fn sweep() -> Result<()> {
    for group in Cgroups::find()?.top().children()? {
        let run = group.name().strip_prefix(GROUP).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if run.is_some_and(|run| !Path::new(&format!("/proc/{run}")).exists()) {
            group.kill()?;
            group.remove_tree()?;
        }
    }
    Ok(())
}

impl Drop for Groups {
    fn drop(&mut self) {
        if let Err(error) = self.top.kill().and_then(|()| self.top.remove_tree()) {
            eprintln!("the cgroup {} is left behind: {error}", self.top.path().display());
        }
    }
}
