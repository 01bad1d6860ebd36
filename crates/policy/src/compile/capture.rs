//! Traffic from the network that aims at the application and is led to the front proxy.
//!
//! The redirection is a rule of the pod's own namespace. What the others judge is whom the flow was opened to, which
//! conntrack keeps (`ct original`), and the socket that receives it, which is the proxy's.

use super::builder::Builder;
use super::ends::{DENY_INGRESS, LOCAL};
use super::statements::{LO, TCP, goto, is, is_not, rule};
use crate::model::Captured;
use crate::ruleset::{Field, HookPoint, Rule, Statement, Verdict};
use sidewall_flow::{Direction, Party};

/// `NF_IP_PRI_NAT_DST`.
pub const REDIRECTION: i32 = -100;
/// Next behind it.
const REDIRECTED: i32 = REDIRECTION + 1;
/// Denies what is captured; returns for everything else.
const CAPTURED: &str = "captured";

impl Builder<'_> {
    /// The chains at PREROUTING that lead captured connections to the proxy. What has come by a network device to an address
    /// of that device is led, and nothing else: not the pod's own packets on loopback, nor what it would forward.
    ///
    /// `onto_time_wait` finds the listener of a SYN onto TIME_WAIT: for what is captured that is the proxy's at its own port,
    /// and so it is looked for behind the redirection.
    pub fn capture(&mut self, captured: &Captured, onto_time_wait: Option<Rule>) {
        let redirect = |port: &u16| {
            rule([
                is_not(Field::InputDevice, LO),
                is(Field::Protocol, TCP),
                is(Field::DestinationPort, (*port).into()),
                is(Field::FibDestinationTypeIn, LOCAL),
                Statement::Redirect { port: captured.port },
            ])
        };
        let rules = captured.ports.iter().map(redirect).collect();
        self.base_chain("capture", HookPoint::PreroutingNat, REDIRECTION, true, rules);
        if let Some(mut opens) = onto_time_wait {
            opens.statements.insert(0, is_not(Field::InputDevice, LO));
            self.base_chain("behind-capture", HookPoint::Prerouting, REDIRECTED, true, vec![opens]);
        }
    }

    /// The rule by which what is captured is denied to whoever is not the proxy: somebody else may listen at the capture
    /// port before the proxy does.
    pub fn unless_captured(&mut self, party: Party, direction: Direction) -> Option<Rule> {
        let pod = self.pod;
        let captured = pod.captured.as_ref()?;
        if direction == Direction::Egress || party == Party::Container(captured.proxy) {
            return None;
        }
        if !self.has_chain(CAPTURED) {
            let deny = |port: &u16| {
                let port = is(Field::CtOriginalDestinationPort, (*port).into());
                rule([is(Field::Protocol, TCP), port, goto(DENY_INGRESS).into()])
            };
            let rules = captured.ports.iter().map(deny).chain([rule([Verdict::Return.into()])]).collect();
            self.chain(CAPTURED, rules);
        }
        Some(rule([Verdict::Jump(CAPTURED.to_owned()).into()]))
    }
}
