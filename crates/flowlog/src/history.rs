//! What a hub keeps for those who come later.

use sidewall_flow::Record;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many records a hub keeps, unless it is told another number.
pub const HISTORY: usize = 1024;

/// How many records a hub keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// In all.
    pub records: usize,
    /// Of one pod, so that one that is denied much does not push out what is known of the others.
    pub of_a_pod: usize,
}

impl Default for Keep {
    /// [`HISTORY`], be they all of one pod.
    fn default() -> Self {
        Self { records: HISTORY, of_a_pod: HISTORY }
    }
}

/// The namespace and name of the pod that a record is about.
type Name = Option<(String, String)>;

/// The youngest records, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct History {
    keep: Keep,
    /// The number of the next record.
    next: u64,
    records: BTreeMap<u64, Arc<Record>>,
    /// The numbers of each pod's records.
    pods: BTreeMap<Name, VecDeque<u64>>,
}

impl History {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, ..Self::default() }
    }

    pub(crate) fn add(&mut self, record: Arc<Record>) {
        let (name, number) = (name(&record), self.next);
        self.next += 1;
        self.records.insert(number, record);
        let own = self.pods.entry(name).or_default();
        own.push_back(number);
        if own.len() > self.keep.of_a_pod
            && let Some(oldest) = own.pop_front()
        {
            self.records.remove(&oldest);
        }
        if self.records.len() > self.keep.records {
            self.forget_oldest();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    fn forget_oldest(&mut self) {
        let Some((_, oldest)) = self.records.pop_first() else { return };
        let name = name(&oldest);
        // The oldest of all is the oldest of its pod.
        if let Some(own) = self.pods.get_mut(&name) {
            own.pop_front();
            if own.is_empty() {
                self.pods.remove(&name);
            }
        }
    }
}

fn name(record: &Record) -> Name {
    record.pod().map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{number, of_pod, record};

    fn numbers(history: &History) -> Vec<u32> {
        history.iter().filter_map(|record| number(record)).collect()
    }

    #[test]
    fn a_loud_pod_pushes_out_its_own_records_only() {
        let mut history = History::new(Keep { records: 10, of_a_pod: 3 });
        history.add(Arc::new(of_pod("quiet", record(0))));
        (1..1000).for_each(|n| history.add(Arc::new(record(n))));
        assert_eq!(numbers(&history), [0, 997, 998, 999]);
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_of_it_stays() {
        let mut history = History::new(Keep { records: 5, of_a_pod: 5 });
        for n in 0..1000 {
            history.add(Arc::new(of_pod(&format!("pod-{n}"), record(n))));
        }
        assert_eq!(numbers(&history), [995, 996, 997, 998, 999]);
        assert_eq!(history.pods.len(), 5, "names of pods do not pile up");
    }

    #[test]
    fn keeping_nothing_is_possible() {
        for keep in [Keep { records: 0, of_a_pod: 5 }, Keep { records: 5, of_a_pod: 0 }] {
            let mut history = History::new(keep);
            (0..10).for_each(|n| history.add(Arc::new(record(n))));
            assert_eq!((numbers(&history).len(), history.records.len()), (0, 0), "{keep:?}");
        }
    }
}
