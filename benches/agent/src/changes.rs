//! How long until what was written to the API server is in force in the kernel, in every pod that it concerns.

use crate::eyes::Eyes;
use crate::objects::{Objects, Write};
use crate::pods::Wanted;
use crate::{MS, Result, quantile, world};
use serde_json::json;
use sidewall_benches::report::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Until a change is in force, in milliseconds; the median.
const IN_FORCE: f64 = 100.0;
/// The rest between two changes.
const PAUSE: Duration = Duration::from_millis(40);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Opened,
    Revoked,
    PodRelabelled,
    NamespaceRelabelled,
    Endpoints,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Opened, Self::Revoked, Self::PodRelabelled, Self::NamespaceRelabelled, Self::Endpoints];

    fn name(self) -> &'static str {
        match self {
            Self::Opened => "a policy comes",
            Self::Revoked => "a policy goes (revocation)",
            Self::PodRelabelled => "a pod is relabelled",
            Self::NamespaceRelabelled => "a namespace is relabelled",
            Self::Endpoints => "a Service's endpoints change",
        }
    }

    /// The issue's own four have a target.
    fn target(self) -> Option<f64> {
        (self != Self::Opened).then_some(IN_FORCE)
    }
}

/// The pods, and the addresses that the teams' Services have.
pub struct Scene<'a> {
    pub objects: &'a Objects,
    pub eyes: &'a Eyes,
    /// In the order in which the eyes see them.
    pub pods: &'a [Wanted],
    /// By team.
    pub stores: &'a [Vec<String>],
}

/// What one change took.
struct Took {
    kind: Kind,
    after_answer: f64,
    after_sending: f64,
    concerned: usize,
    further: usize,
}

impl Scene<'_> {
    /// Measures so many of each, in turn.
    pub async fn run(&self, count: usize, tell: &mut dyn FnMut(Row)) -> Result<()> {
        let mut took = Vec::new();
        // The first rounds warm up, each team's too.
        for round in 0..world::TEAMS + count {
            for kind in Kind::ALL {
                let one = self.one(kind, round).await.map_err(|error| format!("{}: {error}", kind.name()))?;
                if round >= world::TEAMS {
                    took.push(one);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let about = format!("{} pods here", self.pods.len());
        for kind in Kind::ALL {
            let of: Vec<&Took> = took.iter().filter(|took| took.kind == kind).collect();
            let values = |value: fn(&Took) -> f64| of.iter().map(|took| value(took)).collect::<Vec<f64>>();
            let after_answer = values(|took| took.after_answer);
            let name = format!("in force, {}, {about}", kind.name());
            tell(Row::alone(name.clone(), MS, kind.target(), &after_answer));
            tell(Row::alone(format!("{name}, p90"), MS, None, &[quantile(&after_answer, 0.9)]));
            tell(Row::alone(
                format!("{name}, after sending the request"),
                MS,
                None,
                &values(|took| took.after_sending),
            ));
            let further: usize = of.iter().map(|took| took.further).sum();
            let concerned: BTreeMap<usize, usize> = of.iter().fold(BTreeMap::new(), |mut all, took| {
                *all.entry(took.concerned).or_default() += 1;
                all
            });
            println!("    pods concerned, and how often: {concerned:?}; others that changed: {further}");
        }
        Ok(())
    }

    async fn one(&self, kind: Kind, round: usize) -> Result<Took> {
        let team = round % world::TEAMS;
        let (write, expected) = match kind {
            Kind::Opened => {
                (Write::Create(world::policies(&world::team(team)), world::opening("opening")), self.of(Some(team), 0))
            }
            Kind::Revoked => {
                let path = format!("{}/opening", world::policies(&world::team(team)));
                (Write::Delete(path), self.of(Some(team), 0))
            }
            Kind::PodRelabelled => {
                let client = self.pods.iter().find(|pod| pod.namespace == world::CLIENTS).ok_or("no client")?;
                let role = if round.is_multiple_of(2) { "guest" } else { "client" };
                let path = world::pod_path(&client.namespace, &client.name);
                (Write::Merge(path, json!({"metadata": {"labels": {"role": role}}})), self.of(None, 0))
            }
            Kind::NamespaceRelabelled => {
                let team = if round.is_multiple_of(2) { "green" } else { "blue" };
                let path = format!("/api/v1/namespaces/{}", world::CLIENTS);
                (Write::Merge(path, json!({"metadata": {"labels": {"team": team}}})), self.of(None, 0))
            }
            Kind::Endpoints => {
                // There comes one who is no pod, which nobody may reach, and goes again: the Service is closed meanwhile.
                let mut addresses = self.stores[team].clone();
                if (round / world::TEAMS).is_multiple_of(2) {
                    addresses.push("198.18.0.1".to_owned());
                }
                let path = format!("{}/store-1", world::slices(&world::team(team)));
                // Clients may reach every pod of the teams, and so what stands before these.
                let clients = self.pods.iter().enumerate().filter(|(_, pod)| pod.namespace == world::CLIENTS);
                let concerned = clients.map(|(index, _)| index).chain(self.of(Some(team), 2)).collect();
                (Write::Merge(path, json!({"endpoints": world::endpoints(&addresses)})), concerned)
            }
        };
        if expected.is_empty() {
            return Err("there is no pod that it concerns; ask for more pods".into());
        }
        self.eyes.blink();
        let sent = Instant::now();
        self.objects.write(&write).await?;
        let answered = Instant::now();
        let seen = self.eyes.until(&expected)?;
        let last = seen.last().ok_or("nothing was seen")?;
        Ok(Took {
            kind,
            // It may be in force before the API server's answer is here.
            after_answer: last.saturating_duration_since(answered).as_secs_f64() * 1e3,
            after_sending: last.saturating_duration_since(sent).as_secs_f64() * 1e3,
            concerned: expected.len(),
            further: seen.further.len(),
        })
    }

    /// The pods of an application, of one team or of all.
    fn of(&self, team: Option<usize>, application: usize) -> BTreeSet<usize> {
        let all = self.pods.iter().enumerate();
        let concerned = all.filter(|(_, pod)| {
            pod.number % world::APPLICATIONS == application
                && pod.namespace != world::CLIENTS
                && team.is_none_or(|team| pod.namespace == world::team(team))
        });
        concerned.map(|(index, _)| index).collect()
    }
}
