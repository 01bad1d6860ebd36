//! Whose socket a packet has.

use super::super::builder::{Builder, Size};
use super::super::statements::{NO_USER, at_most, dispatch, dispatch_mark, goto, is, is_not, rule};
use crate::mark;
use crate::model::Identities;
use crate::ruleset::{Field, Kind, Rule, Statement, Verdict};
use sidewall_flow::{ContainerId, Direction, Party};

impl Builder<'_> {
    /// Leads the packets of sockets that the identities name to a verdict for each party, by the map `name-map`.
    pub(in super::super) fn known_sockets(&mut self, name: &str, to: &dyn Fn(Party) -> Verdict) -> Statement {
        let map = format!("{name}-map");
        match &self.pod.identities {
            Identities::Cgroup { level, containers, .. } => {
                // A socket of what is no container of the pod any more is an unknown one's.
                let verdicts: Vec<_> = containers
                    .iter()
                    .filter(|(id, _)| self.has_sockets(**id))
                    .flat_map(|(id, cgroups)| {
                        cgroups.iter().map(move |cgroup| (vec![u128::from(*cgroup)], to(Party::Container(*id))))
                    })
                    .collect();
                // Containers start, stop and start again: an element comes or goes, and all that it can lead to is there.
                let here = self.pod.containers.keys().filter(|id| self.has_sockets(**id));
                let all = here.map(|id| to(Party::Container(*id))).collect();
                self.may_lead(&map, all);
                let map = self.map(&map, vec![Kind::Cgroup], Size::Grows, verdicts);
                dispatch([Field::SocketCgroup { level: *level }], &map)
            }
            Identities::Uid(users) | Identities::Gid(users) => {
                let (field, kind) = match self.pod.identities {
                    Identities::Uid(_) => (Field::SocketUid, Kind::Uid),
                    _ => (Field::SocketGid, Kind::Gid),
                };
                let containers = users.containers.iter().filter(|(id, _)| self.has_sockets(**id));
                let containers = containers.map(|(id, user)| (*user, Party::Container(*id)));
                let nodes = users.node.iter().map(|user| (*user, Party::Node));
                let verdicts: Vec<_> =
                    containers.chain(nodes).map(|(user, party)| (vec![u128::from(user)], to(party))).collect();
                let map = self.map(&map, vec![kind], Size::Fixed, verdicts);
                dispatch([field], &map)
            }
        }
    }

    /// Whether a container is the pod's, and in this namespace.
    fn has_sockets(&self, id: ContainerId) -> bool {
        self.pod.containers.contains_key(&id) && !self.pod.is_elsewhere(Party::Container(id))
    }

    /// The rules that find the party of a packet's socket and lead to its verdict, or on where there is no such socket.
    /// `nodes` finds the node's sockets where only what is left can tell.
    pub(in super::super) fn identify(
        &mut self,
        name: &str,
        nodes: Statement,
        to: &dyn Fn(Party) -> Verdict,
    ) -> Vec<Rule> {
        let known = rule([self.known_sockets(name, to)]);
        match &self.pod.identities {
            Identities::Cgroup { pods_level, pods, .. } => {
                let pods = is(Field::SocketCgroup { level: *pods_level }, u128::from(*pods));
                vec![known, rule([pods, to(Party::Unknown).into()]), rule([nodes, to(Party::Node).into()])]
            }
            Identities::Uid(_) | Identities::Gid(_) => {
                vec![known, rule([is_not(Field::SocketUid, NO_USER), to(Party::Unknown).into()])]
            }
        }
    }

    /// A chain that finds once more whose side of a flow a packet is, as the judgement that led here has found it: by the
    /// packet's socket; where it has none, by the end that the flow's mark names; else it is an unknown one's.
    pub(in super::super) fn find_again(
        &mut self,
        name: &str,
        direction: Direction,
        to: &dyn Fn(Party) -> Verdict,
    ) -> Verdict {
        let mut rules = match (&self.pod.identities, direction) {
            (Identities::Cgroup { .. }, Direction::Egress) => {
                let mut rules = self.identify(name, is_not(Field::SocketUid, NO_USER), to);
                // The user is asked for where the packet leaves only, the full socket where it arrives.
                if let Some(nodes) = rules.last_mut() {
                    nodes.statements.insert(0, is_not(Field::OutputDevice, 0));
                }
                let full = at_most(Field::SocketWildcard, 1);
                rules.push(rule([is_not(Field::InputDevice, 0), full, to(Party::Node).into()]));
                rules
            }
            (Identities::Cgroup { .. }, Direction::Ingress) => {
                self.identify(name, at_most(Field::SocketWildcard, 1), to)
            }
            // There is no user at INPUT.
            (Identities::Uid(_) | Identities::Gid(_), _) => {
                let mut rules = self.identify(name, is_not(Field::SocketUid, NO_USER), to);
                for rule in &mut rules {
                    rule.statements.insert(0, is_not(Field::OutputDevice, 0));
                }
                rules
            }
        };
        let (mask, place): (u32, fn(Party) -> u32) = match direction {
            Direction::Egress => (mark::SENDER, mark::sender),
            Direction::Ingress => (mark::RECEIVER, mark::receiver),
        };
        let recorded: Vec<_> =
            self.parties().into_iter().map(|party| (vec![u128::from(place(party))], to(party))).collect();
        let recorded = self.map(&format!("{name}-of"), vec![Kind::Mark], Size::Fixed, recorded);
        rules.push(rule([dispatch_mark(mask, &recorded)]));
        rules.push(rule([to(Party::Unknown).into()]));
        self.chain(name, rules)
    }
}

/// Into the chain of a party.
pub(in super::super) fn into(prefix: &str) -> impl Fn(Party) -> Verdict {
    let prefix = prefix.to_owned();
    move |party| goto(&format!("{prefix}-{party}"))
}
