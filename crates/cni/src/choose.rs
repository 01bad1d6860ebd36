//! Which file of a configuration directory the runtimes take.
//!
//! The specification does not say. containerd and CRI-O take the first by name of all `.conf`, `.conflist` and `.json`
//! files, compared by octets. Where it can't be loaded, containerd has no network and CRI-O goes on to the next one.
//!
//! A containerd that is told to load several (`max_conf_num` other than 1) attaches each pod to all of them; it must
//! not have both a single configuration and the [`list_beside`] it: write such a network's configuration as a list.

/// What the names of network configurations end with.
pub const ENDINGS: [&str; 3] = [".conf", ".conflist", ".json"];

/// The ending by which the runtimes tell what a file is: from its last dot on.
fn ending(name: &str) -> &str {
    name.rfind('.').map_or("", |dot| &name[dot..])
}

/// Whether the runtimes look at a file of this name.
pub fn is_configuration(name: &str) -> bool {
    ENDINGS.contains(&ending(name))
}

/// Whether a file of this name holds a list of plugins, and not a single one.
pub fn is_list(name: &str) -> bool {
    ending(name) == ".conflist"
}

/// The configurations among a directory's names, in the order in which the runtimes look at them.
pub fn in_order<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<_> = names.into_iter().filter(|name| is_configuration(name)).collect();
    found.sort_unstable_by_key(|name| name.as_bytes());
    found
}

/// What a list is called that is made from the single configuration `name`, so that the runtimes take it instead: it
/// comes before that one, and behind all that came before it.
pub fn list_beside(name: &str) -> String {
    let stem = name.strip_suffix(ending(name)).unwrap_or(name);
    format!("{stem}{BESIDE}")
}

/// What the name of a list ends with that was made from a single configuration. `0` comes before the first letter of
/// every other ending.
pub const BESIDE: &str = ".00-sidewall.conflist";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_octets_is_taken() {
        let names = [
            "multus.d",
            "README",
            "99-loopback.conf",
            "10-b.conflist",
            "10-B.json",
            "9.conf",
            "10-b.conf",
            "10-b.conf.old",
            ".conf",
        ];
        assert_eq!(in_order(names), [".conf", "10-B.json", "10-b.conf", "10-b.conflist", "9.conf", "99-loopback.conf"]);
        assert!(is_list("a.conf.conflist") && !is_list("a.conflist.conf") && !is_configuration("conf"));
    }

    #[test]
    fn a_list_beside_comes_just_before() {
        for name in ["10-b.conf", "10-b.json", ".conf", "a.b.conf", "10-b.conf.json"] {
            let beside = list_beside(name);
            assert!(is_list(&beside) && beside.as_str() < name, "{beside} {name}");
        }
        assert_eq!(list_beside("10-b.conf"), "10-b.00-sidewall.conflist");
    }
}
