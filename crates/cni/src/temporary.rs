//! Names for files that are made beside the one that they will replace.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

/// What such a name ends with; no runtime takes such a file for a network's configuration.
const ENDING: &str = "sidewall";

/// A path beside `target` that nobody else uses: two agents may be at work at once while one follows the other, each
/// with the same process id in a namespace of its own.
pub(crate) fn beside(target: &Path) -> PathBuf {
    // The standard library's hashers begin with what the system gives at random.
    let chance = RandomState::new().build_hasher().finish();
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{chance:016x}.{ENDING}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_are_the_same_and_no_runtime_looks_at_them() {
        let target = Path::new("/etc/cni/net.d/10-a.conflist");
        let (one, other) = (beside(target), beside(target));
        assert_ne!(one, other);
        assert_eq!(one.parent(), target.parent());
        assert!(!crate::choose::is_configuration(one.file_name().unwrap().to_str().unwrap()));
    }
}
