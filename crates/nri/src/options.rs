//! Where the runtime is, as whom to register, and the limits.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Where the runtime is, as whom to register, and the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The runtime's socket for plugins; `/var/run/nri/nri.sock` unless said otherwise.
    pub socket: PathBuf,
    /// The plugin's name, as the runtime's logs have it.
    pub name: String,
    /// Where the plugin stands among others; 10 unless said otherwise.
    pub index: PluginIndex,
    /// Whether [`crate::Handler::create_container`] is to be asked too. It costs each container one more wait; no unless
    /// said otherwise.
    pub ask_at_create: bool,
    /// How long a callback may take. 1.5 s unless said otherwise, and never more than three quarters of what the runtime
    /// says that it waits.
    pub answer_within: Duration,
    /// How long connecting, registering and being told what there is may take. 30 s unless said otherwise: a runtime that
    /// has just started does other things first.
    pub synchronise_within: Duration,
    /// How many bytes all that the runtime tells at the beginning may have, in one message or in many. 64 MiB unless said
    /// otherwise: what 250 pods have if each has all the annotations that Kubernetes allows. It should not be less than what
    /// a node's pods can come to, since their authors could shut the plugin out then.
    pub synchronise_most: usize,
    /// How long the runtime may take to read an answer. 1 s unless said otherwise.
    pub read_within: Duration,
    /// How many callbacks may be under way at once. 64 unless said otherwise; the runtimes that we know ask one at a time.
    pub callbacks_most: usize,
    /// How long [`crate::run`] waits before it connects again.
    pub retry: Retry,
}

impl Options {
    /// A plugin's name, with everything else as it is unless said otherwise.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            socket: PathBuf::from("/var/run/nri/nri.sock"),
            name: name.into(),
            index: PluginIndex(10),
            ask_at_create: false,
            answer_within: Duration::from_millis(1500),
            synchronise_within: Duration::from_secs(30),
            synchronise_most: 64 << 20,
            read_within: Duration::from_secs(1),
            callbacks_most: 64,
            retry: Retry {
                absent: Duration::from_millis(100),
                first: Duration::from_millis(100),
                most: Duration::from_secs(2),
            },
        }
    }
}

/// Where a plugin stands among others: 0 to 99, lower ones are asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PluginIndex(u8);

/// This is no index of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} is no index of a plugin: it must be 0 to 99")]
pub struct BadIndex(pub u8);

impl TryFrom<u8> for PluginIndex {
    type Error = BadIndex;

    fn try_from(index: u8) -> Result<Self, BadIndex> {
        if index < 100 { Ok(Self(index)) } else { Err(BadIndex(index)) }
    }
}

impl std::fmt::Display for PluginIndex {
    /// With two digits, as NRI wants it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// How long to wait before connecting again.
///
/// While nobody listens it is always the same and short: what a runtime starts before the plugin is back, the plugin is not
/// asked about. After a session that could not be held it is `first`, then twice as long each time, and never more than
/// `most`; after one that held for `most` it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// While nobody listens.
    pub absent: Duration,
    /// After the first session that could not be held.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Retry {
    /// How long to wait after so many sessions in a row that could not be held (0 for the first).
    pub fn after(self, ends: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(ends)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_its_bound() {
        let retry = Options::new("sidewall").retry;
        let waits: Vec<_> = [0, 1, 4, 5, 31, 32, u32::MAX].map(|ends| retry.after(ends).as_millis()).into();
        assert_eq!(waits, [100, 200, 1600, 2000, 2000, 2000, 2000]);
    }

    #[test]
    fn an_index_has_two_digits() {
        assert_eq!(PluginIndex::try_from(7).unwrap().to_string(), "07");
        assert_eq!(PluginIndex::try_from(100), Err(BadIndex(100)));
    }
}
