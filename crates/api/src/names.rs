//! Names that are written down outside this program: the API group, labels, annotations, and the
//! rules a name has to follow.

/// The API group of every kind of ours.
pub const GROUP: &str = "sidewall.dev";

/// The version of every kind of ours.
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` of every kind of ours.
pub const API_VERSION: &str = "sidewall.dev/v1alpha1";

/// What every annotation and label of ours begins with.
///
/// Such keys are refused from anyone but Sidewall itself: a pod's author must not be able to write
/// what we act on.
pub const KEY_PREFIX: &str = "sidewall.dev/";

/// The field manager of our server-side applies.
pub const FIELD_MANAGER: &str = "sidewall";

/// The container that is the proxy where a SidecarProxy does not name one.
pub const DEFAULT_PROXY_CONTAINER: &str = "front-proxy";

/// The label that the API server puts on every namespace, with the namespace's name as its value.
pub const LABEL_NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The label of an EndpointSlice that names its Service.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The annotation of a pod that is split: which containers are in which part, verbatim, with a MAC.
pub const ANNOTATION_SPLIT: &str = "sidewall.dev/split";

/// The annotation of every part of a split pod, the primary too: the NetworkAttachmentDefinition of the link, as
/// `namespace/name`.
pub const ANNOTATION_LINK: &str = "sidewall.dev/link";

/// The annotation of a part that is not the primary: whose part it is, with a MAC.
pub const ANNOTATION_PART: &str = "sidewall.dev/part";

/// The label of every part of a split pod, the primary too: the part's name.
pub const LABEL_PART: &str = "sidewall.dev/part";

/// The label of every part of a split pod: the uid of the primary. The primary has it as soon as the operator has seen it; a
/// pod has no uid yet when it is admitted.
pub const LABEL_PRIMARY: &str = "sidewall.dev/primary";

/// The readiness gate of a primary: true when all its parts are ready and the link carries traffic.
pub const GATE_PARTS_READY: &str = "sidewall.dev/parts-ready";

/// The part that a split pod itself is: no other part can have this name.
pub const PRIMARY: &str = "primary";

/// The longest name of a part, in octets.
pub const PART_NAME_MAX: usize = 20;

/// The device of the link inside each part.
pub const LINK_DEVICE: &str = "link0";

/// The annotation of a pod in which Multus is told which networks to attach it to: names separated by commas, or a JSON list
/// (Network Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto Standard", §4.1.1).
pub const ANNOTATION_NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// What the names of the NetworkAttachmentDefinitions that we make begin with; the PodSplit's name follows.
pub const LINK_NETWORK_PREFIX: &str = "sidewall-";

/// The namespace of an object that names none, as `kubectl` has it.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The longest DNS label (RFC 1123, section 2.1), in octets.
pub const DNS_LABEL_MAX: usize = 63;

/// The longest DNS subdomain (RFC 1123), in octets, as Kubernetes limits it.
pub const DNS_SUBDOMAIN_MAX: usize = 253;

/// The longest name of a container port (RFC 6335, section 5.1), in octets.
pub const PORT_NAME_MAX: usize = 15;

/// The longest name part of a label key and the longest label value, in octets.
pub const LABEL_PART_MAX: usize = 63;

/// Whether a label or annotation key is one of ours, which only Sidewall may write.
pub fn is_reserved_key(key: &str) -> bool {
    key.split_once('/')
        .is_some_and(|(prefix, _)| prefix == GROUP || prefix.strip_suffix(GROUP).is_some_and(|p| p.ends_with('.')))
}

/// Whether `name` is a DNS label as Kubernetes has it (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`,
/// with a letter or digit at both ends. Names of containers and namespaces are such.
pub fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= DNS_LABEL_MAX
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|b| plain(b) || *b == b'-')
}

/// Whether `name` is a DNS subdomain (RFC 1123): labels with dots between them, at most 253 octets.
/// Names of pods and of most other objects are such.
pub fn is_dns_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        // A label inside a subdomain has no limit of its own in Kubernetes.
        let bytes = part.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|b| plain(b) || *b == b'-')
    };
    name.len() <= DNS_SUBDOMAIN_MAX && name.split('.').all(label)
}

/// Whether `name` can name a container port (an IANA service name, RFC 6335): 1 to 15 of `a-z`,
/// `0-9` and `-`, at least one letter, no `-` at either end and no two beside each other.
pub fn is_port_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=PORT_NAME_MAX).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.iter().any(u8::is_ascii_lowercase)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

/// Whether `value` can be a label's value: empty, or a qualified name's last part.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_part(value)
}

/// Whether `key` can be a label's key: an optional DNS subdomain and `/`, then 1 to 63 of letters,
/// digits, `-`, `_` and `.`, with a letter or digit at both ends.
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_part(name),
        None => is_label_part(key),
    }
}

fn is_label_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.len() <= LABEL_PART_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels() {
        for good in ["a", "0", "log-shipper", "a--b", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }

    #[test]
    fn dns_subdomains() {
        for good in ["a", "a.b-c.d", &format!("{}.b", "x".repeat(200))] {
            assert!(is_dns_subdomain(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.-b", "A.b", &"x".repeat(254)] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn port_names() {
        for good in ["http", "h2", "a-1", "abcdefghijklmno"] {
            assert!(is_port_name(good), "{good}");
        }
        for bad in ["", "80", "-a", "a-", "a--b", "HTTP", "a.b", "abcdefghijklmnop"] {
            assert!(!is_port_name(bad), "{bad}");
        }
    }

    #[test]
    fn label_keys_and_values() {
        for good in ["app", "app.kubernetes.io/name", "A_b.c-d", "9"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "B.io/a", "a b", &"x".repeat(64)] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(is_label_value(""));
        assert!(is_label_value("Web_1.2"));
        assert!(!is_label_value("a b"));
        assert!(!is_label_value("a/b"));
        assert!(!is_label_value(".a"));
    }

    #[test]
    fn reserved_keys() {
        assert!(is_reserved_key("sidewall.dev/split"));
        assert!(is_reserved_key("x.sidewall.dev/split"));
        assert!(!is_reserved_key("notsidewall.dev/split"));
        assert!(!is_reserved_key("sidewall.dev"));
        assert!(!is_reserved_key("sidewall.dev.example.com/a"));
    }
}
