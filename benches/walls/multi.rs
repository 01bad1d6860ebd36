//! The same policies in the shape that multi-networkpolicy-iptables gives them: a chain for each policy and direction, and
//! for each of its rules a chain of ports and a chain of peers, each of which sets a bit of the packet's mark; a packet
//! with both bits passes. Only the shape is theirs: the lines are written here.

use crate::input::Transport;
use crate::input::policies::Plain;
use crate::pod::DEVICE;
use std::fmt::Write as _;

/// The bit that says that a packet's port is allowed.
const PORT: &str = "0x10000/0x10000";
/// The bit that says that its peer is.
const PEER: &str = "0x20000/0x20000";
/// Both.
const BOTH: &str = "0x30000/0x30000";

/// One direction's words.
struct Direction {
    base: &'static str,
    chain: &'static str,
    peers: &'static str,
    device: &'static str,
    address: &'static str,
}

const DIRECTIONS: [Direction; 2] = [
    Direction { base: "INPUT", chain: "INGRESS", peers: "FROM", device: "-i", address: "-s" },
    Direction { base: "OUTPUT", chain: "EGRESS", peers: "TO", device: "-o", address: "-d" },
];

/// What `iptables-restore` reads. Each policy has one rule in each direction.
pub fn script(transport: Transport, policies: impl IntoIterator<Item = Plain>) -> String {
    let protocol = transport.name();
    let (mut chains, mut common, mut index, mut leaves) = (String::new(), String::new(), String::new(), String::new());
    chains.push_str("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    // Writing to a String cannot fail.
    for Direction { base, chain, .. } in &DIRECTIONS {
        let _ = writeln!(chains, ":MULTI-{chain} - [0:0]\n:MULTI-{chain}-COMMON - [0:0]");
        let _ = writeln!(common, "-A {base} -j MULTI-{chain}");
        let _ = writeln!(common, "-A MULTI-{chain}-COMMON -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        let _ = writeln!(common, "-A MULTI-{chain} -j MULTI-{chain}-COMMON");
    }
    for (number, policy) in policies.into_iter().enumerate() {
        for Direction { chain, peers, device, address, .. } in &DIRECTIONS {
            let top = format!("MULTI-{number}-{chain}");
            let (ports_chain, peers_chain) = (format!("{top}-0-PORTS"), format!("{top}-0-{peers}"));
            for name in [&top, &ports_chain, &peers_chain] {
                let _ = writeln!(chains, ":{name} - [0:0]");
            }
            let comment = format!("-m comment --comment \"policy:policy-{number} net-attach-def:shop/net\"");
            let _ = writeln!(index, "-A MULTI-{chain} {comment} {device} {DEVICE} -j {top}");
            let _ = writeln!(index, "-A MULTI-{chain} -m mark --mark {BOTH} -j RETURN");
            let _ = writeln!(index, "-A {top} -j MARK --set-xmark 0x0/0x30000");
            let _ = writeln!(index, "-A {top} -j {ports_chain}\n-A {top} -j {peers_chain}");
            let _ = writeln!(index, "-A {top} -m mark --mark {BOTH} -j RETURN");
            if policy.ports.is_empty() {
                let comment = "-m comment --comment \"no ports, skipped\"";
                let _ = writeln!(leaves, "-A {ports_chain} {comment} -j MARK --set-xmark {PORT}");
            }
            for port in &policy.ports {
                let is = format!("{device} {DEVICE} -p {protocol} -m {protocol} --dport {port}");
                let _ = writeln!(leaves, "-A {ports_chain} {is} -j MARK --set-xmark {PORT}");
            }
            for peer in &policy.peers {
                let is = format!("{device} {DEVICE} {address} {peer}");
                let _ = writeln!(leaves, "-A {peers_chain} {is} -j MARK --set-xmark {PEER}");
            }
        }
    }
    for Direction { chain, .. } in &DIRECTIONS {
        let _ = writeln!(index, "-A MULTI-{chain} -j DROP");
    }
    [chains, common, index, leaves, "COMMIT\n".to_owned()].concat()
}
