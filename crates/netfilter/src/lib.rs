//! Rulesets in the kernel: nftables over netlink, read-back, NFLOG, conntrack.
