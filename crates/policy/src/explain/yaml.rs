//! A rule as YAML.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{LabelSelector, Peer, PolicyPort};
use sidewall_flow::Direction;

/// A rule as an element of the list of its direction. Its selectors have labels only.
pub fn rule(direction: Direction, peers: &[Peer], ports: &[PolicyPort]) -> String {
    let word = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let peers: Vec<String> = peers.iter().map(peer).collect();
    let ports: Vec<String> = ports.iter().map(port).collect();
    format!("- {word}: [{}]\n  ports: [{}]", peers.join(", "), ports.join(", "))
}

fn peer(peer: &Peer) -> String {
    let mut fields = Vec::new();
    if let Some(name) = &peer.container {
        fields.push(format!("container: {}", scalar(name)));
    }
    if let Some(labels) = &peer.pod_selector {
        fields.push(format!("podSelector: {}", selector(labels)));
    }
    if let Some(labels) = &peer.namespace_selector {
        fields.push(format!("namespaceSelector: {}", selector(labels)));
    }
    if let Some(block) = &peer.ip_block {
        fields.push(format!("ipBlock: {{cidr: {}}}", scalar(&block.cidr)));
    }
    if let Some(entity) = peer.entity {
        fields.push(format!("entity: {entity}"));
    }
    format!("{{{}}}", fields.join(", "))
}

fn selector(selector: &LabelSelector) -> String {
    if selector.match_labels.is_empty() {
        return "{}".to_owned();
    }
    let labels: Vec<String> =
        selector.match_labels.iter().map(|(key, value)| format!("{}: {}", scalar(key), scalar(value))).collect();
    format!("{{matchLabels: {{{}}}}}", labels.join(", "))
}

fn port(port: &PolicyPort) -> String {
    match &port.port {
        None => format!("{{protocol: {}}}", port.protocol),
        Some(IntOrString::Int(number)) => format!("{{protocol: {}, port: {number}}}", port.protocol),
        Some(IntOrString::String(name)) => format!("{{protocol: {}, port: {}}}", port.protocol, scalar(name)),
    }
}

/// A text, quoted where YAML could take it for something else.
pub fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_');
    // What begins with a digit may be a number, unless it is an address with its prefix.
    let number = text.starts_with(|c: char| c.is_ascii_digit()) && !(text.contains('.') && text.contains('/'));
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let safe = starts && !number && text.chars().all(plain) && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if safe { text.to_owned() } else { format!("{text:?}") }
}
