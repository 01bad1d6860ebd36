//! What the walls judged and no message tells of: rules limit how many messages a decision writes.

/// Finds how many judgements were counted and never told, from the sum of the decisions' counters and the number of
/// messages.
///
/// The counters are ahead of the messages for as long as these lie in a queue. So each look compares what was counted at
/// the look before with what has been told by now: it never says more than is missing, and what it says too late it says
/// at a later look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    counted: u64,
    said: u64,
}

impl Untold {
    /// How many more are missing than have been said to be. `counted` never goes down: whoever loads new rules adds up what
    /// the old ones counted.
    pub fn look(&mut self, counted: u64, told: u64) -> u64 {
        let missing = self.counted.saturating_sub(told);
        let more = missing.saturating_sub(self.said);
        self.said += more;
        self.counted = self.counted.max(counted);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_not_missing() {
        let mut untold = Untold::default();
        assert_eq!(untold.look(10, 0), 0, "they may all be in a queue");
        assert_eq!(untold.look(10, 10), 0);
        assert_eq!(untold.look(1000, 50), 0);
        assert_eq!(untold.look(1000, 50), 950);
        assert_eq!(untold.look(1100, 150), 0, "those are told");
        assert_eq!(untold.look(1100, 150), 0);
        assert_eq!(untold.look(1200, 150), 0);
        assert_eq!(untold.look(1200, 150), 100);
    }

    #[test]
    fn in_the_end_all_is_said() {
        let (mut untold, mut said, mut counted, mut told) = (Untold::default(), 0, 0, 0);
        for step in 0..100 {
            counted += step * 7 % 31;
            told = told.max(counted * 2 / 3);
            said += untold.look(counted, told);
            assert!(said + told <= counted);
        }
        said += untold.look(counted, told);
        assert_eq!(said + told, counted);
    }
}
