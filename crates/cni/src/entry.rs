//! The plugin's own entry in a network's list: what the agent's installer writes and the plugin reads.

use crate::names::Namespace;
use crate::{state, wire};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `type` of the entry, which is the program's name.
pub const TYPE: &str = "sidewall-cni";
/// The DaemonSet to look at where an entry names none, as NAMESPACE/NAME.
pub const DAEMON_SET: &str = "sidewall-system/sidewall-agent";
/// How long the agent may take where an entry says nothing. The kubelet gives a pod's sandbox two minutes.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest and the longest time that the agent may be given.
pub const TIMEOUTS: std::ops::RangeInclusive<u32> = 100..=60_000;
/// The most namespaces in `exemptNamespaces`.
pub const EXEMPT_MAX: usize = 1024;
/// The longest path and the longest name of a DaemonSet, in octets.
const TEXT_MAX: usize = 512;

/// A DaemonSet, to be named to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSet {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The plugin's own settings. All have defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Where the agent listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Where the agent leaves its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Namespaces whose pods start without walls, agent or no agent.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exempt_namespaces: BTreeSet<Namespace>,
    /// The agent's DaemonSet, as NAMESPACE/NAME: named to people when the agent does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon_set: Option<String>,
    /// How long the agent may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_milliseconds: Option<u32>,
    /// In a list that was made from a network's single configuration: that file's name, or that it was a delegate. The
    /// plugin itself does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<String>,
}

/// An entry that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not an absolute path.
    #[error("{0} must be an absolute path of at most {TEXT_MAX} octets")]
    Path(&'static str),
    /// Too many.
    #[error("exemptNamespaces names more than {EXEMPT_MAX} namespaces")]
    Exempt,
    /// Not NAMESPACE/NAME.
    #[error("daemonSet must be NAMESPACE/NAME")]
    DaemonSet,
    /// Too short or too long.
    #[error("timeoutMilliseconds must be from {} to {}", TIMEOUTS.start(), TIMEOUTS.end())]
    Timeout,
}

impl Entry {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn check(&self) -> Result<(), EntryError> {
        for (name, path) in [("socket", &self.socket), ("state", &self.state)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute() || path.as_os_str().len() > TEXT_MAX) {
                return Err(EntryError::Path(name));
            }
        }
        if self.exempt_namespaces.len() > EXEMPT_MAX {
            return Err(EntryError::Exempt);
        }
        if self.daemon_set.as_ref().is_some_and(|name| !is_daemon_set(name)) {
            return Err(EntryError::DaemonSet);
        }
        if self.timeout_milliseconds.is_some_and(|timeout| !TIMEOUTS.contains(&timeout)) {
            return Err(EntryError::Timeout);
        }
        Ok(())
    }

    /// Where the agent listens.
    pub fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(wire::SOCKET))
    }

    /// Where the agent leaves its state.
    pub fn state(&self) -> &Path {
        self.state.as_deref().unwrap_or(Path::new(state::PATH))
    }

    /// The agent's DaemonSet.
    pub fn daemon_set(&self) -> DaemonSet {
        let name = self.daemon_set.as_deref().unwrap_or(DAEMON_SET);
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        DaemonSet { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// How long the agent may take.
    pub fn timeout(&self) -> Duration {
        self.timeout_milliseconds.map_or(TIMEOUT, |timeout| Duration::from_millis(timeout.into()))
    }
}

fn is_daemon_set(name: &str) -> bool {
    name.split_once('/').is_some_and(|(namespace, name)| {
        Namespace::try_from(namespace).is_ok() && crate::names::PodName::try_from(name).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default() {
        let entry = Entry::default();
        assert_eq!(serde_json::to_string(&entry).unwrap(), "{}");
        assert_eq!(entry.check(), Ok(()));
        assert_eq!((entry.socket(), entry.state()), (Path::new(wire::SOCKET), Path::new(state::PATH)));
        let DaemonSet { namespace, name } = entry.daemon_set();
        assert_eq!((namespace.as_str(), name.as_str()), ("sidewall-system", "sidewall-agent"));
        assert_eq!(entry.timeout(), TIMEOUT);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (text, error) in [
            (r#"{"socket":"cni.sock"}"#, EntryError::Path("socket")),
            (r#"{"state":""}"#, EntryError::Path("state")),
            (r#"{"daemonSet":"agent"}"#, EntryError::DaemonSet),
            (r#"{"daemonSet":"a b/c"}"#, EntryError::DaemonSet),
            (r#"{"timeoutMilliseconds":0}"#, EntryError::Timeout),
            (r#"{"timeoutMilliseconds":4000000000}"#, EntryError::Timeout),
        ] {
            assert_eq!(serde_json::from_str::<Entry>(text).unwrap().check(), Err(error), "{text}");
        }
        for text in [r#"{"exempt":[]}"#, r#"{"exemptNamespaces":["A"]}"#, r#"{"timeoutMilliseconds":-1}"#] {
            assert!(serde_json::from_str::<Entry>(text).is_err(), "{text}");
        }
        let many = (0..=EXEMPT_MAX).map(|number| Namespace::try_from(format!("n{number}")).unwrap()).collect();
        assert_eq!(Entry { exempt_namespaces: many, ..Entry::default() }.check(), Err(EntryError::Exempt));
    }
}
