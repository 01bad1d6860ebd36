//! Names that are made of other names.

use sha2::{Digest, Sha256};

/// The longest name of a pod that we make, in octets: a DNS label, so that it can be a hostname too.
const POD_MAX: usize = 63;

/// The longest name of another object, in octets.
const OBJECT_MAX: usize = 253;

/// How many hexadecimal digits a short hash has.
const HASH: usize = 10;

/// A short hash of texts, in hexadecimal digits.
pub(crate) fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(HASH);
    digits
}

/// The name of a part's pod: the primary's, as far as there is room, the part's, and a hash of the primary's uid. It is the same
/// at every try, so that two who make it make one.
pub(crate) fn part_pod(primary: &str, uid: &str, part: &str) -> String {
    let end = format!("-{part}-{}", short_hash(&[uid, part]));
    format!("{}{end}", cut(primary, POD_MAX.saturating_sub(end.len())))
}

/// A name that begins with `prefix` and goes on with `name`; with a hash of it in place of its end, where it is too long.
pub(crate) fn object(prefix: &str, name: &str) -> String {
    let whole = format!("{prefix}{name}");
    if whole.len() <= OBJECT_MAX {
        return whole;
    }
    let end = format!("-{}", short_hash(&[name]));
    format!("{}{end}", cut(&whole, OBJECT_MAX - end.len()))
}

/// The beginning of a name; what is left ends as a name does.
fn cut(name: &str, most: usize) -> &str {
    let mut end = most.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_api::names::{is_dns_label, is_dns_subdomain};

    #[test]
    fn names_of_pods_are_labels_and_differ() {
        let long = "x".repeat(300);
        let dots = format!("{}.{}", "a".repeat(31), "b".repeat(100));
        for primary in ["web-6d4cf56db6-x7k2p", &long, "a"] {
            let name = part_pod(primary, "uid-1", "abcdefghijklmnopqrst");
            assert!(is_dns_label(&name), "{name}");
            assert_ne!(name, part_pod(primary, "uid-2", "abcdefghijklmnopqrst"));
            assert_ne!(name, part_pod(primary, "uid-1", "abcdefghijklmnopqrs"));
        }
        assert!(is_dns_subdomain(&part_pod(&dots, "u", "abcdefghijklmnopqrst")));
        assert!(part_pod("web-6d4cf56db6-x7k2p", "u", "logs").starts_with("web-6d4cf56db6-x7k2p-logs-"));
    }

    #[test]
    fn long_names_of_objects_are_cut_and_differ() {
        assert_eq!(object("sidewall-", "web"), "sidewall-web");
        let (one, other) = ("x".repeat(253), format!("{}y", "x".repeat(252)));
        assert!(is_dns_subdomain(&object("sidewall-", &one)));
        assert_ne!(object("sidewall-", &one), object("sidewall-", &other));
        assert_eq!(object("sidewall-", &"x".repeat(244)).len(), 253);
    }
}
