//! Equal flows of a pod together.

use std::collections::BTreeMap;

use serde::Serialize;
use sidewall_flow::{Direction, IpProtocol, Record, RecordParty, RecordPeerKind, RecordVerdict, Timestamp};

use crate::screen::{Screen, visible};
use crate::table::{Cell, layout};

/// The flows of a pod.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    namespace: String,
    pod: String,
    /// How many records are missing.
    lost: u64,
    #[serde(serialize_with = "rows")]
    flows: BTreeMap<Flow, Seen>,
    /// Why nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Unavailable>,
}

/// Why a pod's flows are not known.
#[derive(Serialize)]
pub struct Unavailable(pub String);

/// What equal flows have in common: everything but time, client's port and socket's user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    verdict: RecordVerdict,
    party: RecordParty,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    direction: Direction,
    peer: Peer,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<IpProtocol>,
    #[serde(skip)]
    text: String,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Peer {
    kind: RecordPeerKind,
    label: String,
}

/// When equal flows were seen.
#[derive(Clone, Copy, Serialize)]
struct Seen {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Summary {
    /// A pod of which nothing is known yet.
    pub fn of(namespace: &str, pod: &str) -> Self {
        let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
        Self { namespace, pod, lost: 0, flows: BTreeMap::new(), unavailable: None }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record) {
        let flow = match record {
            Record::Flow(flow) => flow,
            Record::Lost(lost) => {
                self.lost += lost.count;
                return;
            }
            Record::End(_) => return,
        };
        let key = Flow {
            verdict: flow.verdict,
            party: flow.party,
            container: flow.container.clone(),
            direction: flow.direction,
            peer: Peer { kind: flow.peer.kind, label: flow.peer.label() },
            port: flow.port,
            protocol: flow.protocol,
            text: flow.route(),
        };
        let seen = self.flows.entry(key).or_insert(Seen { count: 0, first: flow.time, last: flow.time });
        seen.count += 1;
        seen.first = seen.first.min(flow.time);
        seen.last = seen.last.max(flow.time);
    }

    /// The flows, the most frequent first.
    fn rows(&self) -> Vec<(&Flow, Seen)> {
        most_frequent_first(&self.flows)
    }
}

fn most_frequent_first(flows: &BTreeMap<Flow, Seen>) -> Vec<(&Flow, Seen)> {
    let mut rows: Vec<(&Flow, Seen)> = flows.iter().map(|(flow, seen)| (flow, *seen)).collect();
    // The sort is stable, and the map has an order.
    rows.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.count));
    rows
}

fn rows<S: serde::Serializer>(flows: &BTreeMap<Flow, Seen>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        #[serde(flatten)]
        flow: &'a Flow,
        #[serde(flatten)]
        seen: Seen,
    }
    to.collect_seq(most_frequent_first(flows).into_iter().map(|(flow, seen)| Row { flow, seen }))
}

/// Shows the pods' flows, or else says why there are none.
pub fn show(pods: &[Summary], none: &str, screen: &Screen) {
    if screen.is_json() {
        return screen.value(&serde_json::json!({"pods": pods}));
    }
    if pods.is_empty() {
        return screen.line(none);
    }
    let paint = screen.paint();
    for (index, pod) in pods.iter().enumerate() {
        if index > 0 {
            screen.line("");
        }
        screen.line(&paint.strong(&format!("{}/{}", pod.namespace, pod.pod)));
        if let Some(Unavailable(reason)) = &pod.unavailable {
            screen.line(&format!("  {}", paint.warn(reason)));
            continue;
        }
        if pod.flows.is_empty() {
            screen.line("  nothing");
        }
        let line = |(flow, seen): (&Flow, Seen)| {
            let last = seen.last.to_string();
            vec![
                Cell::from(format!("  {}", seen.count).as_str()),
                Cell::painted(last.get(11..19).unwrap_or(&last), |text| paint.faint(text)),
                Cell::painted(&flow.verdict.to_string(), |text| match flow.verdict.is_audit() {
                    true => paint.warn(text),
                    false => paint.bad(text),
                }),
                Cell::from(visible(&flow.text).as_str()),
            ]
        };
        let table = layout(&pod.rows().into_iter().map(line).collect::<Vec<_>>());
        table.lines().for_each(|line| screen.line(line));
        if pod.lost > 0 {
            screen.line(&paint.warn(&format!("  {} more are not among them: too many at once", pod.lost)));
        }
    }
}
