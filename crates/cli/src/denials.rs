//! What the rules log, as flow records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use sidewall_flow::{Direction, FlowRecord, Party, Place, Protocol, RecordPeer};
use sidewall_netfilter::nflog::{LogEvent, LogReader, LogRecord};
use sidewall_policy::ResolvedPod;
use sidewall_policy::ruleset::Statement;
use sidewall_sandbox::LivePod;

use crate::error::Error;

/// Follows a pod's log until it is dropped.
pub struct Denials {
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How long the thread may take to see that it should end.
const PATIENCE: Duration = Duration::from_millis(200);

impl Denials {
    /// Reads the pod's log on a thread of its own. An event that `tell` does not take (it says `false`) is counted as lost.
    ///
    /// # Errors
    /// [`Error::Netlink`] where somebody else reads it.
    pub fn follow(pod: &LivePod, mut tell: impl FnMut(LogEvent) -> bool + Send + 'static) -> Result<Self, Error> {
        let mut reader = LogReader::open(pod.netns(), Statement::LOG_GROUP)?;
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let run = move || {
            let mut lost = 0_u32;
            while !until.load(Ordering::Relaxed) {
                match reader.next(PATIENCE) {
                    Ok(Some(event)) => {
                        if lost > 0 && tell(LogEvent::Lost(lost)) {
                            lost = 0;
                        }
                        if !tell(event) {
                            lost = lost.saturating_add(1);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "denials are no longer told");
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new()
            .name("denials".into())
            .spawn(run)
            .map_err(|source| Error::System { action: "start a thread", source })?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Denials {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// What a log record tells of a pod's flow.
pub fn record(pod: &ResolvedPod, log: &LogRecord) -> FlowRecord {
    let name = |party: Party| pod.party_name(party).to_owned();
    let packet = log.packet.as_ref();
    let (container, direction, peer) = match log.decision.place {
        Place::Egress(party) => (Some(name(party)), Direction::Egress, None),
        Place::Ingress(party) => (Some(name(party)), Direction::Ingress, None),
        Place::Loopback { sender, receiver } => (Some(name(sender)), Direction::Egress, Some(name(receiver))),
        Place::LoopbackFrom(sender) => (Some(name(sender)), Direction::Egress, None),
        // Only the device tells which way such a packet went.
        Place::Improper | Place::Forged if log.in_device.is_some() => (None, Direction::Ingress, None),
        Place::Improper | Place::Forged => (None, Direction::Egress, None),
    };
    let address = packet.map(|packet| match direction {
        Direction::Ingress => packet.source,
        Direction::Egress => packet.destination,
    });
    FlowRecord {
        time: log
            .time
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(0.0, |since| since.as_secs_f64()),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container,
        direction,
        peer: RecordPeer { container: peer, address },
        protocol: packet.and_then(|packet| Protocol::from_number(packet.protocol)),
        port: packet.and_then(|packet| packet.ports).map(|ports| ports.destination),
        uid: log.uid,
        verdict: log.decision.action,
        audit: log.decision.audit,
        decision: log.decision.to_string(),
    }
}

/// A flow record for people.
pub fn sentence(record: &FlowRecord) -> String {
    let who = record.container.as_deref().unwrap_or("(somebody)");
    let port = match (record.port, record.protocol) {
        (Some(port), Some(protocol)) => format!(" {port}/{protocol}"),
        _ => String::new(),
    };
    let peer = match (&record.peer.container, record.peer.address) {
        (Some(container), _) => container.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "(somebody)".to_owned(),
    };
    let flow = match record.direction {
        Direction::Egress => format!("{who} -> {peer}{port}"),
        Direction::Ingress => format!("{peer} -> {who}{port}"),
    };
    let verdict = match (record.audit, record.verdict) {
        (false, verdict) => format!("{verdict}"),
        (true, verdict) => format!("audit: would {verdict}"),
    };
    let user = record.uid.map(|uid| format!(", user {uid}")).unwrap_or_default();
    format!("{verdict} {flow} ({}{user})", record.decision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_flow::{Action, Decision};

    fn record_of(place: Place) -> FlowRecord {
        let subject = crate::scene::subject(
            &Default::default(),
            Vec::new(),
            sidewall_policy::model::Identities::Uid(Default::default()),
        )
        .unwrap();
        let pod = sidewall_policy::resolve(&Default::default(), &subject);
        let packet = sidewall_netfilter::nflog::Packet {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: 6,
            ports: Some(sidewall_netfilter::nflog::Ports { source: 4000, destination: 443 }),
            icmp: None,
        };
        let log = LogRecord { uid: Some(7), packet: Some(packet), ..LogRecord::new(Decision::denied(place)) };
        record(&pod, &log)
    }

    #[test]
    fn the_peer_is_the_other_end() {
        let egress = record_of(Place::Egress(Party::Unknown));
        assert_eq!(egress.verdict, Action::Deny);
        assert_eq!(sentence(&egress), "deny (unknown) -> 10.0.0.2 443/TCP (sw:deny/egress/unknown, user 7)");
        let ingress = record_of(Place::Ingress(Party::Unknown));
        assert_eq!(sentence(&ingress), "deny 10.0.0.1 -> (unknown) 443/TCP (sw:deny/ingress/unknown, user 7)");
        let inside = record_of(Place::Loopback { sender: Party::Node, receiver: Party::Unknown });
        assert_eq!(sentence(&inside), "deny (node) -> (unknown) 443/TCP (sw:deny/loopback/node/unknown, user 7)");
    }
}
