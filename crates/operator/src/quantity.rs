//! Kubernetes' quantities, as far as they are compared: `1Gi`, `1024Mi` and `1073741824` are one.
//!
//! The API server writes each in one form of its own, whatever form it was given. Whoever compares texts takes that for a change.

use std::fmt;

/// The longest text that is read, in octets. Nobody means a longer one.
const LONGEST: usize = 64;

/// Nanos of one.
const NANOS: i128 = 1_000_000_000;

/// The most that an amount with a binary suffix says: more is taken for that.
const BINARY_MAX: i128 = i64::MAX as i128 * NANOS;

/// An amount: in billionths, which is as fine as the API server has it.
///
/// It is read as `k8s.io/apimachinery/pkg/api/resource` reads it: a decimal number with a suffix out of `n u m k M G T P E`, out of
/// `Ki Mi Gi Ti Pi Ei`, or a power of ten as in `1e3`. What is finer is rounded away from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl Amount {
    /// Reads an amount. None where it is not one, or is larger than anything that there is.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = rest.split_at(digits(rest));
        let (part, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let scale = Scale::read(suffix)?;
        let part = part.trim_end_matches('0');
        let number = whole
            .bytes()
            .chain(part.bytes())
            .try_fold(0_i128, |number, digit| number.checked_mul(10)?.checked_add(i128::from(digit - b'0')))?;
        if number == 0 {
            return Some(Self(0));
        }
        let places = i32::try_from(part.len()).ok()?;
        let nanos = match scale {
            // As large as it gets, before the places are taken away again: nothing is lost on the way.
            Scale::Two(power) => {
                let nanos = number.checked_mul(1_i128.checked_shl(power)?)?.checked_mul(NANOS)?;
                ten(nanos, -places)?.min(BINARY_MAX)
            }
            Scale::Ten(power) => ten(number, power.checked_add(9)?.checked_sub(places)?)?,
        };
        Some(Self(if negative { -nanos } else { nanos }))
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}n", self.0)
    }
}

/// By what a number is multiplied.
enum Scale {
    Two(u32),
    Ten(i32),
}

impl Scale {
    fn read(suffix: &str) -> Option<Self> {
        let place = |list: &[&str]| list.iter().position(|known| *known == suffix);
        if let Some(at) = place(&["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]) {
            return Some(Self::Two(10 * (u32::try_from(at).ok()? + 1)));
        }
        if let Some(at) = place(&["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]) {
            return Some(Self::Ten(3 * (i32::try_from(at).ok()? - 3)));
        }
        let power = suffix.strip_prefix(['e', 'E'])?;
        let number = power.strip_prefix(['+', '-']).unwrap_or(power);
        // Rust reads more than Kubernetes does only where there is a sign twice.
        number.starts_with(|first: char| first.is_ascii_digit()).then(|| power.parse().ok().map(Self::Ten)).flatten()
    }
}

/// A positive number times a power of ten, rounded up. None where it is too large.
fn ten(number: i128, power: i32) -> Option<i128> {
    match u32::try_from(power) {
        Ok(power) => number.checked_mul(10_i128.checked_pow(power)?),
        // A divisor that is too large for its type is larger than the number, too.
        Err(_) => {
            Some(10_i128.checked_pow(power.unsigned_abs()).map_or(1, |by| number / by + i128::from(number % by > 0)))
        }
    }
}

/// Whether two quantities are one amount. What is none is only itself.
pub fn same(one: &str, other: &str) -> bool {
    one == other || Amount::read(one).is_some_and(|amount| Amount::read(other) == Some(amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_one_amount_are_the_same() {
        for forms in [
            &["1Gi", "1024Mi", "1048576Ki", "1073741824", "1.0Gi", "+1Gi", "01Gi", "1073741824000m"][..],
            &["500m", "0.5", ".5", "0.50", "500000u", "5e-1", "5E-1", "0.0005k"],
            &["1e3", "1k", "1000", "1E3", "1e+3", "1000.", "1.000k"],
            &["0", "0m", "-0", "0Ki", "0.00"],
            &["1n", "0.1n", "0.5n", "1e-12", "1e-30"],
            &["1E", "1e18", "1000P"],
            &["9223372036854775807Ki", "8Ei", "9Ei"],
            &["1.5Ki", "1536"],
            &["-1", "-1000m"],
        ] {
            for (one, other) in forms.iter().flat_map(|one| forms.iter().map(move |other| (one, other))) {
                assert!(same(one, other), "{one} {:?} {other} {:?}", Amount::read(one), Amount::read(other));
            }
        }
        for (one, other) in
            [("1Gi", "1G"), ("1m", "1M"), ("1", "1.000000001"), ("1", "-1"), ("1E", "1e1"), ("1k", "1Ki")]
        {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_none_is_only_itself() {
        for text in [
            "", ".", "1 Gi", "Gi", "1gi", "1K", "0x10", "1e", "1e+", "1e--3", "1e+-3", "--1", "1.2.3", "1_0", "NaN",
            "1e99",
        ] {
            assert_eq!(Amount::read(text), None, "{text}");
            assert!(same(text, text) && !same(text, "1"), "{text}");
        }
        assert_eq!(Amount::read(&"1".repeat(65)), None);
    }

    proptest! {
        #[test]
        fn a_suffix_is_as_good_as_the_number_that_it_says(number in 0..1_000_000_i64, power in 0..3_u32) {
            let binary = format!("{number}{}", ["Ki", "Mi", "Gi"][power as usize]);
            let all = number * 1024_i64.pow(power + 1);
            prop_assert!(same(&binary, &all.to_string()), "{} {}", binary, all);
            let decimal = format!("{number}{}", ["k", "M", "G"][power as usize]);
            let all = number * 1000_i64.pow(power + 1);
            prop_assert!(same(&decimal, &all.to_string()), "{} {}", decimal, all);
            let exponent = format!("{number}e{}", 3 * (power + 1));
            prop_assert!(same(&decimal, &exponent), "{} {}", decimal, exponent);
        }

        #[test]
        fn the_point_is_as_good_as_the_suffix(milli in 0..10_000_000_u64, zeros in 0..4_usize) {
            let point = format!("{}.{:03}{}", milli / 1000, milli % 1000, "0".repeat(zeros));
            for other in [format!("{milli}m"), format!("{}u", milli * 1000)] {
                prop_assert!(same(&point, &other), "{} {}", point, other);
            }
        }

        #[test]
        fn amounts_are_in_the_order_of_their_numbers(one in -100_000_i64..100_000, other in -100_000_i64..100_000) {
            let amount = |number: i64| Amount::read(&format!("{number}m")).unwrap();
            prop_assert_eq!(amount(one).cmp(&amount(other)), one.cmp(&other));
            prop_assert_eq!(amount(one).is_negative(), one < 0);
        }

        #[test]
        fn anything_is_read_without_a_panic(text in "[-+0-9.eEKMGTPinum]{0,70}|\\PC{0,20}") {
            prop_assert!(same(&text, &text));
            if let Some(amount) = Amount::read(&text) {
                let plain = format!("{amount:?}");
                prop_assert!(same(&text, &plain), "{} {}", text, plain);
            }
        }
    }
}
