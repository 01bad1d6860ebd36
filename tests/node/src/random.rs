//! Random choices that can be made again: a test prints the seed, and whoever names it gets the same choices.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that names the seed.
pub const SEED: &str = "SIDEWALL_SEED";

/// The seed of [`Random::usual`].
const USUAL: u64 = 20_261_122;

/// Random choices (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Those of the seed that [`SEED`] names, else of one that the clock gives. The seed is printed.
    pub fn seeded() -> Random {
        let named = env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_micros() as u64);
        let seed = named.unwrap_or_else(clock);
        println!("{SEED}={seed}");
        Random(seed)
    }

    /// As [`Random::seeded`], but always the same in a short run that names no seed: a change is not judged by luck.
    pub fn usual(long: bool) -> Random {
        if long || env::var_os(SEED).is_some() { Random::seeded() } else { Random(USUAL) }
    }

    /// Further choices that do not depend on how many are made here.
    pub fn split(&mut self) -> Random {
        Random(self.next())
    }

    /// Any number below `end`; zero where that is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or_default()
    }

    /// Any number from `start` on and below `end`.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end.saturating_sub(start))
    }

    /// Any of them.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(usize::try_from(self.below(all.len() as u64)).unwrap_or_default())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices() {
        let choices = |seed| (0..8).scan(Random(seed), |random, _| Some(random.between(10, 20))).collect::<Vec<_>>();
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
        assert!(choices(7).iter().all(|choice| (10..20).contains(choice)));
        assert_eq!(Random(1).of::<u8>(&[]), None);
    }
}
