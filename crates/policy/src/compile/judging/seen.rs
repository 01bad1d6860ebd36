//! The short way of packets in flows that this generation has judged.

use super::super::builder::Builder;
use super::super::statements::{LO, is, mark, rule};
use super::identify::into;
use super::{original, reply};
use crate::mark;
use crate::ruleset::{Field, Statement, Verdict};

impl Builder<'_> {
    /// Accepts what a known socket sends in a flow that it may: the one look-up that most packets need. `None` under
    /// identity by port, where a flow's recorded receiver need not be the socket that hears.
    pub fn seen_out(&mut self) -> Option<Statement> {
        if self.pod.identities.by_port() {
            return None;
        }
        let common = mark::GENERATION | mark::DENIED;
        let now = mark::generation(self.generation);
        let passed = |bits: u32, value: u32| mark(common | bits, now | value);
        let stays = || is(Field::OutputDevice, LO);
        for party in self.parties() {
            let sends = mark::sender(party) | mark::CLIENT;
            let answers = mark::receiver(party) | mark::SERVER;
            let ends = mark::SENDER | mark::RECEIVER;
            let rules = vec![
                rule([passed(mark::SENDER | mark::CLIENT, sends), original(), stays(), Verdict::Accept.into()]),
                rule([passed(mark::RECEIVER | mark::SERVER, answers), reply(), stays(), Verdict::Accept.into()]),
                // A flow to the network has no receiver here, one from it no sender.
                rule([passed(ends | mark::CLIENT, sends), original(), Verdict::Accept.into()]),
                rule([passed(ends | mark::SERVER, answers), reply(), Verdict::Accept.into()]),
            ];
            self.chain(format!("seen-out-{party}"), rules);
        }
        Some(self.known_sockets("seen-out", &into("seen-out")))
    }

    /// Accepts what a known socket receives in a flow that it may; `None` as for [`Builder::seen_out`].
    pub fn seen_in(&mut self) -> Option<Statement> {
        if self.pod.identities.by_port() {
            return None;
        }
        let common = mark::GENERATION | mark::DENIED;
        let now = mark::generation(self.generation);
        for party in self.parties() {
            let hears = mark::sender(party) | mark::CLIENT;
            let serves = mark::receiver(party) | mark::SERVER;
            let rules = vec![
                rule([mark(common | mark::RECEIVER | mark::SERVER, now | serves), original(), Verdict::Accept.into()]),
                rule([mark(common | mark::SENDER | mark::CLIENT, now | hears), reply(), Verdict::Accept.into()]),
            ];
            self.chain(format!("seen-in-{party}"), rules);
        }
        Some(self.known_sockets("seen-in", &into("seen-in")))
    }
}
