//! The keys of sets.

use smallvec::SmallVec;
use std::fmt;
use std::ops::Deref;

/// A key: a value for each kind of its set's key. As a slice it has its values; keys are ordered as those are.
///
/// A set of peers has tens of thousands, made anew whenever one comes or goes: up to three values need no memory of
/// their own.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmallVec<[u128; 3]>);

impl Deref for Key {
    type Target = [u128];

    fn deref(&self) -> &[u128] {
        &self.0
    }
}

impl From<u128> for Key {
    fn from(value: u128) -> Self {
        Self::from([value])
    }
}

impl<const N: usize> From<[u128; N]> for Key {
    fn from(values: [u128; N]) -> Self {
        Self(SmallVec::from_slice(&values))
    }
}

impl From<&[u128]> for Key {
    fn from(values: &[u128]) -> Self {
        Self(SmallVec::from_slice(values))
    }
}

impl From<Vec<u128>> for Key {
    fn from(values: Vec<u128>) -> Self {
        Self::from(values.as_slice())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_their_values_however_many() {
        for values in [vec![], vec![7], vec![1, 2, 3], vec![1, 2, 3, 4, 5]] {
            let key = Key::from(values.clone());
            assert_eq!((&*key, format!("{key:?}")), (values.as_slice(), format!("{values:?}")));
        }
        assert!(Key::from([1, 9]) < Key::from([2, 0]) && Key::from([1]) < Key::from([1, 0]));
        assert!(Key::from([1, 2, 3, 4]) < Key::from([2]) && Key::from([1, 2, 3]) < Key::from([1, 2, 3, 4]));
    }
}
