//! Names that come from the container runtime, each checked once, where it comes in.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest DNS label (RFC 1123, section 2.1).
const LABEL_MAX: usize = 63;
/// The longest DNS subdomain, as Kubernetes limits it.
const SUBDOMAIN_MAX: usize = 253;
/// The longest identifier that is taken from a runtime. Kubernetes and the runtimes stay below 128.
const ID_MAX: usize = 255;
/// The longest name of a device: IFNAMSIZ of Linux, without the closing zero.
const INTERFACE_MAX: usize = 15;

/// A name is not what it should be. The name itself is not repeated here: it may be long or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be {0}")]
pub struct BadName(&'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $valid:ident, $must:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                if $valid(&text) { Ok(Self(text)) } else { Err(BadName($must)) }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = BadName;

            fn try_from(text: &str) -> Result<Self, BadName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A Kubernetes namespace.
    Namespace,
    is_label,
    "a DNS label: 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
);
name!(
    /// A pod's name.
    PodName,
    is_subdomain,
    "a DNS subdomain: at most 253 of a-z, 0-9, - and ., with a letter or digit at both ends"
);
name!(
    /// A pod's UID: for most pods a UUID, for static ones a hash.
    PodUid,
    is_id,
    "1 to 255 of A-Z, a-z, 0-9, _, . and -, with a letter or digit first"
);
name!(
    /// `CNI_CONTAINERID`, by which the runtime calls the pod's sandbox.
    SandboxId,
    is_id,
    "1 to 255 of A-Z, a-z, 0-9, _, . and -, with a letter or digit first"
);
name!(
    /// `name` of a network's configuration.
    NetworkName,
    is_id,
    "1 to 255 of A-Z, a-z, 0-9, _, . and -, with a letter or digit first"
);
name!(
    /// `CNI_IFNAME`: the device's name in the pod.
    InterfaceName,
    is_interface,
    "a device's name: 1 to 15 characters, neither . nor .., without /, : and spaces"
);

fn is_label(text: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_MAX
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    let label = |part: &str| {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
    };
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(label)
}

fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= ID_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

fn is_interface(text: &str) -> bool {
    (1..=INTERFACE_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text.chars().all(|c| c != '/' && c != ':' && !c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_their_owners_write_them() {
        for good in ["shop", "a", "kube-system", "0"] {
            assert!(Namespace::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Shop", "a.b", "a b", "a\n", "ü", &"a".repeat(64)] {
            assert!(Namespace::try_from(bad).is_err(), "{bad}");
        }
        for good in ["web-0", "etcd-node1.example.org", &"a".repeat(253)] {
            assert!(PodName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", ".a", "a.", "../../etc", &"a".repeat(254)] {
            assert!(PodName::try_from(bad).is_err(), "{bad}");
        }
        for good in ["eth0", "net1", "a.b-c_d", "ü", "fifteen-letters"] {
            assert!(InterfaceName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\0", "sixteen-letters1"] {
            assert!(InterfaceName::try_from(bad).is_err(), "{bad:?}");
        }
        for good in ["4f6e2ec1", "A_b.c-d"] {
            assert!(SandboxId::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "a/b", "a;b", &"a".repeat(256)] {
            assert!(SandboxId::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_in_a_document_is_checked_too() {
        assert!(serde_json::from_str::<Namespace>(r#""shop""#).is_ok());
        let error = serde_json::from_str::<Namespace>(r#""../shop""#).unwrap_err().to_string();
        assert!(error.contains("must be a DNS label"), "{error}");
        assert!(!error.contains("../"), "{error}");
    }
}
