//! How a packet is found to be of some ports.

use super::super::builder::{Builder, short_hash};
use super::super::statements::{at_least, at_most, in_set, is};
use crate::ports::Ports;
use crate::ruleset::{Field, Kind, Statement};
use sidewall_flow::Protocol;

/// The most ports of one range that become elements of a set instead of a range.
const EXPANDED: u16 = 8;
/// The most single ports for each of which an address has an element.
const MOST_SINGLES: usize = 16;
/// The longest text of ports that is used in a name.
const LONGEST: usize = 40;

impl Builder<'_> {
    /// The ways in which a packet can match ports: each a list of statements.
    pub fn port_matches(&mut self, ports: &Ports) -> Vec<Vec<Statement>> {
        if ports.is_empty() {
            return Vec::new();
        }
        if ports.is_all() {
            let transports = self.transports();
            return vec![vec![in_set([Field::Protocol], &transports)]];
        }
        let mut singles = Vec::new();
        let mut matches = Vec::new();
        for (protocol, first, last) in ports.iter() {
            if last - first < EXPANDED {
                singles.extend((first..=last).map(|port| (protocol, port)));
            } else {
                matches.push(port_range(protocol, first, last));
            }
        }
        match singles.as_slice() {
            [] => {}
            [(protocol, port)] => matches.insert(0, port_range(*protocol, *port, *port)),
            _ => {
                let name = ports_name(&singles.iter().map(|(protocol, port)| (*protocol, *port, *port)).collect());
                let keys = singles.iter().map(|(protocol, port)| vec![protocol.number().into(), (*port).into()]);
                let set = self.set(&format!("ports.{name}"), vec![Kind::Protocol, Kind::Port], keys);
                matches.insert(0, vec![in_set([Field::Protocol, Field::CtOriginalDestinationPort], &set)]);
            }
        }
        matches
    }
}

/// The ports that are looked up together with an address, one by one, and those that are too many for that. Where they are
/// all that is asked about, no port need be looked at.
pub fn few(ports: &Ports, asked: &Ports) -> (Vec<(Protocol, u16)>, Ports) {
    let is_short = |range: &(Protocol, u16, u16)| range.2 - range.1 < EXPANDED;
    let (short, long): (Vec<_>, Vec<_>) = ports.iter().partition(is_short);
    let singles: Vec<_> = short
        .into_iter()
        .flat_map(|(protocol, first, last)| (first..=last).map(move |port| (protocol, port)))
        .collect();
    if ports == asked || singles.len() > MOST_SINGLES {
        return (Vec::new(), ports.clone());
    }
    (singles, long.into_iter().collect())
}

/// The ways in which a packet can match ports, without any set.
pub fn port_compares(ports: &Ports) -> Vec<Vec<Statement>> {
    ports.iter().map(|(protocol, first, last)| port_range(protocol, first, last)).collect()
}

/// What ports are called in a name: themselves where they are few, else a hash.
pub fn ports_name(ports: &Ports) -> String {
    let text = ports.to_string();
    if text.len() > LONGEST {
        return short_hash(&text);
    }
    text.to_lowercase().replace('/', "-").replace(", ", "+").replace(' ', "-")
}

fn port_range(protocol: Protocol, first: u16, last: u16) -> Vec<Statement> {
    let mut statements = vec![is(Field::Protocol, protocol.number().into())];
    if first == last {
        statements.push(is(Field::CtOriginalDestinationPort, first.into()));
        return statements;
    }
    if first > 0 {
        statements.push(at_least(Field::CtOriginalDestinationPort, first.into()));
    }
    if last < u16::MAX {
        statements.push(at_most(Field::CtOriginalDestinationPort, last.into()));
    }
    statements
}
