//! Who is expected to reach whom: a few lines, each an exception to those before it.
//!
//! Before the first line everything is allowed. A line is `allow` or `deny`, then any of `from ENDS`, `to ENDS`,
//! `on PORTS` and `over IPv4` or `over IPv6`, in this order; what is left out is all of it. Of two lines that speak of the
//! same flow, the later one holds.

use super::cluster::{End, Place};
use sidewall_flow::{Action, Protocol};
use std::fmt;

/// A flow that is tried between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Over IPv6 rather than IPv4.
    pub v6: bool,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} over {}", self.protocol, self.port, if self.v6 { "IPv6" } else { "IPv4" })
    }
}

/// What the lines of a step say.
#[derive(Clone, Debug)]
pub struct Expectation {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    action: Action,
    from: Option<Vec<String>>,
    to: Option<Vec<String>>,
    ports: Option<Vec<(Protocol, Option<u16>)>>,
    v6: Option<bool>,
}

impl Expectation {
    /// Reads lines about ends that there are.
    ///
    /// # Panics
    /// Where a line is not understood, or names an end that there is not.
    pub fn read(lines: &[String], ends: &[End]) -> Self {
        let lines: Vec<Line> =
            lines.iter().map(|line| Line::read(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect();
        for named in lines.iter().flat_map(|line| line.from.iter().chain(&line.to)).flatten() {
            assert!(ends.iter().any(|end| names(named, end)), "{named:?} is nobody");
        }
        Self { lines }
    }

    /// What is expected of a flow. Nothing keeps a pod from itself, and nothing keeps a node and its own pods apart.
    pub fn of(&self, from: &End, to: &End, probe: Probe) -> Action {
        if from.name == to.name || from.place == Place::Node || to.place == Place::Node {
            return Action::Allow;
        }
        let last = self.lines.iter().rev().find(|line| line.speaks_of(from, to, probe));
        last.map_or(Action::Allow, |line| line.action)
    }
}

impl Line {
    fn read(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace().peekable();
        let action = match words.next() {
            Some("allow") => Action::Allow,
            Some("deny") => Action::Deny,
            _ => return Err("it begins neither with allow nor with deny".to_owned()),
        };
        let mut list = |keyword: &str| -> Option<Vec<String>> {
            words.next_if_eq(&keyword)?;
            let mut items = Vec::new();
            for word in words.by_ref() {
                items.push(word.trim_end_matches(',').to_owned());
                if !word.ends_with(',') {
                    break;
                }
            }
            Some(items)
        };
        let (from, to, on, over) = (list("from"), list("to"), list("on"), list("over"));
        if let Some(word) = words.next() {
            return Err(format!("{word:?} is not understood there"));
        }
        let ports = on.map(|ports| ports.iter().map(|port| port_range(port)).collect()).transpose()?;
        let v6 = match over.as_deref() {
            None => None,
            Some([family]) if family == "IPv4" => Some(false),
            Some([family]) if family == "IPv6" => Some(true),
            Some(_) => return Err("what comes after over is neither IPv4 nor IPv6".to_owned()),
        };
        Ok(Self { action, from, to, ports, v6 })
    }

    fn speaks_of(&self, from: &End, to: &End, probe: Probe) -> bool {
        let covers = |names_: &Option<Vec<String>>, end: &End| {
            names_.as_ref().is_none_or(|all| all.iter().any(|name| names(name, end)))
        };
        let port = |(protocol, port): &(Protocol, Option<u16>)| {
            *protocol == probe.protocol && port.is_none_or(|port| port == probe.port)
        };
        covers(&self.from, from)
            && covers(&self.to, to)
            && self.ports.as_ref().is_none_or(|ports| ports.iter().any(port))
            && self.v6.is_none_or(|v6| v6 == probe.v6)
    }
}

/// Whether a word names an end: `x/a`, `x/*`, `*/a`, `*/*` name pods; other ends have a name of their own.
fn names(word: &str, end: &End) -> bool {
    if end.place == Place::Service || !end.name.contains('/') {
        return word == end.name;
    }
    let part = |pattern: &str, name: &str| pattern == "*" || pattern == name;
    match (word.split_once('/'), end.name.split_once('/')) {
        (Some((namespace, name)), Some((their_namespace, their_name))) => {
            part(namespace, their_namespace) && part(name, their_name)
        }
        _ => false,
    }
}

/// Reads `TCP` or `TCP/80`.
fn port_range(text: &str) -> Result<(Protocol, Option<u16>), String> {
    let (protocol, port) = text.split_once('/').map_or((text, None), |(protocol, port)| (protocol, Some(port)));
    let protocol = protocol.parse().map_err(|_| format!("{protocol:?} is no protocol"))?;
    let port = port.map(|port| port.parse().map_err(|_| format!("{port:?} is no port"))).transpose()?;
    Ok((protocol, port))
}

/// Reads `TCP/80`.
///
/// # Panics
/// Where it is anything else.
pub fn port(text: &str) -> (Protocol, u16) {
    match port_range(text) {
        Ok((protocol, Some(port))) => (protocol, port),
        _ => panic!("{text:?} is not a protocol and a port"),
    }
}

/// A line with its ends exchanged.
pub fn image(line: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let (mut from, mut to): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut into = 0;
    let mut rest: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        match word {
            "from" => into = 1,
            "to" => into = 2,
            "on" => into = 3,
            "over" => into = 3,
            _ => {}
        }
        match (into, word) {
            (0, _) => kept.push(word),
            (1, "from") | (2, "to") => {}
            (1, _) => to.push(word),
            (2, _) => from.push(word),
            _ => rest.push(word),
        }
    }
    for (keyword, ends) in [("from", from), ("to", to)] {
        if !ends.is_empty() {
            kept.push(keyword);
            kept.extend(ends);
        }
    }
    kept.extend(rest);
    kept.join(" ")
}
