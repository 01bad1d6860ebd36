//! What the operator's parts have in common: what is known, what is to be looked at again, and what goes wrong with the news.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::known::Known;

/// Something to be looked at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The SidecarProxies of a namespace, and what their pods need.
    Namespace(String),
    /// The status of policies.
    Policies,
    /// The PodSplits of a namespace, and its split pods.
    Splits(String),
}

/// A kind of which no news come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub since: Timestamp,
    /// Why, as it was said last.
    pub reason: String,
}

/// What the parts have in common.
#[derive(Default)]
pub struct Shared {
    known: RwLock<Known>,
    subjects: Mutex<BTreeSet<Subject>>,
    more: Notify,
    outages: Mutex<BTreeMap<String, Outage>>,
}

impl Shared {
    /// What is known, to read. It must not be held while anything is waited for.
    pub fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, to change.
    pub fn learn(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something looked at again.
    pub fn mark(&self, subjects: impl IntoIterator<Item = Subject>) {
        let mut waiting = lock(&self.subjects);
        let before = waiting.len();
        waiting.extend(subjects);
        if waiting.len() > before {
            self.more.notify_one();
        }
    }

    /// Has everything looked at again.
    pub fn mark_all(&self) {
        let known = self.known();
        let namespaces = known.proxies.namespaces().chain(known.configs.namespaces()).chain(known.pods.namespaces());
        let namespaces: BTreeSet<&String> = namespaces.collect();
        let split: BTreeSet<&String> = known.splits.namespaces().chain(known.parts.namespaces()).collect();
        let split = split.into_iter().cloned().map(Subject::Splits);
        self.mark(namespaces.into_iter().cloned().map(Subject::Namespace).chain([Subject::Policies]).chain(split));
    }

    /// What is to be looked at again: waits until there is anything.
    pub async fn marked(&self) -> BTreeSet<Subject> {
        loop {
            let waiting = std::mem::take(&mut *lock(&self.subjects));
            if !waiting.is_empty() {
                return waiting;
            }
            self.more.notified().await;
        }
    }

    /// Says that no news of a kind come; since when.
    pub fn trouble(&self, kind: &str, reason: String) -> Timestamp {
        let mut outages = lock(&self.outages);
        let begun = || Outage { since: Timestamp::now(), reason: String::new() };
        let outage = outages.entry(kind.to_owned()).or_insert_with(begun);
        outage.reason = reason;
        outage.since
    }

    /// Says that news of a kind come.
    pub fn well(&self, kind: &str) {
        lock(&self.outages).remove(kind);
    }

    /// The kinds of which no news come.
    pub fn outages(&self) -> BTreeMap<String, Outage> {
        lock(&self.outages).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_marked_comes_once_however_often_it_was() {
        let shared = Shared::default();
        let shop = Subject::Namespace("shop".to_owned());
        shared.mark([shop.clone(), Subject::Policies, shop.clone()]);
        shared.mark([shop.clone()]);
        assert_eq!(shared.marked().await, BTreeSet::from([shop.clone(), Subject::Policies]));
        let later = async {
            tokio::task::yield_now().await;
            shared.mark([shop.clone()]);
        };
        let (marked, ()) = tokio::join!(shared.marked(), later);
        assert_eq!(marked, BTreeSet::from([shop]));
    }

    #[test]
    fn an_outage_keeps_its_beginning() {
        let shared = Shared::default();
        let since = shared.trouble("pods", "refused".to_owned());
        assert_eq!(shared.trouble("pods", "reset".to_owned()), since);
        assert_eq!(shared.outages()["pods"], Outage { since, reason: "reset".to_owned() });
        shared.well("pods");
        assert!(shared.outages().is_empty());
    }
}
