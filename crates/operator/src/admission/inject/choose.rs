//! Which SidecarProxy a pod gets.

use std::collections::BTreeMap;

use sidewall_api::proxy::SidecarProxy;
use sidewall_api::{PolicyKind, Problem, Severity};
use sidewall_proxy_config::Form;

use super::Request;
use crate::admission::refusal::Refusal;

/// The SidecarProxy that counts, and what is to be said about the others.
pub(super) struct Chosen<'a> {
    /// The one; none where none selects the pod.
    pub proxy: Option<Selected<'a>>,
    /// What is to be said.
    pub warnings: Vec<String>,
}

/// A SidecarProxy that selects the pod and can be used.
pub(super) struct Selected<'a> {
    /// It.
    pub proxy: &'a SidecarProxy,
    /// Whether it names files: the pod brings its proxy along.
    pub by_hand: bool,
}

pub(crate) fn name_of(proxy: &SidecarProxy) -> &str {
    proxy.metadata.name.as_deref().unwrap_or_default()
}

/// What SidecarProxies are sorted by, the oldest first. One without a date is the one that is being written down just now, by
/// hand: as the walls have it, the oldest.
pub(crate) fn age(proxy: &SidecarProxy) -> impl Ord + '_ {
    (proxy.metadata.creation_timestamp.as_ref().map(|time| time.0), name_of(proxy))
}

/// The oldest of those that select the pod and can be used, as the walls have it; of two of one age the first by name.
///
/// Where one selects the pod and none can be used, the pod is refused: it would be created without the proxy for good.
pub(super) fn choose<'a>(request: &Request<'a>, labels: &BTreeMap<String, String>) -> Result<Chosen<'a>, Refusal> {
    let own = |namespace: Option<&str>| namespace.is_none_or(|namespace| namespace == request.namespace.name);
    let mut selecting: Vec<&'a SidecarProxy> = request
        .proxies
        .iter()
        .copied()
        .filter(|proxy| own(proxy.metadata.namespace.as_deref()) && proxy.spec.pod_selector.matches(labels))
        .collect();
    selecting.sort_by_key(|proxy| age(proxy));
    let mut warnings = Vec::new();
    let mut unusable = Vec::new();
    let mut proxy: Option<Selected<'a>> = None;
    for candidate in selecting {
        let form = candidate.spec.form();
        let problems = candidate.validate(form);
        if let Some(problems) = errors(&problems) {
            unusable.push((name_of(candidate).to_owned(), problems));
        } else if let Some(first) = &proxy {
            warnings.push(format!(
                "SidecarProxy {:?} has no effect here: {:?} is older and selects this pod too",
                name_of(candidate),
                name_of(first.proxy),
            ));
        } else {
            proxy = Some(Selected { proxy: candidate, by_hand: form == Form::File });
        }
    }
    for policy in request.unreadable {
        let selects = policy.pod_selector.as_ref().is_none_or(|selector| selector.matches(labels));
        if policy.kind == PolicyKind::SidecarProxy && own(policy.namespace.as_deref()) && selects {
            let problems = errors(&policy.problems).unwrap_or_else(|| "it cannot be read".to_owned());
            unusable.push((policy.name.clone().unwrap_or_default(), problems));
        }
    }
    match (&proxy, unusable.first()) {
        (None, Some((proxy, problems))) => {
            return Err(Refusal::Proxy { proxy: proxy.clone(), problems: problems.clone() });
        }
        _ => warnings.extend(unusable.iter().map(|(name, problems)| {
            format!("SidecarProxy {name:?} selects this pod and cannot be used ({problems}): it closes the pod until it is mended")
        })),
    }
    Ok(Chosen { proxy, warnings })
}

fn errors(problems: &[Problem]) -> Option<String> {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let said: Vec<String> = errors.map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
    (!said.is_empty()).then(|| said.join("; "))
}
