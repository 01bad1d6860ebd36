//! How many Events are written: pure, told what time it is.

use super::Regarding;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many Events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many of all objects together at once.
    pub burst: u32,
    /// After that, one in this time.
    pub every: Duration,
    /// How many of one object at once.
    pub object_burst: u32,
    /// After that, one of it in this time.
    pub object_every: Duration,
    /// How long the same thing is not said again.
    pub window: Duration,
    /// Of how many things and objects is remembered what was said. The oldest are forgotten.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            burst: 25,
            every: Duration::from_secs(2),
            object_burst: 5,
            object_every: Duration::from_secs(60),
            window: Duration::from_secs(600),
            remembered: 2048,
        }
    }
}

/// What is done about a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is written; so often it has been said.
    Write { count: i32 },
    /// It has been written a short while ago.
    Hold,
    /// There are too many.
    Drop,
}

#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    all: Bucket,
    objects: HashMap<Regarding, Bucket>,
    said: HashMap<String, Said>,
}

#[derive(Debug)]
struct Said {
    count: i32,
    written: Instant,
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: f64::from(burst), at: now }
    }

    fn refill(&mut self, burst: u32, every: Duration, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed / every.as_secs_f64().max(f64::EPSILON)).min(f64::from(burst));
        self.at = now;
        self.tokens >= 1.0
    }
}

impl Limiter {
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, all: Bucket::full(limits.burst, now), objects: HashMap::new(), said: HashMap::new() }
    }

    pub fn decide(&mut self, now: Instant, name: &str, object: &Regarding) -> Decision {
        if let Some(said) = self.said.get_mut(name) {
            said.count = said.count.saturating_add(1);
            if now.saturating_duration_since(said.written) < self.limits.window {
                return Decision::Hold;
            }
        }
        let Limits { burst, every, object_burst, object_every, remembered, .. } = self.limits;
        if self.objects.len() >= remembered && !self.objects.contains_key(object) {
            forget_oldest(&mut self.objects, |bucket| bucket.at);
        }
        let own = self.objects.entry(object.clone()).or_insert_with(|| Bucket::full(object_burst, now));
        // Both are refilled before either is taken from.
        let (own_has, all_has) = (own.refill(object_burst, object_every, now), self.all.refill(burst, every, now));
        if !own_has || !all_has {
            return Decision::Drop;
        }
        own.tokens -= 1.0;
        self.all.tokens -= 1.0;
        if self.said.len() >= remembered && !self.said.contains_key(name) {
            forget_oldest(&mut self.said, |said| said.written);
        }
        let said = self.said.entry(name.to_owned()).or_insert(Said { count: 1, written: now });
        said.written = now;
        Decision::Write { count: said.count }
    }

    /// How much is remembered: things said, and objects.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.said.len() + self.objects.len()
    }

    /// It has not been written after all.
    pub fn forget(&mut self, name: &str) {
        self.said.remove(name);
    }
}

fn forget_oldest<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, at: impl Fn(&V) -> Instant) {
    // An eighth at a time, so that the search for them is rare.
    let mut ages: Vec<(Instant, K)> = map.iter().map(|(key, value)| (at(value), key.clone())).collect();
    ages.sort_by_key(|(at, _)| *at);
    for (_, key) in ages.iter().take(map.len() / 8 + 1) {
        map.remove(key);
    }
}
