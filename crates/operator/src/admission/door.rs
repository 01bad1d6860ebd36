//! The door at which the API server asks: what becomes of a pod, and whether something of our kinds may be written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use sidewall_api::{ContainerNetworkPolicy, PolicyKind};
use tokio::time::timeout;

use crate::admission::inject::Needs;
use crate::admission::probes::HookSecret;
use crate::admission::review::{self, Cluster, Decision};
use crate::admission::validate::{self, Access, Content, Facts, KnownPod, Permission, SecretContent};
use crate::admission::webhook::{Answers, NoAnswer};
use crate::known::shared::Shared;
use crate::program::metrics::Metrics;
use crate::proxies::configs;
use crate::settings::Settings;
use crate::written::within;

/// Where pods are asked about.
pub const INJECT: &str = "/inject";
/// Where objects of our kinds are asked about.
pub const VALIDATE: &str = "/validate";
/// How long an answer of the API server is waited for; it waits for ours meanwhile.
const ANSWER: Duration = Duration::from_secs(4);
/// How long a pod's answer waits for its ConfigMap; it is sent in any case, and the pod starts when the ConfigMap is there.
const CONFIG: Duration = Duration::from_secs(2);
/// How long a ConfigMap that was written here is not written again: until the news of it have come.
const WRITTEN: Duration = Duration::from_secs(30);
/// The most ConfigMaps of which that is remembered.
const REMEMBERED: usize = 4096;
/// How many ConfigMaps are written here a second in the long run, and at once. Whoever reaches the port can ask for one; those of
/// pods that there really are the leading operator writes in any case.
const WRITES: (u32, u32) = (10, 50);

/// Answers the API server.
pub struct Door {
    /// Speaks to it.
    pub client: Client,
    /// What is known.
    pub shared: Arc<Shared>,
    /// What becomes of pods.
    pub settings: Arc<Settings>,
    /// What hooks' paths are made of.
    pub secret: HookSecret,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// ConfigMaps that were written here.
    pub written: Written,
}

/// ConfigMaps that were written here, by namespace and name, and when.
#[derive(Default)]
pub struct Written {
    at: Mutex<HashMap<(String, String), Instant>>,
    budget: Mutex<Budget>,
}

/// How many may still be written, and when that was.
struct Budget {
    left: f64,
    at: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: f64::from(WRITES.1), at: Instant::now() }
    }
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let come = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(WRITES.0);
        self.left = (self.left + come).min(f64::from(WRITES.1));
        self.at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

impl Written {
    fn has(&self, key: &(String, String)) -> bool {
        let written = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(key).is_some_and(|at| at.elapsed() < WRITTEN)
    }

    /// Whether one more may be written now.
    fn may(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(Instant::now())
    }

    fn note(&self, key: (String, String)) {
        let mut written = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= REMEMBERED {
            written.retain(|_, at| at.elapsed() < WRITTEN);
        }
        if written.len() < REMEMBERED {
            written.insert(key, Instant::now());
        }
    }
}

impl Answers for Door {
    async fn answer(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let begun = Instant::now();
        match path {
            INJECT => {
                let (decision, answer) = self.inject(body).await;
                self.metrics.review(INJECT, decision, begun.elapsed());
                answer
            }
            VALIDATE => {
                let (decision, answer) = self.validate(body).await;
                self.metrics.review(VALIDATE, decision, begun.elapsed());
                answer
            }
            _ => Err(NoAnswer::Nobody),
        }
    }
}

impl Door {
    async fn inject(&self, body: &[u8]) -> (&'static str, Result<Vec<u8>, NoAnswer>) {
        let answer = {
            let known = self.shared.known();
            if !known.synced() {
                let reason = "the operator has not read the cluster yet; try again in a moment".to_owned();
                return ("not-now", Err(NoAnswer::NotNow(reason)));
            }
            review::answer(body, &*known, &self.secret, &self.settings)
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!("a review of a pod can't be answered: {error}");
                return ("unintelligible", Err(NoAnswer::Unintelligible(error.to_string())));
            }
        };
        if let Some(needs) = &answer.needs
            && !answer.dry_run
        {
            self.provide(&answer.namespace, needs).await;
        }
        let decision = match &answer.decision {
            Decision::NotOurs => "not-ours",
            Decision::Untouched(_) => "untouched",
            Decision::Patched => "patched",
            Decision::Refused(message) => {
                tracing::info!(namespace = answer.namespace, "a pod is refused: {message}");
                "refused"
            }
        };
        (decision, Ok(answer.body))
    }

    async fn validate(&self, body: &[u8]) -> (&'static str, Result<Vec<u8>, NoAnswer>) {
        let question = match validate::read(body) {
            Ok(question) => question,
            Err(error) => {
                tracing::warn!("a review of what is written can't be answered: {error}");
                return ("unintelligible", Err(NoAnswer::Unintelligible(error.to_string())));
            }
        };
        let wants = question.wants();
        let (asks, namespace) = (&question, question.namespace());
        let asked = wants.access.iter().map(|access| async move {
            let permission = self.may(asks.access_review(access)).await;
            let content = match (access, &permission) {
                (Access::Secret(name), Permission::Allowed) => {
                    Some((name.clone(), self.content(namespace, name).await))
                }
                _ => None,
            };
            ((*access).clone(), permission, content)
        });
        let mut facts = Facts { now: Some(Timestamp::now().as_second()), ..Facts::default() };
        for (access, permission, content) in join_all(asked).await {
            facts.access.insert(access, permission);
            facts.contents.extend(content);
        }
        let answer = {
            let known = self.shared.known();
            let namespace = question.namespace();
            let others = wants.others;
            let pods: Vec<KnownPod<'_>> = known
                .running(namespace)
                .filter(|_| others.is_some())
                .map(|(_, pod)| KnownPod {
                    labels: &pod.labels,
                    host_network: pod.host_network,
                    containers: Some(&pod.containers),
                })
                .collect();
            // A policy may name the proxy's container before there is a pod that has it.
            let proxies = if others.is_some() { known.proxies(namespace) } else { Vec::new() };
            let policies: Vec<&ContainerNetworkPolicy> = match others {
                Some(PolicyKind::ContainerNetworkPolicy) => {
                    known.policies.of(namespace).filter_map(|(_, policy)| policy.read.as_ref().ok()).collect()
                }
                _ => Vec::new(),
            };
            let facts = Facts {
                namespace: known.namespace(namespace),
                pods: known.pods.synced().then_some(pods.as_slice()),
                proxies: &proxies,
                policies: &policies,
                ..facts
            };
            question.answer(&facts, &self.settings)
        };
        match answer {
            Ok(answer) => {
                let decision = match &answer.decision {
                    validate::Decision::NotOurs => "not-ours",
                    validate::Decision::Allowed { warnings } if warnings.is_empty() => "allowed",
                    validate::Decision::Allowed { .. } => "warned",
                    validate::Decision::Refused { .. } => "refused",
                };
                (decision, Ok(answer.body))
            }
            Err(error) => ("unintelligible", Err(NoAnswer::Unintelligible(error.to_string()))),
        }
    }

    /// Whether somebody may do something.
    async fn may(&self, spec: SubjectAccessReviewSpec) -> Permission {
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        match within(ANSWER, reviews.create(&PostParams::default(), &review)).await {
            Ok(review) => {
                let status = review.status.unwrap_or_default();
                let allowed = status.allowed && status.denied != Some(true);
                if allowed { Permission::Allowed } else { Permission::Denied }
            }
            Err(error) => Permission::Unanswered(error.to_string()),
        }
    }

    /// What is in a Secret that the requester may read.
    async fn content(&self, namespace: &str, name: &str) -> Content {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        match within(ANSWER, secrets.get_opt(name)).await {
            Ok(Some(secret)) => Content::Found(SecretContent::of(secret)),
            Ok(None) => Content::Missing,
            Err(error) => Content::Unread(error.to_string()),
        }
    }

    /// Sees to it that the ConfigMap is there before the pod is: else its first start would fail once.
    async fn provide(&self, namespace: &str, needs: &Needs) {
        let key = (namespace.to_owned(), needs.record.config.clone());
        let object = {
            let known = self.shared.known();
            if known.configs.get(namespace, &key.1).is_some() || self.written.has(&key) || !self.written.may() {
                return;
            }
            configs::object(namespace, &key.1, &needs.config, &needs.word)
        };
        let made = timeout(CONFIG, configs::create(&self.client, &object)).await;
        match made {
            Ok(made) => {
                self.metrics.write("configmap", &made);
                match made {
                    Ok(_) => self.written.note(key),
                    Err(error) => {
                        tracing::warn!(namespace, name = key.1, "a configuration can't be written yet: {error}")
                    }
                }
            }
            Err(_) => tracing::warn!(namespace, name = key.1, "a configuration can't be written within {CONFIG:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_configurations_are_written_here() {
        let mut budget = Budget::default();
        let now = budget.at;
        let took = |budget: &mut Budget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(took(&mut budget, now), 50);
        assert_eq!(took(&mut budget, now + Duration::from_secs(1)), 10);
        assert_eq!(took(&mut budget, now + Duration::from_secs(3600)), 50);
    }
}
