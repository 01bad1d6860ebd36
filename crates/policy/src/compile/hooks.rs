//! The base chains: what is checked of every packet before anybody is asked who sent it.

use super::builder::Builder;
use super::ends::{ENDED, FORGED, IMPROPER, LOCAL, PROPER};
use super::statements::{
    ACK, FIN, ICMPV6, IPV4, IPV6, LO, NO_USER, RST, SYN, TCP, at_least, at_most, bits, goto, in_set, is, is_not, mark,
    mark_not, not_in_set, rule, set_mark, state,
};
use crate::mark;
use crate::model::Wire;
use crate::ruleset::{Field, HookPoint, Kind, Rule, Statement, Verdict};
use sidewall_flow::{Direction, Party};

/// Judges a packet that leaves a socket; the base chain has set the generation.
pub const JUDGE_OUT: &str = "judge-out";
/// Judges a packet that arrives for a socket; the base chain has set the generation.
pub const JUDGE_IN: &str = "judge-in";

const GROUPS: [u128; 2] = [1, 2];
/// An IPv4 header without options: version 4, five words.
pub const PLAIN_IPV4: u128 = 0x45;
/// Accepts what known sockets send in flows that this generation has judged; returns where it accepts nothing. It is
/// jumped to, so that what it does not accept has the kernel's whole depth of chains (16) before it.
const OUTPUT_SEEN: &str = "output-seen";
/// The same for what they receive.
const INPUT_SEEN: &str = "input-seen";
/// Whether a packet that leaves goes by the device that has its source.
const OUTPUT_DEVICE: &str = "output-device";
/// Whether a packet that comes did so by the device that has its destination.
const INPUT_DEVICE: &str = "input-device";
/// Looks again at a packet of a known flow that its flow's mark does not let pass.
const OUTPUT_AGAIN: &str = "output-again";
/// The same at INPUT.
const INPUT_AGAIN: &str = "input-again";
/// Has a SYN onto TIME_WAIT find its listener.
const ONTO_TIME_WAIT: &str = "onto-time-wait";
/// Refuses packets whose options change their way.
const WAY_OPTIONS: &str = "way-options";
/// `NF_IP_PRI_RAW`: before connection tracking.
const RAW: i32 = -300;

impl Builder<'_> {
    /// The base chains. Each decides by its last rule, and drops by policy all the same: should its rules ever be flushed,
    /// or a chain that they lead to be emptied under a packet, nothing passes.
    pub fn hooks(&mut self) {
        self.prerouting();
        self.link_nat();
        self.output();
        self.input();
    }

    /// Before connection tracking: what `lo` carries has passed OUTPUT and has its entry still; what was injected
    /// there (AF_PACKET, AF_XDP) has none. From the network, nobody has our addresses.
    fn prerouting(&mut self) {
        let groups = self.groups();
        let [v4, from_net] = Self::loopback_net(Field::Ipv4Source);
        let [_, to_net] = Self::loopback_net(Field::Ipv4Destination);
        let on_lo =
            |without: u32| rule([is(Field::InputDevice, LO), bits(Field::CtState, without, 0), Verdict::Accept.into()]);
        let mut rules = Vec::new();
        let onto_time_wait = self.onto_time_wait();
        if let Some(opens) = &onto_time_wait {
            rules.push(on_lo(Field::CT_INVALID | Field::CT_NEW));
            let mut opens = opens.clone();
            opens.statements.splice(0..0, [is(Field::InputDevice, LO), state(Field::CT_NEW)]);
            rules.push(opens);
        }
        rules.extend([
            on_lo(Field::CT_INVALID),
            rule([is(Field::InputDevice, LO), goto(FORGED).into()]),
            rule([v4.clone(), from_net, goto(FORGED).into()]),
            rule([v4, to_net, goto(FORGED).into()]),
            rule([is(Field::NfProtocol, IPV6), is(Field::Ipv6Source, 1), goto(FORGED).into()]),
            rule([is(Field::NfProtocol, IPV6), is(Field::Ipv6Destination, 1), goto(FORGED).into()]),
            // Our own multicast comes back this way.
            rule([not_in_set(Field::PacketType, &groups), is(Field::FibSourceType, LOCAL), goto(FORGED).into()]),
        ]);
        rules.extend(self.link_addresses_elsewhere());
        let pod = self.pod;
        // A proxy in another part of a split pod takes nothing here; what aims at its ports is denied all the same.
        match pod.captured.as_ref().filter(|captured| !pod.is_elsewhere(Party::Container(captured.proxy))) {
            None => {
                rules.extend(onto_time_wait);
                self.base_chain("prerouting", HookPoint::Prerouting, RAW, true, rules);
            }
            Some(captured) => {
                self.base_chain("prerouting", HookPoint::Prerouting, RAW, true, rules);
                self.capture(captured, onto_time_wait);
            }
        }
    }

    /// Has a SYN onto what is left of a connection (TIME_WAIT) find its listener, so that INPUT knows the receiver and
    /// judges it as any other: the kernel itself looks for the listener behind INPUT only. `None` where the receiver is
    /// not judged by its socket.
    fn onto_time_wait(&mut self) -> Option<Rule> {
        if self.pod.identities.by_port() {
            return None;
        }
        let remains = || at_most(Field::SocketTransparent, 1);
        let rules = vec![
            // A listener is found already, or the connection lives.
            rule([at_most(Field::SocketWildcard, 1), Verdict::Return.into()]),
            rule([is(Field::NfProtocol, IPV4), remains(), Statement::FindListener4]),
            rule([is(Field::NfProtocol, IPV6), remains(), Statement::FindListener6]),
            rule([Verdict::Return.into()]),
        ];
        self.chain(ONTO_TIME_WAIT, rules);
        let opens = bits(Field::TcpFlags, SYN | ACK | RST | FIN, SYN);
        Some(rule([is(Field::Protocol, TCP), opens, Verdict::Jump(ONTO_TIME_WAIT.to_owned()).into()]))
    }

    fn output(&mut self) {
        let plain = self.set("plain-ipv6", vec![Kind::Protocol], [6, 17, 58, 132].map(|p| vec![p]));
        let begin = self.begin();
        self.way_options(&plain);
        let proper = || rule([Verdict::Jump(PROPER.to_owned()).into()]);
        let options = || rule([Verdict::Jump(WAY_OPTIONS.to_owned()).into()]);
        // Nothing is inherited: an expectation's flow copies its master's mark.
        let opened = vec![proper(), options(), rule([begin, goto(JUDGE_OUT).into()])];
        let opened = self.chain("output-new", opened);
        let again = vec![
            // In a flow that this generation has seen: what has no options needs no second look at its addresses.
            rule([self.current(), is(Field::NetworkHeaderStart, PLAIN_IPV4), goto(JUDGE_OUT).into()]),
            rule([
                self.current(),
                is(Field::NfProtocol, IPV6),
                in_set([Field::Ipv6NextHeader], &plain),
                goto(JUDGE_OUT).into(),
            ]),
            proper(),
            options(),
        ];
        let again = again.into_iter().chain(self.generation_and_denial()).chain([rule([goto(JUDGE_OUT).into()])]);
        let again = again.collect();
        self.chain(OUTPUT_AGAIN, again);
        let mut rules = self.link_out();
        if let Some(which) = self.bound_to_device(Field::OutputDevice, Field::OutputDeviceName) {
            let sources = [Field::Ipv4Source, Field::Ipv6Source];
            let mut device = self.foreign_addresses(Field::OutputDeviceName, sources, &goto(FORGED));
            device.push(rule([is_not(Field::FibSourceTypeOut, LOCAL), goto(FORGED).into()]));
            device.push(rule([Verdict::Return.into()]));
            self.chain(OUTPUT_DEVICE, device);
            // What the kernel says by itself, such as a neighbour solicitation from no address, is neither.
            let mut statements = vec![state(Field::CT_NEW | Field::CT_ESTABLISHED)];
            statements.extend(which);
            statements.push(Verdict::Jump(OUTPUT_DEVICE.to_owned()).into());
            rules.push(Rule { statements, comment: None });
        }
        if let Some(seen) = self.seen_out() {
            let established = vec![
                rule([is(Field::NetworkHeaderStart, PLAIN_IPV4), seen.clone()]),
                rule([is(Field::NfProtocol, IPV6), in_set([Field::Ipv6NextHeader], &plain), seen]),
                rule([Verdict::Return.into()]),
            ];
            self.chain(OUTPUT_SEEN, established);
            rules.push(rule([state(Field::CT_ESTABLISHED), Verdict::Jump(OUTPUT_SEEN.to_owned()).into()]));
        }
        rules.extend(self.link_on_loopback());
        rules.extend([
            rule([state(Field::CT_ESTABLISHED), goto(OUTPUT_AGAIN).into()]),
            rule([state(Field::CT_NEW), opened.into()]),
            // Only the kernel speaks of other flows.
            rule([
                state(Field::CT_RELATED | Field::CT_UNTRACKED),
                is_not(Field::SocketUid, NO_USER),
                goto(FORGED).into(),
            ]),
        ]);
        // Neighbour and router solicitations, advertisements, multicast listener reports (RFC 4861, 2710, 3810).
        rules.push(self.icmpv6("nd-out", &[131, 132, 133, 135, 136, 143], None));
        rules.extend(self.related_errors());
        let reset = bits(Field::TcpFlags, RST, RST);
        rules.push(rule([state(Field::CT_RELATED), is(Field::Protocol, TCP), reset, Verdict::Accept.into()]));
        rules.push(rule([goto(FORGED).into()]));
        self.base_chain("output", HookPoint::Output, 0, false, rules);
    }

    /// `PACKET_BROADCAST` and `PACKET_MULTICAST`.
    pub(super) fn groups(&mut self) -> String {
        self.set("groups", vec![Kind::PacketType], GROUPS.map(|t| vec![t]))
    }

    /// Refuses packets with options that change their way; returns where there are none.
    fn way_options(&mut self, plain: &str) {
        let routed = [Field::LooseSourceRoute, Field::StrictSourceRoute];
        let mut rules = vec![
            rule([is(Field::NetworkHeaderStart, PLAIN_IPV4), Verdict::Return.into()]),
            rule([is(Field::NfProtocol, IPV6), in_set([Field::Ipv6NextHeader], plain), Verdict::Return.into()]),
        ];
        // The kernel finds a source route only where it begins with its first address; a raw socket can write others.
        let user = is_not(Field::SocketUid, NO_USER);
        rules.push(rule([is(Field::NfProtocol, IPV4), user, goto(IMPROPER).into()]));
        rules.extend(routed.map(|option| rule([is(Field::NfProtocol, IPV4), is(option, 1), goto(IMPROPER).into()])));
        rules.push(rule([is(Field::NfProtocol, IPV6), is(Field::RoutingHeader, 1), goto(IMPROPER).into()]));
        rules.push(rule([Verdict::Return.into()]));
        self.chain(WAY_OPTIONS, rules);
    }

    fn input(&mut self) {
        // A group's packet reaches every socket that listens, so it passes only where nobody is isolated.
        let groups = self.groups();
        let open = self.pod.enforced.side(Party::Unknown, Direction::Ingress).scope(Wire::Network).is_none()
            && !self.has_isolated_edge(Direction::Ingress);
        let verdict = if open { Verdict::Accept } else { goto(IMPROPER) };
        let group = rule([in_set([Field::PacketType], &groups), verdict.clone().into()]);
        // The same in a frame that is addressed to us alone.
        let stray = rule([is_not(Field::InputDevice, LO), is_not(Field::FibDestinationType, LOCAL), verdict.into()]);
        let opened = vec![
            group.clone(),
            stray.clone(),
            rule([is_not(Field::InputDevice, LO), self.begin()]),
            self.overtaken(),
            rule([goto(JUDGE_IN).into()]),
        ];
        let opened = self.chain("input-new", opened);
        let again = [rule([self.current(), goto(JUDGE_IN).into()]), group, stray, self.overtaken()];
        let again = again.into_iter().chain(self.generation_and_denial()).chain([rule([goto(JUDGE_IN).into()])]);
        let again = again.collect();
        self.chain(INPUT_AGAIN, again);
        let mut rules = self.link_in();
        if let Some(mut statements) = self.bound_to_device(Field::InputDevice, Field::InputDeviceName) {
            let own = [Field::Ipv4Destination, Field::Ipv6Destination];
            let mut device = self.foreign_addresses(Field::InputDeviceName, own, &goto(IMPROPER));
            device.push(rule([
                is_not(Field::FibDestinationTypeIn, LOCAL),
                is(Field::FibDestinationType, LOCAL),
                goto(IMPROPER).into(),
            ]));
            device.push(rule([Verdict::Return.into()]));
            self.chain(INPUT_DEVICE, device);
            statements.push(Verdict::Jump(INPUT_DEVICE.to_owned()).into());
            rules.push(Rule { statements, comment: None });
        }
        if let Some(seen) = self.seen_in() {
            self.chain(INPUT_SEEN, vec![rule([seen]), rule([Verdict::Return.into()])]);
            rules.push(rule([state(Field::CT_ESTABLISHED), Verdict::Jump(INPUT_SEEN.to_owned()).into()]));
        }
        rules.push(rule([state(Field::CT_ESTABLISHED), goto(INPUT_AGAIN).into()]));
        rules.push(rule([state(Field::CT_NEW), opened.into()]));
        // A hop limit of 255 shows that no router forwarded it (RFC 4861 §7.1.1); MLD uses 1 (RFC 2710 §3).
        rules.push(self.icmpv6("nd-in", &[134, 135, 136], Some(255)));
        rules.push(self.icmpv6("mld-in", &[130], Some(1)));
        rules.extend(self.related_errors());
        let reset = bits(Field::TcpFlags, RST, RST);
        rules.push(rule([
            state(Field::CT_RELATED),
            is(Field::InputDevice, LO),
            is(Field::Protocol, TCP),
            reset,
            Verdict::Accept.into(),
        ]));
        rules.push(rule([goto(FORGED).into()]));
        self.base_chain("input", HookPoint::Input, 0, false, rules);
    }

    /// What passed OUTPUT before these rules came and meets INPUT under them is not lost. Where INPUT judges the pair it
    /// judges it now, and the mark of the client's side says no more than who sends; else it has been judged whole, and
    /// its flow is judged again at its next packet.
    fn overtaken(&self) -> Rule {
        let now = mark::generation(self.generation);
        let mut statements =
            vec![is(Field::InputDevice, LO), mark_not(mark::GENERATION, now), mark(mark::CLIENT, mark::CLIENT)];
        if self.pod.identities.by_port() {
            statements.push(set_mark(mark::GENERATION | mark::CLIENT | mark::SERVER | mark::DENIED, now));
            statements.push(Verdict::Accept.into());
        } else {
            statements.push(set_mark(mark::GENERATION | mark::SERVER | mark::DENIED, now));
        }
        Rule { statements, comment: None }
    }

    /// The flow bears this generation and is not denied.
    fn current(&self) -> Statement {
        mark(mark::GENERATION | mark::DENIED, mark::generation(self.generation))
    }

    /// A new flow: only the generation, and what is not ours, is in its mark.
    fn begin(&self) -> Statement {
        set_mark(!mark::FOREIGN, mark::generation(self.generation))
    }

    /// An older generation keeps its names and loses its verdicts; what is denied stays denied.
    fn generation_and_denial(&self) -> Vec<Rule> {
        let now = mark::generation(self.generation);
        let verdicts = mark::GENERATION | mark::CLIENT | mark::SERVER | mark::DENIED;
        vec![
            rule([state(Field::CT_ESTABLISHED), mark_not(mark::GENERATION, now), set_mark(verdicts, now)]),
            rule([mark_not(mark::DENIED, 0), goto(ENDED).into()]),
        ]
    }

    pub(super) fn icmpv6(&mut self, set: &str, types: &[u128], hop_limit: Option<u128>) -> Rule {
        let set = self.set(set, vec![Kind::Icmpv6Type], types.iter().map(|t| vec![*t]));
        let mut statements =
            vec![is(Field::NfProtocol, IPV6), is(Field::Protocol, ICMPV6), in_set([Field::Icmpv6Type], &set)];
        statements.extend(hop_limit.map(|limit| is(Field::HopLimit, limit)));
        statements.push(Verdict::Accept.into());
        Rule { statements, comment: None }
    }

    /// The rules of the pod interface's egress hook: AF_PACKET never meets OUTPUT, but what IP sends has a route, and
    /// what a packet socket sends has none.
    pub fn link_rules() -> Vec<Rule> {
        const ARP: u128 = 0x0806;
        vec![
            rule([at_least(Field::RouteClass, 0), Verdict::Accept.into()]),
            rule([is(Field::EtherType, ARP), is_not(Field::SocketUid, NO_USER), Verdict::Drop.into()]),
            rule([is(Field::EtherType, ARP), Verdict::Accept.into()]),
            rule([Verdict::Drop.into()]),
        ]
    }
}
