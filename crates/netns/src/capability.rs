//! Linux capabilities by name, and sets of them.

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// A Linux capability (`capabilities(7)`), by its number.
///
/// The ones that matter to packet rules have constants; others come from [`Capability::from_name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// The names in the order of their numbers, from the kernel's `include/uapi/linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// Change the group list and group ids.
    pub const SETGID: Capability = Capability(6);
    /// Change user ids.
    pub const SETUID: Capability = Capability(7);
    /// Bind ports below `net.ipv4.ip_unprivileged_port_start`.
    pub const NET_BIND_SERVICE: Capability = Capability(10);
    /// Configure the network, packet rules included.
    pub const NET_ADMIN: Capability = Capability(12);
    /// Raw and packet sockets.
    pub const NET_RAW: Capability = Capability(13);
    /// Nearly everything that no other capability is about: entering namespaces, BPF.
    pub const SYS_ADMIN: Capability = Capability(21);

    /// Finds a capability by its name, with or without `CAP_`, as Kubernetes writes it.
    pub fn from_name(name: &str) -> Option<Capability> {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        NAMES.iter().position(|n| *n == bare).map(|i| Capability(i as u8))
    }

    /// The kernel's number.
    pub fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

/// Capabilities, as the kernel writes them down of a process: a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None at all.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// The set of the kernel's bits. A bit that this program has no name for stays in it.
    pub const fn from_bits(bits: u64) -> CapabilitySet {
        CapabilitySet(bits)
    }

    /// Whether a capability is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities that have names, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..NAMES.len() as u8).map(Capability).filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        CapabilitySet(all.into_iter().fold(0, |set, capability| set | capability.bit()))
    }
}

impl BitAnd for CapabilitySet {
    type Output = CapabilitySet;

    fn bitand(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }
}

impl BitOr for CapabilitySet {
    type Output = CapabilitySet;

    fn bitor(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, capability) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{capability}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_the_kernels_bits() {
        let set = CapabilitySet::from_bits(0x2000 | 0x40 | 1 << 63);
        assert_eq!(set.to_string(), "CAP_SETGID, CAP_NET_RAW");
        assert!(set.contains(Capability::NET_RAW) && !set.contains(Capability::NET_ADMIN));
        let both: CapabilitySet = [Capability::NET_RAW, Capability::NET_ADMIN].into_iter().collect();
        assert_eq!((set & both).iter().collect::<Vec<_>>(), [Capability::NET_RAW]);
        assert!((set & CapabilitySet::EMPTY).is_empty() && !set.is_empty());
        assert_eq!((set | both).iter().count(), 3);
    }

    #[test]
    fn names_and_numbers_are_the_kernels() {
        assert_eq!(Capability::from_name("CAP_SETUID"), Some(Capability::SETUID));
        assert_eq!(Capability::from_name("SETGID"), Some(Capability::SETGID));
        assert_eq!(Capability::from_name("NET_BIND_SERVICE"), Some(Capability::NET_BIND_SERVICE));
        assert_eq!(Capability::from_name("NET_ADMIN"), Some(Capability::NET_ADMIN));
        assert_eq!(Capability::from_name("NET_RAW"), Some(Capability::NET_RAW));
        assert_eq!(Capability::from_name("SYS_ADMIN").map(Capability::number), Some(21));
        assert_eq!(Capability::from_name("CHECKPOINT_RESTORE").map(Capability::number), Some(40));
        assert_eq!(Capability::from_name("NO_SUCH"), None);
        assert_eq!(Capability::NET_RAW.to_string(), "CAP_NET_RAW");
    }
}
