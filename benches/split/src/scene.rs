//! Where a request is made: one namespace, or two that are joined.

use crate::Result;
use ipnet::IpNet;
use sidewall_netns::{Links, NetNs, sysctl};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

/// The port of whoever answers.
pub const PORT: u16 = 8080;
/// The device that joins both.
const LINK: &str = "link0";

/// How a request gets to who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Both are in one namespace, as containers of an ordinary pod.
    Localhost,
    /// By veth devices on one bridge.
    Bridge,
    /// By macvlan devices on one parent.
    Macvlan,
}

/// Both ends' namespaces, and the socket at which requests are taken.
#[derive(Debug)]
pub struct Scene {
    client: NetNs,
    /// Bound to `127.0.0.1`, as a service that is meant for its own pod.
    pub listener: TcpListener,
    /// Keeps the other ends of links.
    _rest: Vec<NetNs>,
}

impl Way {
    /// All, the ordinary pod first.
    pub const ALL: [Way; 3] = [Way::Localhost, Way::Bridge, Way::Macvlan];
    /// Those with two namespaces.
    pub const SPLIT: [Way; 2] = [Way::Bridge, Way::Macvlan];

    /// What it is called in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Localhost => "one namespace",
            Self::Bridge => "bridge and DNAT",
            Self::Macvlan => "macvlan and DNAT",
        }
    }
}

/// The address of an end on the link.
const fn address(part: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 213, 0, part))
}

impl Scene {
    /// Makes it, and sees to it that a request comes through.
    ///
    /// # Errors
    /// When the kernel or a program refuses something.
    pub fn new(way: Way) -> Result<Self> {
        let client = namespace()?;
        let (server, rest) = match way {
            Way::Localhost => (client.clone(), Vec::new()),
            Way::Bridge | Way::Macvlan => {
                let server = namespace()?;
                let rest = join(way, [&client, &server])?;
                translate(&client, &server)?;
                (server.clone(), [vec![server], rest].concat())
            }
        };
        let listener = server.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)))??;
        Ok(Self { client, listener, _rest: rest })
    }

    /// Makes a socket that is the client's, connected to its own `127.0.0.1`.
    ///
    /// # Errors
    /// When it can't be connected.
    pub fn inside<T: Send>(&self, work: impl FnOnce(SocketAddr) -> T + Send) -> Result<T> {
        Ok(self.client.run(|| work(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))))?)
    }
}

fn namespace() -> Result<NetNs> {
    let made = NetNs::new()?;
    Links::of(&made)?.set_up("lo")?;
    sysctl::set(&made, "net.ipv4.ip_local_port_range", "10000 65000")?;
    Ok(made)
}

fn join(way: Way, parts: [&NetNs; 2]) -> Result<Vec<NetNs>> {
    let node = NetNs::new()?;
    let mut links = Links::of(&node)?;
    let mut rest = vec![node.clone()];
    if way == Way::Bridge {
        ip(&node, "link add bridge0 type bridge")?;
        links.set_up("bridge0")?;
    } else {
        // A device with somebody at its other end, as a node's.
        let other = NetNs::new()?;
        links.add_veth("parent0", &other, "peer0")?;
        Links::of(&other)?.set_up("peer0")?;
        links.set_up("parent0")?;
        rest.push(other);
    }
    for (number, part) in (1..).zip(parts) {
        if way == Way::Bridge {
            let outer = format!("part{number}");
            links.add_veth(&outer, part, LINK)?;
            ip(&node, &format!("link set {outer} master bridge0 up"))?;
        } else {
            let into = format!("/proc/{}/fd/{}", std::process::id(), part.as_fd().as_raw_fd());
            ip(&node, &format!("link add link parent0 name {LINK} netns {into} type macvlan mode bridge"))?;
        }
        let mut inner = Links::of(part)?;
        inner.add_address(LINK, IpNet::new(address(number), 24)?)?;
        inner.set_up(LINK)?;
        inner.wait_operational(LINK, std::time::Duration::from_secs(5))?;
    }
    Ok(rest)
}

/// What is sent to the client's own loopback goes to the server's, and comes from the client's address. The guard stands
/// before the sysctl that makes it necessary.
fn translate(client: &NetNs, server: &NetNs) -> Result<()> {
    let guard =
        r#"chain guard { type filter hook prerouting priority raw; iifname != "lo" ip daddr 127.0.0.0/8 drop; }"#;
    let (from, to) = (address(1), address(2));
    nft(
        client,
        &format!(
            r#"table ip link {{
                {guard}
                chain out {{ type nat hook output priority -100; ip daddr 127.0.0.0/8 tcp dport {PORT} dnat to {to}; }}
                chain from {{ type nat hook postrouting priority srcnat; oifname "{LINK}" snat to {from}; }}
            }}"#
        ),
    )?;
    nft(
        server,
        &format!(
            r#"table ip link {{
                {guard}
                chain in {{ type nat hook prerouting priority dstnat;
                    iifname "{LINK}" ip daddr {to} tcp dport {PORT} dnat to 127.0.0.1; }}
            }}"#
        ),
    )?;
    for part in [client, server] {
        sysctl::set(part, &format!("net.ipv4.conf.{LINK}.route_localnet"), "1")?;
    }
    Ok(())
}

fn ip(inside: &NetNs, arguments: &str) -> Result<()> {
    let output = inside.run(|| Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output())??;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn nft(inside: &NetNs, rules: &str) -> Result<()> {
    inside.run(|| -> Result<()> {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        nft.stdin.take().ok_or("nft has no input")?.write_all(rules.as_bytes())?;
        let status = nft.wait()?;
        if status.success() { Ok(()) } else { Err(format!("nft: {status}: {rules}").into()) }
    })?
}
