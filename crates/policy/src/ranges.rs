//! Sets of numbers as ranges: the one arithmetic under addresses and ports.

/// A set of numbers, kept as ascending ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// The empty set.
    pub const EMPTY: Self = Self(Vec::new());

    /// The numbers from `first` to `last`, both within; empty where `first > last`.
    pub fn of(first: u128, last: u128) -> Self {
        if first <= last { Self(vec![(first, last)]) } else { Self::EMPTY }
    }

    /// The ranges, ascending, each with its first and last number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u128, u128)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is no number in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|range| range.0 <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Whether every number of the other set is in it.
    pub fn covers(&self, other: &Self) -> bool {
        other.subtract(self).is_empty()
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.0.iter().copied().peekable();
        for (mut first, last) in self.iter() {
            let mut rest = true;
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            while let Some(&(from, to)) = holes.peek() {
                if from > last {
                    break;
                }
                if from > first {
                    left.push((first, from - 1));
                }
                if to >= last {
                    rest = false;
                    break;
                }
                first = to + 1;
                holes.next();
            }
            if rest {
                left.push((first, last));
            }
        }
        Self(left)
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.subtract(&self.subtract(other))
    }
}

impl FromIterator<(u128, u128)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u128, u128)>>(ranges: I) -> Self {
        let mut sorted: Vec<(u128, u128)> = ranges.into_iter().filter(|range| range.0 <= range.1).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Ranges> {
        proptest::collection::vec((0u128..60, 0u128..12), 0..8)
            .prop_map(|pairs| pairs.into_iter().map(|(first, length)| (first, first + length)).collect())
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_sets(a in ranges(), b in ranges()) {
            for number in 0..80 {
                let (in_a, in_b) = (a.contains(number), b.contains(number));
                prop_assert_eq!(a.union(&b).contains(number), in_a || in_b);
                prop_assert_eq!(a.subtract(&b).contains(number), in_a && !in_b);
                prop_assert_eq!(a.intersect(&b).contains(number), in_a && in_b);
            }
        }

        #[test]
        fn ranges_neither_overlap_nor_touch(a in ranges(), b in ranges()) {
            for set in [a.union(&b), a.subtract(&b), a.intersect(&b)] {
                let all: Vec<_> = set.iter().collect();
                prop_assert!(all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
        }
    }

    #[test]
    fn the_greatest_number_is_a_number_like_others() {
        let all = Ranges::of(0, u128::MAX);
        assert!(all.subtract(&Ranges::of(u128::MAX, u128::MAX)).contains(u128::MAX - 1));
        assert!(all.subtract(&all).is_empty());
        assert_eq!(all.union(&Ranges::of(u128::MAX, u128::MAX)), all);
    }
}
