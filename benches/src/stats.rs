//! Medians, and how far they can be trusted.

/// How many times the samples are drawn again for an interval.
const RESAMPLES: usize = 4000;
/// The part of all resamples that lies below the interval, and the part that lies above it.
const TAIL: f64 = 0.025;

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// The median of samples; not a number where there are none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    median_of(&mut sorted)
}

fn median_of(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => samples[middle],
        _ => (samples[middle - 1] + samples[middle]) / 2.0,
    }
}

/// The median of samples with its bootstrap 95 % interval (percentile method: the median of as many samples drawn with
/// replacement, over and over). The same samples give the same interval.
pub fn estimate(samples: &[f64]) -> Estimate {
    let mut state = 0x51de_3a11;
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut drawn: Vec<f64> = samples.iter().map(|_| samples[below(&mut state, samples.len())]).collect();
            median_of(&mut drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    // Both are places in the list: 0.025 and 0.975 of its length.
    let tail = (RESAMPLES as f64 * TAIL) as usize;
    Estimate { median: median(samples), low: medians[tail], high: medians[RESAMPLES - 1 - tail] }
}

/// A number below `bound`, from a SplitMix64 sequence (Steele, Lea, Flood 2014).
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // The bound is the number of samples, far below 2^64: no number is noticeably likelier.
    (mixed % bound as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn an_interval_is_around_its_median_and_the_same_every_time() {
        let samples: Vec<f64> = (0..30).map(|i| 1.0 + f64::from(i % 7) / 100.0).collect();
        let first = estimate(&samples);
        assert!(first.low <= first.median && first.median <= first.high);
        assert!(first.low >= 1.0 && first.high <= 1.06);
        assert_eq!(first, estimate(&samples));
    }

    #[test]
    fn an_outlier_moves_neither_the_median_nor_the_interval_far() {
        let mut samples = vec![1.0; 29];
        samples.push(100.0);
        assert_eq!(estimate(&samples), Estimate { median: 1.0, low: 1.0, high: 1.0 });
    }

    #[test]
    fn wide_samples_give_a_wide_interval() {
        let samples: Vec<f64> = (0..24).map(f64::from).collect();
        let estimate = estimate(&samples);
        assert!(estimate.high - estimate.low > 4.0, "{estimate:?}");
    }
}
