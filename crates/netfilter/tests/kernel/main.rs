//! Rulesets in real network namespaces. These tests need root; without it they fail.

mod atomic;
mod cgroup;
mod change;
mod compiled;
mod corner;
mod degrade;
mod drift;
mod flows;
mod fresh;
mod headers;
mod live;
mod load;
mod log;
mod owner;
mod packets;
mod pod;
mod restarts;
mod robust;
mod slots;
mod support;
mod watch;
mod writers;
