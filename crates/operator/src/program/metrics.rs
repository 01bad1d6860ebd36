//! What is counted, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What is counted.
pub struct Metrics {
    registry: Registry,
    /// Reviews by path and what was decided.
    pub reviews: Family<Review, Counter>,
    /// What a review took.
    pub review_seconds: Family<Path, Histogram, fn() -> Histogram>,
    /// Writes to the API server by what was written and what came of it.
    pub writes: Family<Write, Counter>,
    /// Whether this operator leads.
    pub leads: Gauge,
    /// Kinds of which no news come.
    pub stale: Gauge,
    /// Objects known, by kind.
    pub known: Family<Kind, Gauge>,
    /// How often the SidecarProxies of a namespace were looked at, by what came of it.
    pub looks: Family<Outcome, Counter>,
    /// When the certificate ends that the webhooks serve with, in seconds since 1970.
    pub good_until: Gauge<f64, AtomicU64>,
}

/// A review.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Review {
    /// Where it was asked for.
    pub path: &'static str,
    /// What was decided.
    pub decision: &'static str,
}

/// Where a review was asked for.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Path {
    /// Where.
    pub path: &'static str,
}

/// A write.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Write {
    /// What was written.
    pub what: &'static str,
    /// What came of it.
    pub outcome: &'static str,
}

/// A kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Kind {
    /// Its plural name.
    pub kind: &'static str,
}

/// What came of something.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    /// What.
    pub outcome: &'static str,
}

/// Upper bounds of what a review takes, in seconds.
const SECONDS: [f64; 10] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sidewall_operator");
        let reviews = Family::default();
        registry.register("reviews", "Reviews by path and decision", Family::clone(&reviews));
        let review_seconds: Family<Path, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(SECONDS));
        let help = "What a review took, with what had to be asked and written before the answer";
        registry.register_with_unit("review_duration", help, Unit::Seconds, review_seconds.clone());
        let writes = Family::default();
        registry.register("writes", "Writes to the API server by what and outcome", Family::clone(&writes));
        let leads = Gauge::default();
        registry.register("leads", "Whether this operator leads: the one that writes", Gauge::clone(&leads));
        let stale = Gauge::default();
        registry.register("stale_kinds", "Kinds of which no news come", Gauge::clone(&stale));
        let known = Family::default();
        registry.register("known_objects", "Objects known, by kind", Family::clone(&known));
        let looks = Family::default();
        registry.register("looks", "Looks at the SidecarProxies of a namespace, by outcome", Family::clone(&looks));
        let good_until = Gauge::default();
        let help = "When the certificate of the webhooks ends, in seconds since 1970";
        registry.register("webhook_certificate_not_after_timestamp_seconds", help, Gauge::clone(&good_until));
        Self { registry, reviews, review_seconds, writes, leads, stale, known, looks, good_until }
    }
}

impl Metrics {
    /// A review that is over.
    pub fn review(&self, path: &'static str, decision: &'static str, took: Duration) {
        self.reviews.get_or_create(&Review { path, decision }).inc();
        self.review_seconds.get_or_create(&Path { path }).observe(took.as_secs_f64());
    }

    /// A write that is over.
    pub fn write<T, E>(&self, what: &'static str, result: &Result<T, E>) {
        let outcome = if result.is_ok() { "done" } else { "failed" };
        self.writes.get_or_create(&Write { what, outcome }).inc();
    }

    /// All of it, as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_open_metrics() {
        let metrics = Metrics::default();
        metrics.review("/inject", "patched", Duration::from_millis(3));
        metrics.write("configmap", &Ok::<(), ()>(()));
        metrics.good_until.set(12.0);
        let text = metrics.text();
        for line in [
            "sidewall_operator_reviews_total{path=\"/inject\",decision=\"patched\"} 1",
            "sidewall_operator_review_duration_seconds_count{path=\"/inject\"} 1",
            "sidewall_operator_writes_total{what=\"configmap\",outcome=\"done\"} 1",
            "sidewall_operator_leads 0",
            "sidewall_operator_webhook_certificate_not_after_timestamp_seconds 12.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|at| at == line), "{line}\nin\n{text}");
        }
    }
}
