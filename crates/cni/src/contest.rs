//! When another installer keeps writing its file anew without us.
//!
//! Some write their file whenever it differs from what they want, and so do we: without a pause both would write for
//! ever. While our plugin is missing, pods start without their guard, so that the pause is short; that it is needed at
//! all is what people must be told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many times a file is put right at once: installers write theirs a few times when they start.
pub const AT_ONCE: usize = 5;
/// The time in which these are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The pause after each further time.
pub const PAUSE: Duration = Duration::from_secs(1);

/// What was put right lately.
#[derive(Clone, Debug, Default)]
pub struct Contest {
    times: VecDeque<Instant>,
}

impl Contest {
    /// A plan was carried out that had something to change.
    pub fn changed(&mut self, now: Instant) {
        self.forget(now);
        self.times.push_back(now);
        // What is longer ago than the last few is not asked for.
        while self.times.len() > AT_ONCE {
            self.times.pop_front();
        }
    }

    /// How long to wait before the next plan is carried out; zero for at once.
    pub fn wait(&mut self, now: Instant) -> Duration {
        if !self.is_contested(now) {
            return Duration::ZERO;
        }
        self.times.back().map_or(Duration::ZERO, |last| (*last + PAUSE).saturating_duration_since(now))
    }

    /// Whether somebody is to be told that another installer takes our plugin away again and again.
    pub fn is_contested(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.times.len() >= AT_ONCE
    }

    fn forget(&mut self, now: Instant) {
        while self.times.front().is_some_and(|first| now.saturating_duration_since(*first) >= WINDOW) {
            self.times.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_changes_are_made_at_once_and_more_with_a_pause() {
        let mut contest = Contest::default();
        let mut now = Instant::now();
        for _ in 0..AT_ONCE {
            assert_eq!(contest.wait(now), Duration::ZERO);
            contest.changed(now);
        }
        assert!(contest.is_contested(now));
        for _ in 0..100 {
            assert_eq!(contest.wait(now), PAUSE);
            assert_eq!(contest.wait(now + PAUSE / 4), PAUSE - PAUSE / 4);
            now += PAUSE;
            assert_eq!(contest.wait(now), Duration::ZERO);
            contest.changed(now);
            assert!(contest.times.len() <= AT_ONCE);
        }
        now += WINDOW;
        assert!(!contest.is_contested(now));
        assert_eq!(contest.wait(now), Duration::ZERO);
    }
}
