//! What Audit policies would have made of a flow, told and never decided.

use super::builder::{Builder, counter_name};
use super::question::Answers;
use super::statements::rule;
use crate::model::Layer;
use crate::ruleset::{Rule, Verdict};
use sidewall_flow::{Action, Decision, Direction, Party, Place};

impl Builder<'_> {
    /// The layer of the Audit policies, where they say anything else of a side than what is enforced.
    pub fn audited_side(&self, party: Party, direction: Direction) -> Option<&'_ Layer> {
        let layer = self.pod.audit.as_ref()?;
        (layer.side(party, direction) != self.pod.enforced.side(party, direction)).then_some(layer)
    }

    /// Whether they say anything else of any party's side.
    pub fn audits(&self, direction: Direction) -> bool {
        self.parties().into_iter().any(|party| self.audited_side(party, direction).is_some())
    }

    /// The rule by which a flow that a party's own policies allow goes past the Audit policies.
    pub fn audit_allowed(&mut self, party: Party, direction: Direction) -> Option<Rule> {
        self.audited_side(party, direction)?;
        let layer = self.pod.audit.as_ref()?;
        let told = self.told(place(party, direction), Action::Deny, Verdict::Return);
        let answers = Answers { allow: Verdict::Return, deny: told };
        let verdict = self.ask_network("audit.allowed.", layer, party, direction, &answers);
        passing(verdict)
    }

    /// The same for a flow that they deny.
    pub fn audit_denied(&mut self, party: Party, direction: Direction) -> Option<Rule> {
        self.audited_side(party, direction)?;
        let layer = self.pod.audit.as_ref()?;
        let told = self.told(place(party, direction), Action::Allow, Verdict::Return);
        let answers = Answers { allow: told, deny: Verdict::Return };
        let verdict = self.ask_network("audit.denied.", layer, party, direction, &answers);
        passing(verdict)
    }

    /// Where a flow between two parties over loopback goes past the Audit policies on its way, if they say anything else:
    /// `allowed` is what is enforced.
    pub fn audit_pair(&mut self, sender: Party, receiver: Party, allowed: bool) -> Option<Verdict> {
        let layer = self.pod.audit.as_ref()?;
        if self.audited_side(sender, Direction::Egress).is_none()
            && self.audited_side(receiver, Direction::Ingress).is_none()
        {
            return None;
        }
        let place = Place::Loopback { sender, receiver };
        let action = Action::from_allowed(!allowed);
        let told = self.told(place, action, Verdict::Return);
        let (prefix, answers) = if allowed {
            ("allowed", Answers { allow: Verdict::Return, deny: told })
        } else {
            ("denied", Answers { allow: told, deny: Verdict::Return })
        };
        let name = format!("audit.{prefix}.loopback-{sender}-{receiver}");
        match self.ask_pair(&name, layer, sender, receiver, &answers) {
            Verdict::Goto(chain) => Some(Verdict::Jump(chain)),
            _ => None,
        }
    }

    /// The answers of the enforced layer, led through the Audit policies where they say anything else of these sides:
    /// where they would have decided otherwise, that is told first. `ask` poses the same question to their layer.
    pub fn audited(
        &mut self,
        place: Place,
        sides: &[(Party, Direction)],
        answers: Answers,
        mut ask: impl FnMut(&mut Self, &str, &Layer, &Answers) -> Verdict,
    ) -> Answers {
        let pod = self.pod;
        let Some(layer) = &pod.audit else {
            return answers;
        };
        if sides.iter().all(|(party, side)| self.audited_side(*party, *side).is_none()) {
            return answers;
        }
        let would_deny = self.told(place, Action::Deny, answers.allow.clone());
        let would_allow = self.told(place, Action::Allow, answers.deny.clone());
        let allow = Answers { allow: answers.allow, deny: would_deny };
        let deny = Answers { allow: would_allow, deny: answers.deny };
        Answers { allow: ask(self, "audit.allowed.", layer, &allow), deny: ask(self, "audit.denied.", layer, &deny) }
    }

    fn told(&mut self, place: Place, action: Action, then: Verdict) -> Verdict {
        let decision = Decision::audit(place, action);
        let rules = self.tell_and(decision, then);
        self.shared_chain(&counter_name(decision), rules)
    }
}

const fn place(party: Party, direction: Direction) -> Place {
    match direction {
        Direction::Ingress => Place::Ingress(party),
        Direction::Egress => Place::Egress(party),
    }
}

/// There and back.
fn passing(verdict: Verdict) -> Option<Rule> {
    match verdict {
        Verdict::Goto(chain) => Some(rule([Verdict::Jump(chain).into()])),
        _ => None,
    }
}
