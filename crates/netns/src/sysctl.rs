//! Network settings of a namespace, under `/proc/sys/net`.
//!
//! `/proc/sys/net` shows the namespace of the *thread* that looks up the name (unlike `/proc/net`, which follows the
//! thread group's leader), so it is enough to be on a thread inside the namespace.

use std::fs;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::ns::NetNs;

/// Writes a setting inside `ns`: `set(&ns, "net.ipv4.ip_unprivileged_port_start", "0")`.
///
/// Use `/` in place of `.` where a link's name contains a dot: `net/ipv4/conf/eth0.1/forwarding`.
///
/// # Errors
/// [`Error::SysctlKey`] for a key outside `net.`, [`Error::File`] when the kernel refuses.
pub fn set(ns: &NetNs, key: &str, value: &str) -> Result<()> {
    let path = path_of(key)?;
    ns.run(|| fs::write(&path, value).map_err(|e| Error::file("write", &path, e)))?
}

/// Reads a setting inside `ns`, without the newline.
///
/// # Errors
/// As [`set`].
pub fn get(ns: &NetNs, key: &str) -> Result<String> {
    let path = path_of(key)?;
    ns.run(|| fs::read_to_string(&path).map(|v| v.trim_end().to_owned()).map_err(|e| Error::file("read", &path, e)))?
}

fn path_of(key: &str) -> Result<PathBuf> {
    let separator = if key.contains('/') { '/' } else { '.' };
    let bad = || Error::SysctlKey(key.to_owned());
    let mut words = key.split(separator);
    if words.next() != Some("net") {
        return Err(bad());
    }
    let mut path = PathBuf::from("/proc/sys/net");
    for word in words {
        if word.is_empty() || word == ".." || word == "." {
            return Err(bad());
        }
        path.push(word);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_proc_sys_net() {
        assert_eq!(path_of("net.ipv4.ip_forward").unwrap(), PathBuf::from("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            path_of("net/ipv4/conf/eth0.1/forwarding").unwrap(),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        for bad in ["kernel.hostname", "net/../kernel/hostname", "net..x", "", "net/ipv4//x"] {
            assert!(matches!(path_of(bad), Err(Error::SysctlKey(_))), "{bad}");
        }
    }
}
