//! As much of netfilter as a ruleset needs, in memory: one connection, its mark, and packets that meet the hooks.
//!
//! It follows the kernel as it was measured: OUTPUT knows the sending socket, INPUT the receiving one by its cgroup only,
//! and a SYN-ACK has its listener's user but no cgroup. It is no substitute for the test in a real namespace; it finds in
//! a second, and without any privilege, where the compiler and the evaluator disagree.

use crate::model::{Identities, UserIdentities};
use crate::ruleset::{Chain, Compare, Element, Field, HookPoint, Set, Statement, Table, Verdict, device_name};
use crate::{End, Flow, ResolvedPod, Ruleset};
use sidewall_flow::{Party, Protocol};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;

const LO: u128 = 1;
const ETH0: u128 = 2;
/// The first of the further networks' devices.
const NET: u128 = 3;
const SYN: u128 = 0x02;
const ACK: u128 = 0x10;

/// A connection between two ends, as conntrack knows it.
pub struct Connection<'a> {
    pod: &'a ResolvedPod,
    pub flow: Flow,
    /// The addresses of the original tuple.
    addresses: [IpAddr; 2],
    pub mark: u32,
    confirmed: bool,
    /// The port that it has been led to.
    led: Option<u16>,
    /// An earlier connection of the tuple is in TIME_WAIT at the receiver.
    pub remains: bool,
    /// The counters that its packets have met.
    pub counted: BTreeSet<String>,
}

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who opened it.
    Original,
    /// To who opened it.
    Reply,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Syn,
    SynAck,
    /// The handshake's end, which finds what is no full socket yet.
    Ack,
    Data,
}

/// A hook that a packet meets, with the socket that is known there.
struct Packet<'p> {
    point: HookPoint,
    way: Way,
    shape: Shape,
    loopback: bool,
    /// Whose socket the hook knows.
    socket: Option<Party>,
    /// Whether an earlier connection's remains are found where a receiver is looked for.
    remains: Cell<bool>,
    /// The port that its connection has been led to.
    led: Cell<Option<u16>>,
    connection: &'p Connection<'p>,
}

impl<'a> Connection<'a> {
    /// A connection that nobody has sent a packet of; `own` is the pod's address in it.
    pub fn new(pod: &'a ResolvedPod, flow: Flow, own: IpAddr) -> Self {
        let address = |end| match end {
            End::Local(_) => own,
            End::Remote(address) | End::Attached(_, address) => address,
        };
        let addresses = [address(flow.sender), address(flow.receiver)];
        Self { pod, flow, addresses, mark: 0, confirmed: false, led: None, remains: false, counted: BTreeSet::new() }
    }

    /// Opens it and sends data both ways, as far as that is let through. True where all of it passes.
    pub fn opens(&mut self, rules: &Ruleset) -> bool {
        let (first, answer) = match self.flow.protocol {
            Protocol::Tcp => (Shape::Syn, Shape::SynAck),
            Protocol::Udp | Protocol::Sctp => (Shape::Data, Shape::Data),
        };
        self.passes(rules, Way::Original, first, None)
            && self.passes(rules, Way::Reply, answer, None)
            && self.sends(rules, Way::Original)
            && self.sends(rules, Way::Reply)
    }

    /// Begins to open it. True where its first packet passes.
    pub fn begins(&mut self, rules: &Ruleset) -> bool {
        self.passes(rules, Way::Original, Shape::Syn, None)
    }

    /// Begins to open it, with an answer. True where that passes.
    pub fn is_answered(&mut self, rules: &Ruleset) -> bool {
        self.begins(rules) && self.passes(rules, Way::Reply, Shape::SynAck, None)
    }

    /// Ends the handshake. True where that passes.
    pub fn is_confirmed(&mut self, rules: &Ruleset) -> bool {
        self.passes(rules, Way::Original, Shape::Ack, None)
    }

    /// Sends data one way. True where it passes.
    pub fn sends(&mut self, rules: &Ruleset, way: Way) -> bool {
        self.passes(rules, way, Shape::Data, None)
    }

    /// Sends data in its name from somebody else's socket. True where it passes.
    pub fn is_forged_by(&mut self, rules: &Ruleset, way: Way, forger: Party) -> bool {
        self.passes(rules, way, Shape::Data, Some(forger))
    }

    fn passes(&mut self, rules: &Ruleset, way: Way, shape: Shape, forger: Option<Party>) -> bool {
        let (from, to) = match way {
            Way::Original => (self.flow.sender, self.flow.receiver),
            Way::Reply => (self.flow.receiver, self.flow.sender),
        };
        let loopback = matches!((from, to), (End::Local(_), End::Local(_)));
        let mut hooks = Vec::new();
        if let End::Local(party) = from {
            hooks.push((HookPoint::Output, Some(forger.unwrap_or(party))));
        }
        if let End::Local(party) = to {
            hooks.push((HookPoint::Prerouting, None));
            hooks.push((HookPoint::Input, Some(party)));
        }
        for (point, socket) in hooks {
            let remains = Cell::new(self.remains && shape == Shape::Syn);
            let led = Cell::new(self.led);
            let packet = Packet { point, way, shape, loopback, socket, remains, led, connection: self };
            let (passes, mark, counted) = packet.meets(&rules.tables[0]);
            let led = packet.led.get();
            let remains = packet.remains.get();
            self.remains &= remains || shape != Shape::Syn;
            self.mark = mark;
            self.led = led;
            self.counted.extend(counted);
            if !passes {
                return false;
            }
        }
        self.confirmed = true;
        true
    }
}

impl Packet<'_> {
    /// Runs the base chains of the packet's hook: whether it passes, the connection's mark after, and what was counted.
    fn meets(&self, table: &Table) -> (bool, u32, Vec<String>) {
        let (mut mark, mut all) = (self.connection.mark, Vec::new());
        let met = |point: &HookPoint| match point {
            HookPoint::PreroutingNat => self.point == HookPoint::Prerouting && !self.connection.confirmed,
            point => *point == self.point,
        };
        let hooks = table.chains.iter().filter_map(|chain| Some((chain.hook.as_ref()?, chain)));
        let mut bases: Vec<_> = hooks.filter(|(hook, _)| met(&hook.point)).collect();
        bases.sort_by_key(|(hook, _)| hook.priority);
        for (_, base) in bases {
            let (passes, new, counted) = self.runs(table, base, mark);
            mark = new;
            all.extend(counted);
            if !passes {
                return (false, mark, all);
            }
        }
        (true, mark, all)
    }

    fn runs(&self, table: &Table, base: &Chain, mut mark: u32) -> (bool, u32, Vec<String>) {
        let chain = |name: &str| -> &Chain { table.chains.iter().find(|chain| chain.name == name).unwrap() };
        let mut counted = Vec::new();
        let (mut here, mut at) = (base, 0);
        let mut callers = Vec::new();
        loop {
            let Some(rule) = here.rules.get(at) else {
                let Some(caller) = callers.pop() else { break };
                (here, at) = caller;
                continue;
            };
            at += 1;
            match self.rule(table, &rule.statements, &mut mark, &mut counted) {
                None => {}
                Some(Verdict::Accept) => return (true, mark, counted),
                Some(Verdict::Drop) => return (false, mark, counted),
                Some(Verdict::Goto(name)) => (here, at) = (chain(&name), 0),
                Some(Verdict::Jump(name)) => {
                    callers.push((here, at));
                    (here, at) = (chain(&name), 0);
                }
                // On to the caller, as at a chain's end.
                Some(Verdict::Return) => at = here.rules.len(),
            }
        }
        (base.hook.as_ref().is_some_and(|hook| hook.accept), mark, counted)
    }

    fn rule(
        &self,
        table: &Table,
        statements: &[Statement],
        mark: &mut u32,
        counted: &mut Vec<String>,
    ) -> Option<Verdict> {
        let set = |name: &str| -> &Set { table.sets.iter().find(|set| set.name == name).unwrap() };
        let masked = |mark: u32, field: Field, mask: Option<u32>| {
            let value = if field == Field::CtMark { Some(mark.into()) } else { self.load(field) }?;
            Some(mask.map_or(value, |mask| value & u128::from(mask)))
        };
        for statement in statements {
            match statement {
                Statement::Match { field, mask, compare, value } => {
                    let loaded = masked(*mark, *field, *mask)?;
                    let holds = match compare {
                        Compare::Equal => loaded == *value,
                        Compare::NotEqual => loaded != *value,
                        Compare::AtMost => loaded <= *value,
                        Compare::AtLeast => loaded >= *value,
                    };
                    if !holds {
                        return None;
                    }
                }
                Statement::Lookup { fields, mask, set: name, negate } => {
                    let key: Vec<u128> =
                        fields.iter().map(|field| masked(*mark, *field, *mask)).collect::<Option<_>>()?;
                    if find(set(name), &key).is_some() == *negate {
                        return None;
                    }
                }
                Statement::Dispatch { fields, mask, map } => {
                    let key: Vec<u128> =
                        fields.iter().map(|field| masked(*mark, *field, *mask)).collect::<Option<_>>()?;
                    return find(set(map), &key)?.verdict.clone();
                }
                Statement::SetMark { keep, set } => *mark = *mark & keep | set,
                Statement::Count(name) => counted.push(name.clone()),
                Statement::CountBy { fields, map } => {
                    let key: Vec<u128> =
                        fields.iter().map(|field| masked(*mark, *field, None)).collect::<Option<_>>()?;
                    counted.push(find(set(map), &key)?.counter.as_deref()?.to_owned());
                }
                // There always is a listener, and it is not transparent.
                Statement::FindListener4 | Statement::FindListener6 => {
                    let four = self.connection.addresses[0].is_ipv4();
                    let fits = four == (*statement == Statement::FindListener4);
                    self.remains.set(self.remains.get() && !fits);
                    return None;
                }
                Statement::Redirect { port } => {
                    self.led.set(Some(*port));
                    return Some(Verdict::Accept);
                }
                // No connection here is of a link: only its sender's half is, up to where it leaves.
                Statement::LeadTo { .. } | Statement::SpeakAs { .. } => return Some(Verdict::Accept),
                Statement::Limit { .. } | Statement::Log(_) | Statement::ClampSegments => {}
                Statement::RejectTcpReset | Statement::RejectProhibited => return Some(Verdict::Drop),
                Statement::Verdict(verdict) => return Some(verdict.clone()),
            }
        }
        None
    }

    fn load(&self, field: Field) -> Option<u128> {
        let flow = &self.connection.flow;
        let [source, destination] = self.connection.addresses;
        let v4 = source.is_ipv4();
        let (from, to) = if self.way == Way::Original { (source, destination) } else { (destination, source) };
        let (device, name) = self.device();
        let output = self.point == HookPoint::Output;
        let tcp = flow.protocol == Protocol::Tcp;
        // A SYN-ACK is sent by a request socket, and its answer finds that; what else arrives finds a listener or a full
        // one, if not what is left of an earlier connection.
        let receives = self.point != HookPoint::Output;
        let lesser =
            if receives { self.shape == Shape::Ack || self.remains.get() } else { self.shape == Shape::SynAck };
        let full = self.socket.is_some() && !lesser;
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let of = |wanted: bool, address| (v4 == wanted).then(|| number(address));
        match field {
            Field::NfProtocol => Some(if v4 { 2 } else { 10 }),
            Field::Protocol => Some(flow.protocol.number().into()),
            // The kernel gives the device that is not there the number 0.
            Field::InputDevice => Some(if output { 0 } else { device }),
            Field::OutputDevice => Some(if output { device } else { 0 }),
            Field::InputDeviceName => Some(if output { 0 } else { device_name(&name) }),
            Field::OutputDeviceName => Some(if output { device_name(&name) } else { 0 }),
            Field::Length => Some(match self.shape {
                Shape::Data => 500,
                Shape::Ack => {
                    if v4 {
                        40
                    } else {
                        60
                    }
                }
                // With twenty bytes of options, as a SYN has.
                Shape::Syn | Shape::SynAck => {
                    if v4 {
                        60
                    } else {
                        80
                    }
                }
            }),
            Field::TcpDataOffset => tcp.then_some(if self.shape == Shape::Ack { 5 << 4 } else { 10 << 4 }),
            Field::PacketType => Some(0),
            Field::SocketUid if output => self.socket.map(|party| self.user(party, true)),
            Field::SocketGid if output => self.socket.map(|party| self.user(party, false)),
            Field::SocketCgroup { level } if full => self.socket.and_then(|party| self.cgroup(party, level)),
            Field::SocketWildcard => (full && self.socket.is_some()).then_some(0),
            Field::SocketTransparent => (self.socket.is_some() || receives && self.remains.get()).then_some(0),
            Field::CtState => {
                Some(if self.connection.confirmed { Field::CT_ESTABLISHED } else { Field::CT_NEW }.into())
            }
            Field::CtDirection => Some((self.way == Way::Reply).into()),
            Field::CtOriginalSource4 => of(true, source),
            Field::CtOriginalSource6 => of(false, source),
            Field::CtOriginalDestination4 => of(true, destination),
            Field::CtOriginalDestination6 => of(false, destination),
            Field::CtOriginalDestinationPort => Some(flow.port.into()),
            Field::DestinationPort if self.way == Way::Original => Some(self.led.get().unwrap_or(flow.port).into()),
            // RTN_LOCAL and RTN_UNICAST.
            Field::FibSourceType => Some(if output || self.loopback { 2 } else { 1 }),
            // Every address is its device's.
            Field::FibSourceTypeOut if output => Some(2),
            Field::FibDestinationTypeIn if !output => Some(2),
            Field::FibDestinationType => Some(if self.loopback || !output { 2 } else { 1 }),
            Field::NetworkHeaderStart => Some(if v4 { 0x45 } else { 0x60 }),
            Field::Ipv4Source => of(true, from),
            Field::Ipv4Destination => of(true, to),
            Field::Ipv6Source => of(false, from),
            Field::Ipv6Destination => of(false, to),
            Field::Ipv6NextHeader => (!v4).then_some(flow.protocol.number().into()),
            Field::TcpFlags => tcp.then_some(match self.shape {
                Shape::Syn => SYN,
                Shape::SynAck => SYN | ACK,
                Shape::Ack | Shape::Data => ACK,
            }),
            _ => None,
        }
    }

    /// The device that leads to the other end: its number and its name.
    fn device(&self) -> (u128, String) {
        let Connection { pod, flow, .. } = self.connection;
        let attached = [flow.sender, flow.receiver].into_iter().find_map(|end| match end {
            End::Attached(id, _) => Some(id),
            _ => None,
        });
        match attached {
            _ if self.loopback => (LO, "lo".to_owned()),
            None => (ETH0, pod.interface.clone().unwrap_or_else(|| "eth0".to_owned())),
            Some(id) => {
                let device = pod.attached.get(&id).map_or("nobody-knows", |attached| &attached.device);
                (NET + u128::from(id.0), device.to_owned())
            }
        }
    }

    fn user(&self, party: Party, by_uid: bool) -> u128 {
        const SOMEBODY: u32 = 4242;
        let number = |users: &UserIdentities| match party {
            Party::Container(id) => users.containers[&id],
            Party::Node => users.node.first().copied().unwrap_or(SOMEBODY),
            Party::Unknown => SOMEBODY,
        };
        match (&self.connection.pod.identities, by_uid) {
            (Identities::Uid(users), true) | (Identities::Gid(users), false) => number(users).into(),
            _ => SOMEBODY.into(),
        }
    }

    fn cgroup(&self, party: Party, wanted: u8) -> Option<u128> {
        const ELSEWHERE: u64 = 9_999_999;
        let Identities::Cgroup { level, containers, pods_level, pods } = &self.connection.pod.identities else {
            return None;
        };
        let id = match party {
            Party::Container(id) if wanted == *level => *containers[&id].first()?,
            Party::Container(_) | Party::Unknown if wanted == *pods_level => *pods,
            _ => ELSEWHERE,
        };
        Some(id.into())
    }
}

/// The element of a set that holds a key.
fn find<'s>(set: &'s Set, key: &[u128]) -> Option<&'s Element> {
    set.elements.iter().find(|element| match element.last {
        Some(last) => element.key[0] <= key[0] && key[0] <= last,
        None => *element.key == *key,
    })
}
