//! What an unquoted word of YAML means.
//!
//! Kubernetes reads YAML 1.1: `0644` is octal there, `yes` is true. Most people and libraries mean YAML 1.2, where they
//! are 644 and text. Numbers are read as Kubernetes reads them; words on which the two differ are refused, because a
//! policy that means one thing here and another in the cluster is worse than an error.

use serde_json::Number;

/// The meaning of an unquoted word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(Number),
    Text,
    /// It means different things to different readers, or nothing that JSON could say.
    Doubtful(String),
}

pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        "y" | "Y" | "n" | "N" | "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off"
        | "OFF" => {
            return Plain::Doubtful(format!(
                "{text} is true or false to some readers of YAML and text to others: write true or false, or put it in quotes"
            ));
        }
        ".nan" | ".NaN" | ".NAN" => return no_number(text),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return no_number(text);
    }
    // Nothing else is a number, and a long text need not be looked at.
    if text.len() > 64 || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    let negative = text.starts_with('-');
    if let Some(number) = integer(unsigned, negative) {
        return Plain::Number(number);
    }
    if is_float(unsigned) {
        let digits = text.trim_start_matches('+').replace('_', "");
        return match digits.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Plain::Number(number),
            None => no_number(text),
        };
    }
    Plain::Text
}

fn no_number(text: &str) -> Plain {
    Plain::Doubtful(format!("{text} is no number that JSON knows: put it in quotes if it is text"))
}

/// Whole numbers as Go's `ParseInt` with base 0 has them, after underscores have been taken out.
fn integer(unsigned: &str, negative: bool) -> Option<Number> {
    let digits = unsigned.replace('_', "");
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let value = 0_i64.checked_sub_unsigned(magnitude)?;
        Some(value.into())
    } else {
        Some(magnitude.into())
    }
}

/// Digits with a point, an exponent, or both; or digits alone, which then are too many for a whole number.
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let some = mantissa.bytes().any(|b| b.is_ascii_digit());
    let exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && exponent.bytes().all(|b| b.is_ascii_digit())
    });
    some && digits(whole) && digits(fraction) && exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> String {
        match plain(text) {
            Plain::Number(n) => n.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn numbers_are_those_of_kubernetes() {
        for (text, value) in [
            ("0", "0"),
            ("80", "80"),
            ("-5", "-5"),
            ("+5", "5"),
            ("0644", "420"),
            ("0o644", "420"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("1_000", "1000"),
            ("-0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.5", "1.5"),
            ("1e3", "1000.0"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("-1.5e-1", "-0.15"),
            ("0.10", "0.1"),
            ("089", "89.0"),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_text() {
        for text in
            ["10.0.0.0/8", "1.2.3", "::1", "-", "+", ".", "0x", "1e", "80/tcp", "1-2", "e3", "- 1", "_1", "0xfg"]
        {
            assert_eq!(plain(text), Plain::Text, "{text}");
        }
        let long = "1".repeat(65);
        assert_eq!(plain(&long), Plain::Text);
    }

    #[test]
    fn words() {
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(plain(text), Plain::Null, "{text}");
        }
        assert_eq!(plain("true"), Plain::Bool(true));
        assert_eq!(plain("False"), Plain::Bool(false));
        assert_eq!(plain("nULL"), Plain::Text);
        for text in ["yes", "No", "ON", "off", "y", "N", ".nan", "-.inf", ".INF", "1e999"] {
            assert!(matches!(plain(text), Plain::Doubtful(_)), "{text}");
        }
    }
}
