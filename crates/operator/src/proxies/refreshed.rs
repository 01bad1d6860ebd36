//! The word by which a pod's kubelet is had look at the pod's files: [`ANNOTATION_REFRESHED`](crate::names::ANNOTATION_REFRESHED).
//!
//! It stands for the configuration and the versions of the Secrets that a pod mounts. Injection writes the one that is right when
//! the pod comes in, and the keeper puts it right wherever it is not: so a pod that came while something changed is told of it
//! like all others, whoever has heard of which first.

use sha2::{Digest, Sha256};

use crate::admission::inject::Secrets;
use crate::proxies::render::hex;

/// The word of a configuration and of Secrets, of which `version` says which there is. Another whenever one of them is.
pub fn word(hash: &str, secrets: &Secrets, version: impl Fn(&str) -> Option<String>) -> String {
    let mut digest = Sha256::new();
    digest.update(hash);
    for name in secrets.keys() {
        for part in [name, &version(name).unwrap_or_default()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    hex(&digest.finalize().iter().copied().take(8).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_another_whenever_anything_is() {
        let secrets = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), ["k".to_owned()].into())).collect();
        let of = |hash: &str, names: &[&str], version: &str| word(hash, &secrets(names), |_| Some(version.to_owned()));
        let all = [
            of("h", &["a", "b"], "1"),
            of("h", &["a", "b"], "2"),
            of("i", &["a", "b"], "1"),
            of("h", &["a"], "1"),
            of("h", &["ab"], "1"),
            of("h", &["a", "b"], ""),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(one.len() == 16 && !all[..index].contains(one), "{all:?}");
        }
        // What is not there, or not to be seen, has no version.
        assert_eq!(word("h", &secrets(&["a", "b"]), |_| None), all[5]);
        assert_eq!(of("h", &["a", "b"], "1"), all[0]);
    }
}
