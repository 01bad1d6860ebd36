//! What is counted, for Prometheus.

use crate::wall::Entry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use sidewall_api::enforcement::EnforcementState;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Batches of changes from the API server.
    pub batches: Counter,
    /// Rules that somebody had changed and that were put right.
    pub repairs: Counter,
    /// Rules that could not be put in force.
    pub failures: Counter,
    /// What the CNI plugin asked, and what it was told.
    pub cni: Family<Asked, Counter>,
    /// Containers' starts that the runtime asked about, by what it was told.
    pub starts: Family<Told, Counter>,
    /// Whether the runtime tells of containers before they start.
    pub nri: Gauge,
    /// Whether the plugin is in the chain of the pods' network.
    pub installed: Gauge,
    /// Kinds of which no news come.
    pub stale: Gauge,
    steps: Family<Way, Counter>,
    seconds: Histogram,
    pods: Family<State, Gauge>,
}

/// What was asked, and what was answered.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Asked {
    /// The question.
    pub ask: &'static str,
    /// The answer.
    pub answer: &'static str,
}

/// What was answered.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Told {
    /// The answer.
    pub answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    way: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: StateName,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum StateName {
    Enforced,
    Pending,
    NotEnforced,
}

/// Upper bounds of what putting rules in force takes, in seconds.
const SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sidewall_agent");
        let metrics = Self {
            batches: Counter::default(),
            repairs: Counter::default(),
            failures: Counter::default(),
            cni: Family::default(),
            starts: Family::default(),
            nri: Gauge::default(),
            installed: Gauge::default(),
            stale: Gauge::default(),
            steps: Family::default(),
            seconds: Histogram::new(SECONDS),
            pods: Family::default(),
            registry: Registry::default(),
        };
        registry.register("batches", "Batches of changes from the API server", metrics.batches.clone());
        registry.register(
            "repairs",
            "Rules that somebody had changed and that were put right",
            metrics.repairs.clone(),
        );
        registry.register("failures", "Rules that could not be put in force", metrics.failures.clone());
        registry.register("cni_requests", "What the CNI plugin asked and was told", metrics.cni.clone());
        registry.register("container_starts", "Starts that the runtime asked about", metrics.starts.clone());
        registry.register("nri_connected", "1 while NRI tells of containers before they start", metrics.nri.clone());
        registry.register(
            "cni_installed",
            "1 while the plugin is in the pods' network chain",
            metrics.installed.clone(),
        );
        registry.register("stale_kinds", "Kinds of objects of which no news come", metrics.stale.clone());
        registry.register("changes", "Changes of pods' rules, by how they were made", metrics.steps.clone());
        registry.register_with_unit("change", "What a change took", Unit::Seconds, metrics.seconds.clone());
        registry.register("pods", "Pods that policies select, by how far these are in force", metrics.pods.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Everything, in OpenMetrics' text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// A pod's rules were changed.
    pub fn stepped(&self, entry: &Entry, took: Duration) {
        let way = match entry {
            Entry::Adopted => "adopted",
            Entry::Loaded(_) | Entry::Replaced(_) => "loaded",
            Entry::Amended => "amended",
            Entry::Nothing => "nothing",
            Entry::Unloaded => "unloaded",
        };
        self.steps.get_or_create(&Way { way }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// So many pods have this state.
    pub fn pods(&self, counts: &BTreeMap<EnforcementState, i64>) {
        for (state, name) in [
            (EnforcementState::Enforced, StateName::Enforced),
            (EnforcementState::Pending, StateName::Pending),
            (EnforcementState::NotEnforced, StateName::NotEnforced),
        ] {
            self.pods.get_or_create(&State { state: name }).set(counts.get(&state).copied().unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::default();
        metrics.stepped(&Entry::Adopted, Duration::from_millis(3));
        metrics.pods(&BTreeMap::from([(EnforcementState::Enforced, 7)]));
        metrics.cni.get_or_create(&Asked { ask: "add", answer: "guarded" }).inc();
        let text = metrics.text();
        for line in [
            "sidewall_agent_changes_total{way=\"adopted\"} 1",
            "sidewall_agent_change_seconds_count 1",
            "sidewall_agent_pods{state=\"Enforced\"} 7",
            "sidewall_agent_pods{state=\"NotEnforced\"} 0",
            "sidewall_agent_cni_requests_total{ask=\"add\",answer=\"guarded\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
