//! What is counted of each listener, over all versions of the configuration: a listener's numbers go on as long as there is one
//! on its port, and are told for a while after there is none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Counters;

/// Ports whose listeners have gone and whose numbers are still told.
const GONE_MAX: usize = 32;

/// By port, what each worker counts there.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    by_port: BTreeMap<u16, Vec<Arc<Counters>>>,
    gone: VecDeque<u16>,
}

impl ListenerCounters {
    /// There are listeners on these ports now, and no others.
    pub fn set(&mut self, ports: &[u16], workers: usize) {
        let (by_port, gone) = (&mut self.by_port, &mut self.gone);
        gone.retain(|port| !ports.contains(port));
        for port in by_port.keys() {
            if !ports.contains(port) && !gone.contains(port) {
                gone.push_back(*port);
            }
        }
        while gone.len() > GONE_MAX {
            if let Some(oldest) = gone.pop_front() {
                by_port.remove(&oldest);
            }
        }
        for port in ports {
            by_port.entry(*port).or_insert_with(|| (0..workers).map(|_| Arc::default()).collect());
        }
    }

    /// What a worker counts of the listeners on these ports. Empty if they were not [set](Self::set).
    pub fn of(&self, ports: &[u16], worker: usize) -> Vec<Arc<Counters>> {
        ports.iter().filter_map(|port| self.by_port.get(port)?.get(worker).cloned()).collect()
    }

    /// The ports, and what each worker has counted there.
    pub fn all(&self) -> Vec<(u16, Vec<Arc<Counters>>)> {
        self.by_port.iter().map(|(port, workers)| (*port, workers.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_while_a_port_is_there_and_are_told_for_a_while_after() {
        let mut counters = ListenerCounters::default();
        counters.set(&[80, 443], 2);
        counters.of(&[443], 1)[0].opened();
        counters.set(&[443], 2);
        let opened = |counters: &ListenerCounters, port: u16| {
            counters
                .all()
                .into_iter()
                .find(|(there, _)| *there == port)
                .map(|(_, workers)| super::super::Sums::of(workers.iter().map(|counters| &**counters)).opened)
        };
        assert_eq!((opened(&counters, 443), opened(&counters, 80)), (Some(1), Some(0)));
        for port in 1000..1000 + u16::try_from(GONE_MAX).expect("few") {
            counters.set(&[443, port], 2);
        }
        assert_eq!(opened(&counters, 80), Some(0), "not yet");
        counters.set(&[443], 2);
        assert_eq!((opened(&counters, 443), opened(&counters, 80)), (Some(1), None), "it is forgotten in the end");
        assert_eq!(counters.all().len(), GONE_MAX + 1);
    }
}
