//! A network between nodes beside the one that they are joined by: one Ethernet segment, as a switch makes it.

use sidewall_netns::{Links, sysctl};

use crate::cell::output;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::node::Node;
use crate::parts;

/// The device of a node that is on the segment. It has no address of its own.
pub const DEVICE: &str = "eth1";
/// The bridge in the fabric's namespace that is the switch.
const SWITCH: &str = "segment";

/// Puts all nodes of a cluster on one segment, each with its [`DEVICE`]. It lives as long as their namespaces.
///
/// # Errors
/// When the kernel refuses.
pub fn join(cluster: &Cluster) -> Result<()> {
    let switch = cluster.control().cell();
    let ip = parts::system("ip")?;
    let run = |arguments: &[&str]| output(switch.command(&ip)?.args(arguments));
    run(&["link", "add", SWITCH, "type", "bridge"])?;
    run(&["link", "set", SWITCH, "up"])?;
    let mut here = Links::of(switch.netns())?;
    for node in cluster.nodes() {
        let outer = format!("seg-{}", node.name());
        here.add_veth(&outer, node.cell().netns(), DEVICE)?;
        run(&["link", "set", &outer, "master", SWITCH, "up"])?;
        up(node)?;
    }
    Ok(())
}

fn up(node: &Node) -> Result<()> {
    // The node itself has no business there.
    sysctl::set(node.cell().netns(), &format!("net.ipv6.conf.{DEVICE}.disable_ipv6"), "1")?;
    Ok(Links::of(node.cell().netns())?.set_up(DEVICE)?)
}
