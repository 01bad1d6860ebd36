//! Which of several overlapping ranges comes first: what an interval map holds.

use crate::ranges::Ranges;
use std::collections::{BTreeMap, BTreeSet};

/// Parts overlapping ranges into disjoint ones, ascending, each with all that cover it. `covers` are numbered by their
/// place in the list; neighbours that the same ones cover are one.
pub fn parts<'a>(covers: impl IntoIterator<Item = &'a Ranges>) -> Vec<(u128, u128, BTreeSet<usize>)> {
    sweep(covers, Clone::clone)
}

/// Parts overlapping ranges into disjoint ones, ascending, each with the first that covers it.
pub fn firsts<'a>(covers: impl IntoIterator<Item = &'a Ranges>) -> Vec<(u128, u128, usize)> {
    sweep(covers, |open| open.first().copied().unwrap_or_default())
}

/// How many ranges cover each of the [`parts`], together: what these would hold.
pub fn depth<'a>(covers: impl IntoIterator<Item = &'a Ranges>) -> usize {
    let mut borders: BTreeMap<u128, (usize, usize)> = BTreeMap::new();
    for (first, last) in covers.into_iter().flat_map(Ranges::iter) {
        borders.entry(first).or_default().0 += 1;
        if let Some(after) = last.checked_add(1) {
            borders.entry(after).or_default().1 += 1;
        }
    }
    let open = borders.values().scan(0_usize, |open, (begin, ended)| {
        *open = *open + begin - ended;
        Some(*open)
    });
    open.sum()
}

fn sweep<'a, T: PartialEq>(
    covers: impl IntoIterator<Item = &'a Ranges>,
    choose: impl Fn(&BTreeSet<usize>) -> T,
) -> Vec<(u128, u128, T)> {
    // What begins at a number, and what has ended before it.
    let mut borders: BTreeMap<u128, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (index, ranges) in covers.into_iter().enumerate() {
        for (first, last) in ranges.iter() {
            borders.entry(first).or_default().0.push(index);
            if let Some(after) = last.checked_add(1) {
                borders.entry(after).or_default().1.push(index);
            }
        }
    }
    let mut open = BTreeSet::new();
    let mut parts: Vec<(u128, u128, T)> = Vec::new();
    let mut borders = borders.into_iter().peekable();
    while let Some((first, (begins, ended))) = borders.next() {
        for index in ended {
            open.remove(&index);
        }
        open.extend(begins);
        if open.is_empty() {
            continue;
        }
        let last = borders.peek().map_or(u128::MAX, |(next, _)| next - 1);
        let chosen = choose(&open);
        match parts.last_mut() {
            Some(before) if before.2 == chosen && before.1.checked_add(1) == Some(first) => before.1 = last,
            _ => parts.push((first, last, chosen)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Ranges> {
        proptest::collection::vec((0u128..60, 0u128..12), 0..6)
            .prop_map(|pairs| pairs.into_iter().map(|(first, length)| (first, first + length)).collect())
    }

    proptest! {
        #[test]
        fn every_number_has_those_that_cover_it(covers in proptest::collection::vec(ranges(), 0..6)) {
            let (parts, firsts) = (parts(&covers), firsts(&covers));
            for number in 0..80 {
                let of: BTreeSet<usize> = covers.iter().enumerate().filter(|(_, c)| c.contains(number)).map(|(i, _)| i).collect();
                let part = parts.iter().find(|part| part.0 <= number && number <= part.1);
                let first = firsts.iter().find(|part| part.0 <= number && number <= part.1);
                prop_assert_eq!(part.map(|part| part.2.clone()).unwrap_or_default(), of.clone());
                prop_assert_eq!(first.map(|part| part.2), of.first().copied());
            }
            prop_assert_eq!(depth(&covers), parts.iter().map(|part| part.2.len()).sum::<usize>());
            prop_assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0));
            prop_assert!(firsts.windows(2).all(|pair| pair[0].1 < pair[1].0 && (pair[0].1 + 1 < pair[1].0 || pair[0].2 != pair[1].2)));
        }
    }

    #[test]
    fn the_greatest_number_ends_a_range() {
        let all = Ranges::of(0, u128::MAX);
        let one = Ranges::of(u128::MAX, u128::MAX);
        assert_eq!(firsts([&one, &all]), [(0, u128::MAX - 1, 1), (u128::MAX, u128::MAX, 0)]);
        assert_eq!(depth([&one, &all]), 3);
    }
}
