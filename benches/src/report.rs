//! Rows: what was measured, told as a table and as JSON.

use crate::stats::{self, Estimate};
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::Path;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// What the ratio, or where there is no peer our own value, should at most be.
    pub target: Option<f64>,
    /// Our own median.
    pub ours: f64,
    /// The median of what we are compared with.
    pub peer: Option<f64>,
    /// The median of the pairs' ratios: what ours costs, in terms of what the peer costs. 1 is the same, less is better.
    pub ratio: Option<f64>,
    /// What `ours` and `peer` are counted in.
    pub unit: &'static str,
    /// The lower end of the 95 % interval of the ratio, or where there is no peer of our own median.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many pairs, or where there is no peer measurements.
    pub pairs: usize,
    /// Whether the target is met.
    pub outcome: Option<Outcome>,
}

/// Whether a target is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The median is within the target.
    Met,
    /// The median is beyond the target, but its interval is not all beyond it.
    Unclear,
    /// The whole interval is beyond the target.
    Missed,
}

/// One measurement: how much was done, and what it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How many operations.
    pub count: f64,
    /// Seconds that they took, of whatever clock the benchmark uses.
    pub seconds: f64,
}

impl Sample {
    fn cost(self) -> f64 {
        self.seconds / self.count
    }

    fn rate(self) -> f64 {
        self.count / self.seconds
    }
}

impl Row {
    /// A row of rates (operations a second) from pairs of ours and the peer's. The ratio is that of the costs.
    pub fn rates(name: impl Into<String>, unit: &'static str, target: Option<f64>, pairs: &[(Sample, Sample)]) -> Self {
        let of = |value: fn(Sample) -> f64| -> (Vec<f64>, Vec<f64>) {
            pairs.iter().map(|(ours, peer)| (value(*ours), value(*peer))).unzip()
        };
        Self::compared(name.into(), unit, target, of(Sample::rate), of(Sample::cost))
    }

    /// A row of costs (milliseconds an operation) from pairs of ours and the peer's.
    pub fn costs(name: impl Into<String>, target: Option<f64>, pairs: &[(Sample, Sample)]) -> Self {
        let (ours, peer): (Vec<f64>, Vec<f64>) =
            pairs.iter().map(|(ours, peer)| (ours.cost() * 1e3, peer.cost() * 1e3)).unzip();
        Self::compared(name.into(), "ms", target, (ours.clone(), peer.clone()), (ours, peer))
    }

    /// A row of our own alone.
    pub fn alone(name: impl Into<String>, unit: &'static str, target: Option<f64>, values: &[f64]) -> Self {
        let estimate = stats::estimate(values);
        Self {
            name: name.into(),
            target,
            ours: estimate.median,
            peer: None,
            ratio: None,
            unit,
            low: estimate.low,
            high: estimate.high,
            pairs: values.len(),
            outcome: target.map(|target| Outcome::of(estimate, target)),
        }
    }

    fn compared(
        name: String,
        unit: &'static str,
        target: Option<f64>,
        (ours, peer): (Vec<f64>, Vec<f64>),
        (our_costs, peer_costs): (Vec<f64>, Vec<f64>),
    ) -> Self {
        let ratios: Vec<f64> = our_costs.iter().zip(&peer_costs).map(|(ours, peer)| ours / peer).collect();
        let estimate = stats::estimate(&ratios);
        Self {
            name,
            target,
            ours: stats::median(&ours),
            peer: Some(stats::median(&peer)),
            ratio: Some(estimate.median),
            unit,
            low: estimate.low,
            high: estimate.high,
            pairs: ratios.len(),
            outcome: target.map(|target| Outcome::of(estimate, target)),
        }
    }
}

impl Outcome {
    fn of(estimate: Estimate, target: f64) -> Self {
        if estimate.median <= target {
            Self::Met
        } else if estimate.low > target {
            Self::Missed
        } else {
            Self::Unclear
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = match self.ratio {
            Some(ratio) => format!("×{ratio:.3}  [{:.3}, {:.3}]", self.low, self.high),
            None => format!("{:.3} {}  [{:.3}, {:.3}]", self.ours, self.unit, self.low, self.high),
        };
        let target = match (self.target, self.outcome) {
            (Some(target), Some(outcome)) => format!("≤ {target} {}", format!("{outcome:?}").to_lowercase()),
            _ => String::new(),
        };
        write!(f, "{:<94} {ratio:<30} {target:<14}", self.name)?;
        match self.peer {
            Some(peer) => write!(f, " {:>10.2} | {peer:>10.2} {}", self.ours, self.unit),
            None => Ok(()),
        }
    }
}

/// Writes the rows as JSON.
///
/// # Errors
/// The file system's.
pub fn write(rows: &[Row], to: &Path) -> io::Result<()> {
    #[derive(Serialize)]
    struct Rows<'a> {
        rows: &'a [Row],
    }
    let mut text = serde_json::to_string_pretty(&Rows { rows })?;
    text.push('\n');
    std::fs::write(to, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: f64, seconds: f64) -> Sample {
        Sample { count, seconds }
    }

    #[test]
    fn a_ratio_is_of_costs_whatever_the_unit() {
        let pairs = vec![(sample(100.0, 2.0), sample(100.0, 1.0)); 3];
        let rates = Row::rates("r", "connects per CPU second", Some(1.25), &pairs);
        assert_eq!((rates.ours, rates.peer, rates.ratio), (50.0, Some(100.0), Some(2.0)));
        assert_eq!(rates.outcome, Some(Outcome::Missed));
        let costs = Row::costs("c", Some(2.0), &pairs);
        assert_eq!((costs.ours, costs.peer, costs.ratio), (20.0, Some(10.0), Some(2.0)));
        assert_eq!(costs.outcome, Some(Outcome::Met));
    }

    #[test]
    fn a_target_is_missed_only_where_the_whole_interval_is_beyond_it() {
        let estimate = |low, median, high| Estimate { median, low, high };
        assert_eq!(Outcome::of(estimate(1.0, 1.1, 1.3), 1.2), Outcome::Met);
        assert_eq!(Outcome::of(estimate(1.1, 1.25, 1.4), 1.2), Outcome::Unclear);
        assert_eq!(Outcome::of(estimate(1.21, 1.25, 1.4), 1.2), Outcome::Missed);
    }

    #[test]
    fn rows_alone_are_judged_by_their_own_value() {
        let row = Row::alone("a", "ms", Some(2.0), &[1.0, 1.5, 1.7]);
        assert_eq!((row.ours, row.peer, row.ratio, row.outcome), (1.5, None, None, Some(Outcome::Met)));
    }
}
