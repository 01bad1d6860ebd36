//! The same policies as people write them by hand: a chain of `owner` matches.

use crate::Result;
use crate::input::Transport;
use crate::input::policies::Plain;
use crate::pod::Way;
use serde::{Deserialize, Serialize};
use sidewall_netns::{Launch, NetNs};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

/// Which of the two programs, and thereby which part of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flavour {
    /// `iptables-legacy`: `ip_tables`.
    Legacy,
    /// `iptables-nft`: `nf_tables` with iptables' own matches.
    Nft,
}

impl Flavour {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Nft];

    /// The program's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "iptables-legacy",
            Self::Nft => "iptables-nft",
        }
    }

    fn restore(self) -> String {
        format!("/usr/sbin/{}-restore", self.name())
    }

    /// Whether the program is here.
    pub fn exists(self) -> bool {
        Path::new(&self.restore()).exists()
    }
}

/// The chain: what is established passes, each peer has its rule, the rest is refused. On loopback the other container
/// is the last peer; iptables has no word for it but its address.
pub fn script(way: Way, user: u32, peers: impl Iterator<Item = IpAddr>) -> String {
    let mut script = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
    let chain = if way == Way::In { "INPUT" } else { "OUTPUT" };
    // Writing to a String cannot fail.
    let mut add = |rule: &str| {
        let _ = writeln!(script, "-A {chain} {rule}");
    };
    add("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    for peer in peers {
        match way {
            Way::In => add(&format!("-s {peer} -j ACCEPT")),
            Way::Out | Way::Loopback => add(&format!("-m owner --uid-owner {user} -d {peer} -j ACCEPT")),
        }
    }
    if way == Way::Loopback {
        add(&format!("-m owner --uid-owner {user} -d 127.0.0.1 -j ACCEPT"));
    }
    add(if way == Way::In { "-j DROP" } else { "-j REJECT" });
    script.push_str("COMMIT\n");
    script
}

/// The same for many policies, each with its peers and ports, in both directions.
pub fn policies(way: Way, user: u32, transport: Transport, policies: impl Iterator<Item = Plain>) -> String {
    let protocol = transport.name();
    let mut script = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
    // Loopback's packets meet both chains, and `owner` knows the sender alone.
    let chains: &[&str] = if way == Way::Loopback { &["OUTPUT"] } else { &["INPUT", "OUTPUT"] };
    let mut tails = String::new();
    // Writing to a String cannot fail.
    for chain in chains {
        let _ = writeln!(script, "-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        let _ = writeln!(tails, "-A {chain} -j {}", if *chain == "INPUT" { "DROP" } else { "REJECT" });
    }
    for policy in policies {
        for (peer, port) in policy.peers.iter().flat_map(|peer| policy.ports.iter().map(move |port| (peer, port))) {
            for chain in chains {
                let _ = match *chain {
                    "INPUT" => writeln!(script, "-A INPUT -s {peer} -p {protocol} --dport {port} -j ACCEPT"),
                    _ => writeln!(
                        script,
                        "-A OUTPUT -d {peer} -p {protocol} --dport {port} -m owner --uid-owner {user} -j ACCEPT"
                    ),
                };
            }
        }
    }
    script + &tails + "COMMIT\n"
}

/// Loads a script in a namespace.
pub fn restore(ns: &NetNs, flavour: Flavour, script: &str) -> Result<()> {
    // The host's lock is for the host's rules.
    let lock = std::env::temp_dir().join(format!("sidewall-bench-{}.lock", std::process::id()));
    let outcome = run(ns, flavour, script, &lock);
    match std::fs::remove_file(&lock) {
        // Not every program takes a lock.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => outcome,
    }
}

fn run(ns: &NetNs, flavour: Flavour, script: &str, lock: &Path) -> Result<()> {
    let mut process = Launch::new(flavour.restore())
        .env("XTABLES_LOCKFILE", lock)
        .netns(ns)
        .privileged()
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut stdin = process.take_stdin().ok_or("the program has no standard input")?;
    stdin.write_all(script.as_bytes())?;
    drop(stdin);
    let status = process.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", flavour.name()).into()) }
}
