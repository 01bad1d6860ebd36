//! The chains in which a judgement ends: passing, refusing, dropping.

use super::builder::{Builder, counter_name};
use super::statements::{
    ICMP, ICMPV6, IPV4, IPV6, LO, TCP, bits, goto, in_set, is, is_not, mark, mark_not, rule, set_mark, state,
};
use crate::mark;
use crate::model::Wire;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{Decision, Direction, Party, Place};

/// The types that the routing tables give addresses: our own, and those of groups (`RTN_LOCAL`, `RTN_BROADCAST`,
/// `RTN_MULTICAST`).
pub const LOCAL: u128 = 2;
const GROUPS: [u128; 2] = [3, 5];

/// Refuses a packet whose sender may know.
pub const REFUSE: &str = "refuse";
/// The same at an end of its flow, which is denied for good.
pub const REFUSE_OWN: &str = "refuse-own";
/// Drops a packet that pretends to belong to another's flow.
pub const FORGED: &str = "forged";
/// Refuses what no policy can allow.
pub const IMPROPER: &str = "improper";
/// Stops what leaves under addresses, or by a device, that it may not leave by; returns where nothing is wrong.
pub const PROPER: &str = "proper";
/// Refuses what belongs to a flow that was denied before.
pub const ENDED: &str = "ended";
/// Denies the client's side: finds whose packet it is, tells so, refuses it.
pub const DENY_EGRESS: &str = "deny-egress";
/// Denies the server's side.
pub const DENY_INGRESS: &str = "deny-ingress";

impl Builder<'_> {
    /// The chains that every ruleset has.
    pub fn common_ends(&mut self) {
        self.chain(REFUSE, refuse());
        let mut own = vec![rule([state(Field::CT_ESTABLISHED), mark_denied()])];
        own.extend(refuse());
        self.chain(REFUSE_OWN, own);
        // A reject would reach the one who is impersonated.
        let forged = self.tell_and(Decision::denied(Place::Forged), Verdict::Drop);
        self.chain(FORGED, forged);
        let improper = self.tell_and(Decision::denied(Place::Improper), goto(REFUSE));
        self.chain(IMPROPER, improper);
        let ended = self.count_ended();
        self.chain(ENDED, vec![rule([ended, goto(REFUSE).into()])]);
        self.proper();
    }

    /// What holds for every packet that a process sends, at OUTPUT. A flow passes by its mark only on the device that it
    /// was judged for; whatever else it sends comes through here again, because a process may choose the device of its
    /// packets (SO_BINDTODEVICE, IP_UNICAST_IF) and needs no capability for it.
    pub fn proper(&mut self) {
        let [v4, from_net] = Self::loopback_net(Field::Ipv4Source);
        let [_, to_net] = Self::loopback_net(Field::Ipv4Destination);
        let leaves = || is_not(Field::OutputDevice, LO);
        let isolated = |direction| !self.pod.enforced.side(Party::Unknown, direction).scope(Wire::Loopback).is_none();
        // IPv4 takes a destination without a route on the chosen device for a neighbour: on lo it would be delivered
        // here, and would begin a flow whose answers then came from the network.
        let mut strays = vec![is(Field::OutputDevice, LO), is_not(Field::FibDestinationType, LOCAL)];
        if !isolated(Direction::Ingress) && !isolated(Direction::Egress) {
            strays.extend(GROUPS.map(|group| is_not(Field::FibDestinationType, group)));
        }
        strays.push(goto(IMPROPER).into());
        let rules = vec![
            // From a loopback address to the usual one: nothing is wrong, and it is what most flows are. The others are not
            // taken on trust, for 127.255.255.255 is a broadcast address.
            rule([
                is(Field::OutputDevice, LO),
                is(Field::NfProtocol, IPV4),
                bits(Field::Ipv4Source, 0xff00_0000, 0x7f00_0000),
                is(Field::Ipv4Destination, 0x7f00_0001),
                Verdict::Return.into(),
            ]),
            rule([
                is(Field::OutputDevice, LO),
                is(Field::NfProtocol, IPV6),
                is(Field::Ipv6Source, 1),
                is(Field::Ipv6Destination, 1),
                Verdict::Return.into(),
            ]),
            rule([is_not(Field::FibSourceType, LOCAL), goto(FORGED).into()]),
            rule([leaves(), v4.clone(), from_net, goto(FORGED).into()]),
            rule([leaves(), v4, to_net, goto(IMPROPER).into()]),
            rule([leaves(), is(Field::NfProtocol, IPV6), is(Field::Ipv6Destination, 1), goto(IMPROPER).into()]),
            Rule { statements: strays, comment: None },
            rule([Verdict::Return.into()]),
        ];
        self.chain(PROPER, rules);
    }

    /// The client's side is denied at the sender's own socket.
    pub fn egress_denied(&mut self, sender: Party, place: Place) -> Verdict {
        let mut rules = vec![
            // Somebody else's flow is neither marked nor answered.
            rule([mark_not(mark::SENDER, 0), mark_not(mark::SENDER, mark::sender(sender)), goto(FORGED).into()]),
        ];
        rules.extend(self.tell_and(Decision::denied(place), goto(REFUSE_OWN)));
        self.shared_chain(&counter_name(Decision::denied(place)), rules)
    }

    /// The server's side is denied at the receiver's own socket.
    pub fn ingress_denied(&mut self, receiver: Party, place: Place) -> Verdict {
        let refused = self.refuse_receiver(receiver);
        let rules = self.tell_and(Decision::denied(place), refused);
        self.shared_chain(&counter_name(Decision::denied(place)), rules)
    }

    /// Refuses what was denied to a receiver. A flow that another receives is not marked.
    pub fn refuse_receiver(&mut self, receiver: Party) -> Verdict {
        let mut own = vec![0, mark::receiver(receiver)];
        if self.pod.identities.by_port() {
            own.push(mark::ANYBODY);
        }
        let mut refused: Vec<Rule> = own
            .into_iter()
            .map(|own| rule([state(Field::CT_ESTABLISHED), mark(mark::RECEIVER, own), mark_denied()]))
            .collect();
        refused.push(rule([goto(REFUSE).into()]));
        self.shared_chain(&format!("refuse-receiver-{receiver}"), refused)
    }

    /// The kernel's own messages about flows that were seen: ICMP errors (RFC 792, RFC 4443).
    pub fn related_errors(&mut self) -> Vec<Rule> {
        let v4 = self.set("icmp-errors", vec![Kind::IcmpType], [3, 11, 12].map(|t| vec![t]));
        let v6 = self.set("icmpv6-errors", vec![Kind::Icmpv6Type], [1, 2, 3, 4].map(|t| vec![t]));
        [(ICMP, Field::IcmpType, v4), (ICMPV6, Field::Icmpv6Type, v6)]
            .into_iter()
            .map(|(protocol, field, set)| {
                rule([
                    state(Field::CT_RELATED),
                    is(Field::Protocol, protocol),
                    in_set([field], &set),
                    Verdict::Accept.into(),
                ])
            })
            .collect()
    }

    /// The field is an IPv4 loopback address.
    pub fn loopback_net(field: Field) -> [Statement; 2] {
        [is(Field::NfProtocol, IPV4), bits(field, 0xff00_0000, 0x7f00_0000)]
    }
}

/// Refuses a packet, so that an application of this pod fails fast.
fn refuse() -> Vec<Rule> {
    vec![
        // What came from the network gets no answer. At OUTPUT there is no input device, and its number is 0.
        rule([is_not(Field::InputDevice, 0), is_not(Field::InputDevice, LO), Verdict::Drop.into()]),
        rule([is(Field::Protocol, TCP), Statement::RejectTcpReset]),
        rule([Statement::RejectProhibited]),
    ]
}

/// The flow is denied for good, in this generation.
fn mark_denied() -> Statement {
    set_mark(mark::CLIENT | mark::SERVER | mark::DENIED, mark::DENIED)
}
