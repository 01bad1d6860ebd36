//! A ruleset that judges flows as those of pods do, by hand: by generation, and by whom they were meant for.

use crate::support::*;
use sidewall_netfilter::Way;
use sidewall_netns::NetNs;
use sidewall_policy::mark::{CLIENT, DENIED, GENERATION, generation};
use sidewall_policy::ruleset::{
    Compare, Element, Field, Generation, HookPoint, Kind, Rule, Ruleset, Set, Statement, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Whom the processes of a namespace may send to.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Single addresses, and the chain that they lead to: `pass` or `other`, which pass, or `deny`.
    pub peers: BTreeMap<u128, &'static str>,
    /// Single addresses, in a plain set.
    pub hosts: BTreeSet<u128>,
    /// Ranges of addresses, first and last; every other one leads to `other` instead of `pass`.
    pub nets: BTreeMap<u128, u128>,
    /// Ranges of ports that are refused, whoever listens.
    pub refused: BTreeMap<u128, u128>,
}

/// The address 127.1.0.0 and so many more.
pub fn peer(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number)
}

pub fn key(number: u32) -> u128 {
    peer(number).to_bits().into()
}

pub fn number(generation: u32) -> Generation {
    // Round the clock.
    Generation::new(u8::try_from((generation - 1) % 31 + 1).unwrap()).unwrap()
}

impl Pod {
    /// With these addresses as peers.
    pub fn of(peers: impl IntoIterator<Item = u32>) -> Self {
        Self { peers: peers.into_iter().map(|peer| (key(peer), "pass")).collect(), ..Self::default() }
    }

    pub fn with(mut self, peer: u32) -> Self {
        self.peers.insert(key(peer), "pass");
        self
    }

    pub fn ruleset(&self, round: u32) -> Ruleset {
        let number = number(round);
        let now = generation(number);
        let marked = |how, mask: u32, value: u32| compare(Field::CtMark, Some(mask), how, value.into());
        let state = |state: u32| compare(Field::CtState, Some(state), Compare::NotEqual, 0);
        let go = |chain: &str| verdict(Verdict::Goto(chain.into()));
        let to_them = || vec![Field::CtOriginalDestination4];
        let lookup =
            |set: &str, field| Statement::Lookup { fields: vec![field], mask: None, set: set.into(), negate: false };
        let ours = || equal(Field::NfProtocol, 2);
        let out = vec![
            // What the kernel says of refused flows.
            rule([state(Field::CT_RELATED), verdict(Verdict::Accept)]),
            rule([
                state(Field::CT_ESTABLISHED),
                marked(Compare::Equal, GENERATION | DENIED | CLIENT, now | CLIENT),
                verdict(Verdict::Accept),
            ]),
            rule([
                marked(Compare::NotEqual, GENERATION, now),
                Statement::SetMark { keep: !(GENERATION | CLIENT | DENIED), set: now },
            ]),
            rule([marked(Compare::NotEqual, DENIED, 0), go("refuse")]),
            rule([ours(), lookup("refused", Field::CtOriginalDestinationPort), go("deny")]),
            rule([ours(), Statement::Dispatch { fields: to_them(), mask: None, map: "peers".into() }]),
            rule([ours(), lookup("hosts", Field::CtOriginalDestination4), go("pass")]),
            rule([ours(), Statement::Dispatch { fields: to_them(), mask: None, map: "nets".into() }]),
            rule([go("deny")]),
        ];
        let passing = |name: &str| {
            let passed = Statement::SetMark { keep: !CLIENT, set: CLIENT };
            chain(name, [rule([passed, Statement::Count(name.into()), verdict(Verdict::Accept)])])
        };
        let refusal = || -> Vec<Rule> {
            vec![rule([equal(Field::Protocol, 6), Statement::RejectTcpReset]), rule([verdict(Verdict::Drop)])]
        };
        let denied = Statement::SetMark { keep: !(DENIED | CLIENT), set: DENIED };
        let mut deny = vec![rule([Statement::Count("deny".into())]), rule([state(Field::CT_ESTABLISHED), denied])];
        deny.extend(refusal());
        let of = |name: &str, kind, interval, map, elements: Vec<Element>| {
            growing(Set { map, ..set(name, &[kind], interval, elements) })
        };
        let sets = vec![
            of("refused", Kind::Port, true, false, ranges(&self.refused)),
            of(
                "peers",
                Kind::Ipv4,
                false,
                true,
                self.peers.iter().map(|(k, to_chain)| to(&[*k], Verdict::Goto((*to_chain).into()))).collect(),
            ),
            of("hosts", Kind::Ipv4, false, false, self.hosts.iter().map(|host| element(&[*host])).collect()),
            of("nets", Kind::Ipv4, true, true, self.nets.iter().map(leading).collect()),
        ];
        Ruleset {
            generation: number,
            tables: vec![table(
                &["deny", "other", "pass"],
                sets,
                vec![
                    base("out", HookPoint::Output, false, out),
                    passing("pass"),
                    passing("other"),
                    chain("deny", deny),
                    chain("refuse", refusal()),
                ],
            )],
        }
    }
}

fn leading((first, last): (&u128, &u128)) -> Element {
    let chain = if (first + last).is_multiple_of(2) { "pass" } else { "other" };
    Element { verdict: Some(Verdict::Goto(chain.into())), ..range(*first, *last) }
}

fn ranges(ranges: &BTreeMap<u128, u128>) -> Vec<Element> {
    ranges.iter().map(|(first, last)| range(*first, *last)).collect()
}

/// The port that peers are sent to at.
pub const PORT: u16 = 4000;

/// A socket that a datagram to any loopback address comes to.
pub fn listener(namespace: &NetNs) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

pub fn sender(namespace: &NetNs, peer: Ipv4Addr) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.connect((peer, PORT)).unwrap();
    socket
}

/// Whether a datagram of the socket is let out.
pub fn passes(socket: &UdpSocket) -> bool {
    match socket.send(b"x") {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            false
        }
    }
}

/// What a change did to sets and chains.
pub fn amended(added: usize, deleted: usize, chains: usize) -> Way {
    Way::Amended { added, deleted, chains }
}
