//! What is told to Prometheus: requests, errors and durations of each listener, what came of authentication, the files
//! that are watched, the certificates' end, the kubelet's probes. Nothing of it is a secret, a path or a user's name.

mod counters;
mod listeners;

pub use counters::{BOUNDS, CaptureCounters, Count, Counters, FAILURES, OUTCOMES, Sums};
pub use listeners::ListenerCounters;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::phase::Phase;
use crate::probe::ProbeCounts;
use crate::reload::ReloadCounts;
use crate::version::ConfigHash;

/// Everything that is counted under one version of the configuration, wherever that is. What was counted before goes on.
#[derive(Debug)]
pub struct Numbers {
    /// The version of the configuration in force. None before the first.
    pub configuration: Option<ConfigHash>,
    /// The listeners' ports, and for each worker, what it counts there.
    pub listeners: Vec<(u16, Vec<Arc<Counters>>)>,
    /// For each worker, what it counts at the capture port. Empty if nothing is captured.
    pub captured: Vec<Arc<CaptureCounters>>,
    /// The files that are watched.
    pub reloads: Arc<ReloadCounts>,
    /// The listeners with TLS, and when the first certificate of their chain ends, in seconds since 1970.
    pub certificates: Vec<(u16, Arc<AtomicI64>)>,
    /// The kubelet's probes.
    pub probes: Option<Arc<ProbeCounts>>,
    /// Whether the proxy serves.
    pub phase: watch::Receiver<Phase>,
}

/// The text of everything that is counted.
#[derive(Debug)]
pub struct Metrics(Registry);

/// The numbers of the version in force.
#[derive(Debug)]
struct Current(Arc<ArcSwap<Numbers>>);

impl Metrics {
    /// Tells these numbers from now on, whatever they are when it is asked.
    pub fn new(numbers: Arc<ArcSwap<Numbers>>) -> Self {
        let mut registry = Registry::with_prefix("sidewall_proxy");
        registry.register_collector(Box::new(Current(numbers)));
        Self(registry)
    }

    /// Everything, in OpenMetrics' text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0);
        text
    }
}

/// One number with its labels.
type Row = (Vec<(&'static str, String)>, u64);

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    (name, help): (&str, &str),
    rows: impl IntoIterator<Item = Row>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        if labels.is_empty() && matches!(kind, MetricType::Gauge) {
            // Without braces, which is how everybody else writes it.
            metric.encode_gauge(&value)?;
            continue;
        }
        let mut one = metric.encode_family(&labels)?;
        match kind {
            MetricType::Gauge => one.encode_gauge(&value)?,
            _ => one.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
        }
    }
    Ok(())
}

impl Collector for Current {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.load().tell(encoder)
    }
}

impl Numbers {
    fn tell(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        const COUNTER: MetricType = MetricType::Counter;
        const GAUGE: MetricType = MetricType::Gauge;
        let all: Vec<(String, Sums)> = self
            .listeners
            .iter()
            .map(|(port, workers)| (port.to_string(), Sums::of(workers.iter().map(|counters| &**counters))))
            .collect();
        let of = |port: &String| vec![("listener", port.clone())];
        let each =
            |value: fn(&Sums) -> u64| -> Vec<Row> { all.iter().map(|(port, sums)| (of(port), value(sums))).collect() };
        let requests = all.iter().flat_map(|(port, sums)| {
            sums.statuses
                .iter()
                .map(|(status, count)| (vec![("listener", port.clone()), ("status", status.to_string())], *count))
        });
        family(&mut encoder, COUNTER, ("requests", "Requests by their answer's status; 0 is none"), requests)?;
        self.durations(&mut encoder, &all)?;
        let outcomes = all.iter().flat_map(|(port, sums)| {
            OUTCOMES.iter().zip(sums.outcomes).map(|(outcome, count)| {
                let labels = [("listener", port.as_str()), ("method", "basic"), ("outcome", outcome)];
                (labels.map(|(name, value)| (name, value.to_owned())).to_vec(), count)
            })
        });
        let help = "Requests that were asked who they come from, by what came of it";
        family(&mut encoder, COUNTER, ("authentications", help), outcomes)?;
        let failures = all.iter().flat_map(|(port, sums)| {
            FAILURES
                .iter()
                .zip(sums.failures)
                .map(|(reason, count)| (vec![("listener", port.clone()), ("reason", (*reason).to_owned())], count))
        });
        family(&mut encoder, COUNTER, ("upstream_failures", "Requests that the application did not answer"), failures)?;
        for (name, help, value) in [
            ("request_body_bytes", "Bytes of requests' bodies", (|sums| sums.bytes_in) as fn(&Sums) -> u64),
            ("response_body_bytes", "Bytes of answers' bodies", |sums| sums.bytes_out),
            ("connections", "Clients' connections", |sums| sums.opened),
            ("tls_handshake_failures", "TLS handshakes that did not come to their end", |sums| sums.handshakes_failed),
        ] {
            family(&mut encoder, COUNTER, (name, help), each(value))?;
        }
        family(&mut encoder, GAUGE, ("open_connections", "Clients' connections now"), each(|sums| sums.open))?;
        self.files(&mut encoder)?;
        let help = "Which version of the configuration is in force: the beginning of its file's SHA-256";
        let version = self.configuration.iter().map(|hash| (vec![("hash", hash.to_string())], 1));
        family(&mut encoder, GAUGE, ("configuration_info", help), version)?;
        self.kubelet(&mut encoder)?;
        let ready = u64::from(*self.phase.borrow() == Phase::Serving);
        family(&mut encoder, GAUGE, ("ready", "1 until the signal to stop"), [(Vec::new(), ready)])
    }
}

impl Numbers {
    fn durations(&self, encoder: &mut DescriptorEncoder<'_>, all: &[(String, Sums)]) -> fmt::Result {
        let help = "From the head of a request to the end of its answer";
        let mut metric =
            encoder.encode_descriptor("request_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (port, sums) in all {
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(sums.durations).collect();
            let count = sums.durations.iter().sum();
            let labels = [("listener", port.as_str())];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                sums.took.as_secs_f64(),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn files(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let watched = self.reloads.all();
        let reloads = watched.iter().flat_map(|(what, counts)| {
            let row = |outcome: &str, count| (vec![("what", what.clone()), ("outcome", outcome.to_owned())], count);
            [row("applied", counts.applied()), row("refused", counts.refused())]
        });
        let help = "New versions of files that were put in force or refused";
        family(encoder, MetricType::Counter, ("reloads", help), reloads)?;
        let stale = watched.iter().map(|(what, counts)| (vec![("what", what.clone())], u64::from(counts.is_stale())));
        let help = "1 while the newest version of a file is refused and an older one in force";
        family(encoder, MetricType::Gauge, ("reload_stale", help), stale)?;
        let help = "When the first certificate of the chain ends, in seconds since 1970";
        let name = "tls_certificate_not_after_timestamp";
        let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        let mut first: BTreeMap<u16, i64> = BTreeMap::new();
        for (port, ends) in &self.certificates {
            let ends = ends.load(Ordering::Relaxed);
            if ends != i64::MIN {
                // A port may have a listener on each of several addresses.
                first.entry(*port).and_modify(|first| *first = ends.min(*first)).or_insert(ends);
            }
        }
        for (port, ends) in first {
            let labels = [("listener", port.to_string())];
            metric.encode_family(&labels)?.encode_gauge(&ends)?;
        }
        Ok(())
    }

    fn kubelet(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.captured.is_empty() {
            let (taken, refused) = self.captured.iter().fold((0, 0), |(taken, refused), worker| {
                let (t, r) = worker.sums();
                (taken + t, refused + r)
            });
            let row = |outcome: &str, count| (vec![("outcome", outcome.to_owned())], count);
            let rows = [row("taken", taken), row("refused", refused)];
            let help = "Connections at the capture port";
            family(encoder, MetricType::Counter, ("captured_connections", help), rows)?;
        }
        let Some(probes) = &self.probes else { return Ok(()) };
        let help = "The kubelet's probes and hooks, by what came of them";
        let rows = probes.all().map(|(container, occasion, outcome, count)| {
            let labels = [("container", container), ("occasion", occasion), ("outcome", outcome)];
            (labels.map(|(name, value)| (name, value.to_owned())).to_vec(), count)
        });
        family(encoder, MetricType::Counter, ("probes", help), rows)
    }
}
