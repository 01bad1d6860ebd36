//! `CNI_ARGS`: whose pod it is, as the runtime says.

use crate::names::{BadName, Namespace, PodName, PodUid, SandboxId};
use serde::{Deserialize, Serialize};

/// The most octets of `CNI_ARGS`. Runtimes write a few hundred.
pub const ARGS_MAX: usize = 64 << 10;
/// The most pairs in `CNI_ARGS`.
pub const PAIRS_MAX: usize = 256;
/// The longest piece of a key that an error repeats.
const QUOTED: usize = 40;

/// A Kubernetes pod, as the runtime names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pod {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: Namespace,
    /// `K8S_POD_NAME`.
    pub name: PodName,
    /// `K8S_POD_UID`; older runtimes do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<PodUid>,
    /// `K8S_POD_INFRA_CONTAINER_ID`, the sandbox's id in the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxId>,
}

/// `CNI_ARGS` is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// Too long.
    #[error("CNI_ARGS is longer than {ARGS_MAX} octets")]
    Long,
    /// Too many pairs.
    #[error("CNI_ARGS has more than {PAIRS_MAX} pairs")]
    Many,
    /// Not text.
    #[error("CNI_ARGS is not UTF-8")]
    NotText,
    /// Not a pair.
    #[error("CNI_ARGS must be KEY=VALUE pairs with ; between them; pair {0} is none")]
    NotAPair(usize),
    /// Twice, and not the same.
    #[error("CNI_ARGS says {0} twice, and not the same")]
    Twice(&'static str),
    /// An unknown key, without leave to ignore it.
    #[error("CNI_ARGS has {0}, which is not known here, and does not say IgnoreUnknown=1")]
    Unknown(String),
    /// Neither yes nor no.
    #[error("CNI_ARGS must say IgnoreUnknown as 1, true, 0 or false")]
    IgnoreUnknown,
    /// A value that can't be.
    #[error("CNI_ARGS: {key}: {reason}")]
    Value {
        /// Which key's.
        key: &'static str,
        /// What it must be.
        reason: BadName,
    },
    /// Half a pod.
    #[error("CNI_ARGS has {has} but no {lacks}: it must name a pod by both, or none")]
    HalfAPod {
        /// What it has.
        has: &'static str,
        /// What is missing.
        lacks: &'static str,
    },
}

const NAMESPACE: &str = "K8S_POD_NAMESPACE";
const NAME: &str = "K8S_POD_NAME";
const UID: &str = "K8S_POD_UID";
const SANDBOX: &str = "K8S_POD_INFRA_CONTAINER_ID";
const IGNORE: &str = "IgnoreUnknown";
const KEYS: [&str; 5] = [NAMESPACE, NAME, UID, SANDBOX, IGNORE];

/// The pod that `CNI_ARGS` names; `None` where it names none, because who runs us is not Kubernetes.
///
/// # Errors
/// [`ArgsError`]. What can be read in two ways is refused, so that nobody reads it differently from us. What is said twice
/// and the same both times is not: Multus puts its own pairs before those that it was given, also where they are the same.
pub fn pod(args: &str) -> Result<Option<Pod>, ArgsError> {
    if args.len() > ARGS_MAX {
        return Err(ArgsError::Long);
    }
    let mut values = [None::<&str>; KEYS.len()];
    let mut unknown = None;
    let pairs = args.split(';').filter(|pair| !pair.is_empty());
    for (index, pair) in pairs.enumerate() {
        if index >= PAIRS_MAX {
            return Err(ArgsError::Many);
        }
        let (key, value) = pair.split_once('=').ok_or(ArgsError::NotAPair(index + 1))?;
        match KEYS.iter().position(|known| *known == key) {
            Some(known) => {
                let before = *values[known].get_or_insert(value);
                if before != value && !(key == IGNORE && ignores(before)? == ignores(value)?) {
                    return Err(ArgsError::Twice(KEYS[known]));
                }
            }
            None => unknown = unknown.or(Some(key)),
        }
    }
    let [namespace, name, uid, sandbox, ignore] = values;
    let ignore = ignore.map_or(Ok(false), ignores)?;
    if let Some(key) = unknown
        && !ignore
    {
        return Err(ArgsError::Unknown(key.chars().take(QUOTED).flat_map(char::escape_debug).collect()));
    }
    let (namespace, name) = match (namespace, name) {
        (Some(namespace), Some(name)) => (namespace, name),
        (Some(_), None) => return Err(ArgsError::HalfAPod { has: NAMESPACE, lacks: NAME }),
        (None, Some(_)) => return Err(ArgsError::HalfAPod { has: NAME, lacks: NAMESPACE }),
        (None, None) => match (uid, sandbox) {
            (Some(_), _) => return Err(ArgsError::HalfAPod { has: UID, lacks: NAMESPACE }),
            (_, Some(_)) => return Err(ArgsError::HalfAPod { has: SANDBOX, lacks: NAMESPACE }),
            (None, None) => return Ok(None),
        },
    };
    let at = |key| move |reason| ArgsError::Value { key, reason };
    Ok(Some(Pod {
        namespace: namespace.try_into().map_err(at(NAMESPACE))?,
        name: name.try_into().map_err(at(NAME))?,
        // Runtimes that know no UID write the key with nothing behind it.
        uid: uid.filter(|uid| !uid.is_empty()).map(PodUid::try_from).transpose().map_err(at(UID))?,
        sandbox: sandbox.filter(|id| !id.is_empty()).map(SandboxId::try_from).transpose().map_err(at(SANDBOX))?,
    }))
}

/// What a value of `IgnoreUnknown` means.
fn ignores(value: &str) -> Result<bool, ArgsError> {
    match value.to_ascii_lowercase().as_str() {
        "0" | "false" => Ok(false),
        "1" | "true" => Ok(true),
        _ => Err(ArgsError::IgnoreUnknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINERD: &str = "K8S_POD_INFRA_CONTAINER_ID=4f6e;K8S_POD_UID=0b7c-1;IgnoreUnknown=1;\
                              K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";

    #[test]
    fn a_pod_is_found_among_what_runtimes_write() {
        let found = pod(CONTAINERD).unwrap().unwrap();
        assert_eq!((found.namespace.as_str(), found.name.as_str()), ("shop", "web-0"));
        assert_eq!(found.uid.unwrap().as_str(), "0b7c-1");
        assert_eq!(found.sandbox.unwrap().as_str(), "4f6e");
        let least = pod("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=").unwrap().unwrap();
        assert_eq!((least.uid, least.sandbox), (None, None));
    }

    #[test]
    fn multus_says_everything_twice() {
        let twice = format!(
            "IgnoreUnknown=true;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=4f6e;\
             K8S_POD_UID=0b7c-1;{CONTAINERD}"
        );
        assert_eq!(pod(&twice), pod(CONTAINERD));
        assert!(pod("IgnoreUnknown=1;IgnoreUnknown=0").is_err());
        assert!(pod("IgnoreUnknown=1;IgnoreUnknown=yes").is_err());
    }

    #[test]
    fn without_kubernetes_there_is_no_pod() {
        assert_eq!(pod(""), Ok(None));
        assert_eq!(pod("IgnoreUnknown=true;FOO=a=b;"), Ok(None));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let many = "A=1;".repeat(PAIRS_MAX + 1);
        let long = format!("IgnoreUnknown=1;A={}", "x".repeat(ARGS_MAX));
        for (args, error) in [
            ("FOO", "pair 1"),
            ("FOO=1", "has FOO, which is not known"),
            ("FOO\u{1b}[31m=1", r"FOO\u{1b}[31m,"),
            ("FOO=1;IgnoreUnknown=0", "has FOO"),
            ("IgnoreUnknown=yes", "as 1, true, 0 or false"),
            ("K8S_POD_NAMESPACE=shop", "no K8S_POD_NAME"),
            ("K8S_POD_NAME=web", "no K8S_POD_NAMESPACE"),
            ("K8S_POD_UID=1", "no K8S_POD_NAMESPACE"),
            ("K8S_POD_INFRA_CONTAINER_ID=1", "no K8S_POD_NAMESPACE"),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAMESPACE=b;K8S_POD_NAME=c", "twice"),
            ("K8S_POD_NAMESPACE=;K8S_POD_NAME=c", "K8S_POD_NAMESPACE: it must be a DNS label"),
            ("K8S_POD_NAMESPACE=a/b;K8S_POD_NAME=c", "K8S_POD_NAMESPACE: it must be a DNS label"),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAME=../c", "K8S_POD_NAME: it must be a DNS subdomain"),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAME=c;K8S_POD_UID=*", "K8S_POD_UID: it must be"),
            (many.as_str(), "more than 256 pairs"),
            (long.as_str(), "longer than"),
        ] {
            let found = pod(args).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
            assert!(found.len() < 300, "{found}");
        }
    }
}
