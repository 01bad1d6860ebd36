//! Whose socket a packet has.

use super::super::builder::Builder;
use super::super::statements::{NO_USER, dispatch, goto, is, is_not, rule};
use crate::model::Identities;
use crate::ruleset::{Field, Kind, Rule, Statement};
use sidewall_flow::Party;

impl Builder<'_> {
    /// Leads the packets of sockets that the identities name into `prefix-PARTY`.
    pub(super) fn known_sockets(&mut self, prefix: &str) -> Statement {
        let to = |party: Party| goto(&format!("{prefix}-{party}"));
        let map = format!("{prefix}-map");
        match &self.pod.identities {
            Identities::Cgroup { level, containers, .. } => {
                let verdicts: Vec<_> = containers
                    .iter()
                    .flat_map(|(id, cgroups)| {
                        cgroups.iter().map(move |cgroup| (vec![u128::from(*cgroup)], to(Party::Container(*id))))
                    })
                    .collect();
                let map = self.map(&map, vec![Kind::Cgroup], verdicts);
                dispatch([Field::SocketCgroup { level: *level }], &map)
            }
            Identities::Uid(users) | Identities::Gid(users) => {
                let (field, kind) = match self.pod.identities {
                    Identities::Uid(_) => (Field::SocketUid, Kind::Uid),
                    _ => (Field::SocketGid, Kind::Gid),
                };
                let containers = users.containers.iter().map(|(id, user)| (*user, Party::Container(*id)));
                let nodes = users.node.iter().map(|user| (*user, Party::Node));
                let verdicts: Vec<_> =
                    containers.chain(nodes).map(|(user, party)| (vec![u128::from(user)], to(party))).collect();
                let map = self.map(&map, vec![kind], verdicts);
                dispatch([field], &map)
            }
        }
    }

    /// The rules that find the party of a packet's socket: into `prefix-PARTY`, or on where there is no such socket.
    /// `nodes` finds the node's sockets where only what is left can tell.
    pub(super) fn identify(&mut self, prefix: &str, nodes: Statement) -> Vec<Rule> {
        let to = |party: Party| goto(&format!("{prefix}-{party}"));
        let known = rule([self.known_sockets(prefix)]);
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
}
