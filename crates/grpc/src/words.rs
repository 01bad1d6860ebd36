//! What others say, as it is repeated in an error.

/// An error with all that caused it. What a cause says and the error before it has said already is not said again.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Words, cut to at most so many bytes, where a character ends; what was cut shows an `…` behind them.
pub fn shortened(words: &str, most: usize) -> String {
    if words.len() <= most {
        return words.to_owned();
    }
    let end = (0..=most).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &words[..end])
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn every_cause_is_told_once() {
        let pipe = Said("broken pipe", None);
        let write = Said("can't write: broken pipe", Some(pipe.into()));
        let ended = Said("the connection ended", Some(write.into()));
        assert_eq!(in_full(&ended), "the connection ended: can't write: broken pipe");
        assert_eq!(in_full(&Said("alone", None)), "alone");
    }

    #[test]
    fn long_words_are_cut_where_a_character_ends() {
        assert_eq!(shortened("four", 4), "four");
        assert_eq!(shortened("fourth", 4), "four…");
        // Two bytes each: the second ends at four.
        assert_eq!(shortened("üüü", 5), "üü…");
        assert_eq!(shortened("ü", 1), "…");
        assert_eq!(shortened("", 0), "");
    }
}
