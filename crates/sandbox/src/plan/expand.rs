//! `$(NAME)` in commands, arguments and values, as Kubernetes replaces it.

use std::collections::BTreeMap;

/// Replaces `$(NAME)` by the variable's value. An unknown name stays as written; `$$` is one dollar sign, so that
/// `$$(NAME)` gives `$(NAME)`. Values are not looked at again.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_kubernetes_replaces() {
        let variables = BTreeMap::from([("A".to_owned(), "a$(B)".to_owned()), ("E".to_owned(), String::new())]);
        for (text, expanded) in [
            ("$(A)", "a$(B)"),
            ("x$(A)y$(A)", "xa$(B)ya$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a$(B)"),
            ("$(E)", ""),
            ("$(NONE)", "$(NONE)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$(open $(A)", "$(open $(A)"),
            ("ü$(A)ü", "üa$(B)ü"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &variables), expanded, "{text}");
        }
    }
}
