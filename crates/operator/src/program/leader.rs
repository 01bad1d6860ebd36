//! Which of several operators writes: who holds a Lease (`coordination.k8s.io/v1`).
//!
//! Nobody trusts another's clock: whoever wants the Lease waits for as long as it is good, from the moment at which *he* saw it
//! renewed last. Whoever holds it and can't renew it in time stops before anybody else may begin.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::written::{WriteError, within};

/// How long a Lease is good after it was renewed.
pub const GOOD: Duration = Duration::from_secs(15);
/// How long its holder tries to renew it, before he stops.
const RENEW: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// Wants to hold a Lease.
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    me: String,
    /// What was seen last, and when.
    seen: Option<(LeaseSpec, Instant)>,
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
enum Try {
    /// It is ours.
    Held,
    /// It is another's.
    Others(String),
    /// That can't be said.
    Unknown(String),
}

impl Elector {
    /// Wants the Lease of this name in a namespace, for somebody whose name nobody else has.
    pub fn new(client: Client, namespace: &str, name: &str, me: String) -> Self {
        Self { leases: Api::namespaced(client, namespace), name: name.to_owned(), me, seen: None }
    }

    /// Holds the Lease whenever it can, and says so, until `stop` is ready; then gives it back.
    pub async fn run(mut self, leads: watch::Sender<bool>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut renewed: Option<Instant> = None;
        loop {
            let tried = Instant::now();
            // Whoever leads must know in time that he does not any more, also where nobody answers.
            let longest = renewed.map_or(ANSWER * 2, |at| RENEW.saturating_sub(at.elapsed()));
            let attempt = timeout(longest, self.attempt(Timestamp::now())).await;
            match attempt.unwrap_or_else(|_| Try::Unknown("nobody answers".to_owned())) {
                Try::Held => {
                    // From before it was asked: the answer may have taken long.
                    renewed = Some(tried);
                    if !leads.send_replace(true) {
                        tracing::info!(lease = self.name, "this operator leads");
                    }
                }
                Try::Others(holder) => {
                    renewed = None;
                    if leads.send_replace(false) {
                        tracing::warn!(lease = self.name, holder, "another operator leads");
                    }
                }
                Try::Unknown(reason) => {
                    tracing::debug!(lease = self.name, "the Lease can't be renewed: {reason}");
                    let late = renewed.is_some_and(|at| at.elapsed() >= RENEW);
                    if late && leads.send_replace(false) {
                        tracing::warn!(
                            lease = self.name,
                            "this operator leads no more: its Lease can't be renewed: {reason}"
                        );
                    }
                }
            }
            tokio::select! {
                () = &mut stop => break,
                () = sleep(LOOK) => {}
            }
        }
        if leads.send_replace(false) {
            self.give_back().await;
        }
    }

    async fn attempt(&mut self, now: Timestamp) -> Try {
        let lease = match within(ANSWER, self.leases.get_opt(&self.name)).await {
            Ok(lease) => lease,
            Err(error) => return Try::Unknown(error.to_string()),
        };
        let Some(lease) = lease else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None, now)),
            };
            return self.written(within(ANSWER, self.leases.create(&PostParams::default(), &lease)).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        if let Some(holder) = self.holder(&spec) {
            return Try::Others(holder);
        }
        // The resourceVersion of what was read stays in it: whoever was faster wins.
        let lease = Lease { spec: Some(self.spec(Some(&spec), now)), ..lease };
        self.written(within(ANSWER, self.leases.replace(&self.name, &PostParams::default(), &lease)).await)
    }

    /// Who else holds the Lease.
    fn holder(&self, spec: &LeaseSpec) -> Option<String> {
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty() && !self.is_me(holder))?;
        let good = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
        let over = self.seen.as_ref().is_some_and(|(_, at)| at.elapsed() > good);
        (!over).then_some(holder)
    }

    /// Whether a holder is this pod, in this life or in one that has ended: a pod's container is started again only when it has
    /// ended, so what is left of a life that was killed need not be waited for. Pods' names have no underscore.
    fn is_me(&self, holder: &str) -> bool {
        let pod = |name: &str| name.rsplit_once('_').map(|(pod, _)| pod.to_owned());
        holder == self.me || (pod(holder).is_some() && pod(holder) == pod(&self.me))
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let mine = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.me));
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(GOOD.as_secs()).ok(),
            acquire_time: mine.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: match (mine, before) {
                (Some(mine), _) => mine.lease_transitions,
                (None, Some(before)) => Some(before.lease_transitions.unwrap_or(0).saturating_add(1)),
                (None, None) => Some(0),
            },
            ..LeaseSpec::default()
        }
    }

    fn written(&mut self, answer: Result<Lease, WriteError>) -> Try {
        match answer {
            Ok(lease) => {
                self.seen = lease.spec.map(|spec| (spec, Instant::now()));
                Try::Held
            }
            // Somebody else was faster; the next look says who.
            Err(error) if error.status() == Some(409) => Try::Unknown("somebody else was faster".to_owned()),
            Err(error) => Try::Unknown(error.to_string()),
        }
    }

    /// Lets the next one begin at once.
    async fn give_back(&mut self) {
        let Ok(Some(mut lease)) = within(ANSWER, self.leases.get_opt(&self.name)).await else { return };
        let Some(spec) = &mut lease.spec else { return };
        if spec.holder_identity.as_deref() != Some(&self.me) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        if within(ANSWER, self.leases.replace(&self.name, &PostParams::default(), &lease)).await.is_ok() {
            tracing::info!(lease = self.name, "this operator has given the lead back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who wants the Lease, of an API server that is never asked here.
    fn elector() -> Elector {
        let config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
        Elector::new(Client::try_from(config).unwrap(), "walls", "lead", "me".to_owned())
    }

    fn held(by: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.to_owned()),
            lease_duration_seconds: Some(seconds),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn anothers_lease_is_respected_for_as_long_as_it_is_good_by_ones_own_clock() {
        let mut elector = elector();
        let spec = held("other", 15);
        elector.seen = Some((spec.clone(), Instant::now()));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(elector.holder(&spec), Some("other".to_owned()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(elector.holder(&spec), None);
        // One that was given back, and one's own.
        assert_eq!(elector.holder(&held("", 1)), None);
        assert_eq!(elector.holder(&held("me", 15)), None);
    }

    #[tokio::test]
    async fn a_life_of_the_same_pod_that_was_killed_is_not_waited_for() {
        let mut elector = elector();
        elector.me = "operator-7d9f_2".to_owned();
        let seen = |elector: &mut Elector, by: &str| {
            let spec = held(by, 15);
            elector.seen = Some((spec.clone(), Instant::now()));
            elector.holder(&spec)
        };
        assert_eq!(seen(&mut elector, "operator-7d9f_1"), None);
        for other in ["operator-7d9_1", "operator-7d9f", "operator-7d9f1", "7d9f_2", "_2"] {
            assert_eq!(seen(&mut elector, other).as_deref(), Some(other));
        }
    }

    #[tokio::test]
    async fn whoever_follows_another_is_counted_and_whoever_goes_on_is_not() {
        let elector = elector();
        let now = Timestamp::now();
        let first = elector.spec(None, now);
        assert_eq!((first.lease_transitions, first.holder_identity.as_deref()), (Some(0), Some("me")));
        let later = now + Duration::from_secs(2);
        let renewed = elector.spec(Some(&first), later);
        assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(0), &first.acquire_time));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
        let taken = elector.spec(Some(&held("other", 15)), later);
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(5), Some(MicroTime(later))));
    }
}
