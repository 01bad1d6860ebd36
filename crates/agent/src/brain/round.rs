//! Whose turn it is to be looked at without any notice: every pod once in a while, and never all at one moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// A round through everything that is there, again and again.
#[derive(Debug)]
pub(super) struct Round<K> {
    /// When it began.
    began: Instant,
    /// How many have had their turn in it.
    done: usize,
    /// The last of them.
    last: Option<K>,
}

impl<K: Clone + Ord> Round<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, done: 0, last: None }
    }

    /// Those whose turn has come since this was asked last, in the order of their keys. A round takes `every`; what comes
    /// meanwhile has its turn in this round or the next, and nobody has it twice in one.
    pub(super) fn due<V>(&mut self, now: Instant, every: Duration, all: &BTreeMap<K, V>) -> Vec<K> {
        let part = now.saturating_duration_since(self.began).as_secs_f64() / every.as_secs_f64();
        let ends = part >= 1.0;
        let wanted = if ends { usize::MAX } else { (part * all.len() as f64).ceil() as usize };
        let missing = wanted.saturating_sub(self.done);
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let due: Vec<K> = all.range((after, Bound::Unbounded)).take(missing).map(|(key, _)| key.clone()).collect();
        self.done += due.len();
        if let Some(last) = due.last() {
            self.last = Some(last.clone());
        }
        if ends {
            *self = Self::new(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    fn pods(count: u32) -> BTreeMap<u32, ()> {
        (0..count).map(|pod| (pod, ())).collect()
    }

    #[test]
    fn everybody_has_one_turn_in_each_round_and_not_all_at_once() {
        let (start, all) = (Instant::now(), pods(250));
        let mut round = Round::new(start);
        let mut turns: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for tick in 1..=180 {
            let due = round.due(start + Duration::from_millis(500) * tick, EVERY, &all);
            assert!(due.len() <= 5, "{} at tick {tick}", due.len());
            due.into_iter().for_each(|pod| turns.entry(pod).or_default().push(tick));
        }
        assert_eq!(turns.len(), 250);
        for (pod, ticks) in turns {
            assert_eq!(ticks.len(), 3, "{pod}: {ticks:?}");
            assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] <= 62), "{pod}: {ticks:?}");
        }
    }

    #[test]
    fn who_comes_and_goes_hinders_nobody() {
        let (start, mut all) = (Instant::now(), pods(10));
        let mut round = Round::new(start);
        let half = round.due(start + EVERY / 2, EVERY, &all);
        assert_eq!(half, [0, 1, 2, 3, 4]);
        all.retain(|pod, ()| *pod >= 5);
        all.insert(20, ());
        let rest = round.due(start + EVERY, EVERY, &all);
        assert_eq!(rest, [5, 6, 7, 8, 9, 20]);
        let next = round.due(start + EVERY * 3, EVERY, &all);
        assert_eq!(next, [5, 6, 7, 8, 9, 20]);
    }

    #[test]
    fn nobody_is_there() {
        let start = Instant::now();
        let mut round = Round::new(start);
        assert_eq!(round.due(start + EVERY * 2, EVERY, &pods(0)), Vec::<u32>::new());
        assert_eq!(round.due(start + EVERY * 3, EVERY, &pods(2)), [0, 1]);
    }
}
