//! What is found of a SidecarProxy.

use sidewall_api::SidecarProxy;
use sidewall_proxy_config::Form;

use super::facts::{Facts, Permission};
use super::findings::Findings;
use super::uses::{Access, Uses};
use super::{list, pods, rivals};
use crate::admission::inject::{self, Own};
use crate::admission::review::wire::{Cause, short};
use crate::names::{INJECTION_ENABLED, LABEL_INJECTION};
use crate::proxies::secrets::{Use, needed};
use crate::settings::Settings;

/// The longest reason of somebody else's that is passed on, in characters.
const FOREIGN_MAX: usize = 200;

/// A SidecarProxy that is to be stored.
pub(super) struct Asked<'a> {
    pub proxy: &'a SidecarProxy,
    /// What it newly uses.
    pub uses: &'a Uses,
    pub namespace: &'a str,
    /// Who writes it.
    pub user: &'a str,
    /// Whether there was one before.
    pub update: bool,
}

/// Everything that can be said of it.
pub(super) fn check(asked: &Asked<'_>, facts: &Facts<'_>, settings: &Settings, found: &mut Findings) {
    let Asked { proxy, uses, .. } = *asked;
    let by_hand = proxy.spec.form() == Form::File;
    if by_hand {
        let container = &proxy.spec.container_name;
        found.warn(format!(
            "names files, so that nothing is injected: each pod must bring container {container:?} along, with a proxy and its files; name Secrets to have it injected"
        ));
    } else {
        ports(proxy, settings, found);
        if let Err(refusal) = inject::check_names(inject::name_of(proxy), &needed(proxy)) {
            found.invalid(refusal.to_string());
        }
        namespace(asked, facts, settings, found);
    }
    for (access, used) in &uses.0 {
        let permission = facts.access.get(access);
        if permission != Some(&Permission::Allowed) {
            refuse(asked, access, used, permission, found);
        } else if let Access::Secret(name) = access {
            let place = format!("{}/{name}", asked.namespace);
            super::secrets::check(&place, used, facts.contents.get(name), facts.now, found);
        }
    }
    rivals::check(proxy, facts, found);
    pods::check_proxy(proxy, by_hand, asked.namespace, facts, found);
}

/// A port that the proxy has for itself: every pod would be refused.
fn ports(proxy: &SidecarProxy, settings: &Settings, found: &mut Findings) {
    if let Err(refusal) = Own::of(proxy, &settings.proxy.ports).check(proxy, &[]) {
        found.invalid(refusal.to_string());
    }
}

/// Says so where the pods of the namespace get no proxy at all.
fn namespace(asked: &Asked<'_>, facts: &Facts<'_>, settings: &Settings, found: &mut Findings) {
    let name = asked.namespace;
    let closes = "and yet this closes the pods that it selects";
    if settings.excluded_namespaces.contains(name) {
        found.warn(format!("the operator leaves namespace {name:?} alone: no pod there gets a proxy, {closes}"));
        return;
    }
    let Some(known) = facts.namespace else { return };
    if settings.namespace_selector.matches(&known.labels) {
        return;
    }
    let usual = settings.namespace_selector == sidewall_api::LabelSelector::label(LABEL_INJECTION, INJECTION_ENABLED);
    let advice = if usual {
        format!("kubectl label namespace {name} {LABEL_INJECTION}={INJECTION_ENABLED}")
    } else {
        "give it the labels that the operator's namespaceSelector asks for".to_owned()
    };
    found.warn(format!("no pod of namespace {name:?} gets a proxy, {closes}: {advice}"));
}

fn refuse(asked: &Asked<'_>, access: &Access, used: &Use, permission: Option<&Permission>, found: &mut Findings) {
    let Asked { namespace, user, .. } = *asked;
    let fields = list(used.fields.iter().map(String::as_str));
    let verb = if used.fields.len() == 1 { "names" } else { "name" };
    let (what, right) = match access {
        Access::Secret(name) => (
            format!("get Secret {namespace}/{name}, which {fields} {verb}"),
            format!(
                "name a Secret that this user may read, or grant `get` on this one (resources: [secrets], resourceNames: [{name}])"
            ),
        ),
        Access::Certificates => (
            format!(
                "create cert-manager's Certificates in namespace {namespace}, for which {fields} {}",
                if verb == "names" { "asks" } else { "ask" }
            ),
            "bring the Secret, say `source: SelfManaged`, or grant `create` on certificates.cert-manager.io".to_owned(),
        ),
    };
    match permission {
        Some(Permission::Denied) => {
            let again = if asked.update {
                "; who changes a listener that uses it, or the pods that get it, needs the right as who wrote it did"
            } else {
                ""
            };
            found.refuse(Cause::Forbidden, format!("user {user:?} may not {what}: {right}{again}"));
        }
        // What nobody has asked is as little known as what nobody has answered.
        _ => {
            let why = match permission {
                Some(Permission::Unanswered(why)) => format!(" ({})", short(why, FOREIGN_MAX)),
                _ => String::new(),
            };
            found.refuse(
                Cause::Unavailable,
                format!("it could not be found out whether user {user:?} may {what}{why}: try again in a moment"),
            );
        }
    }
}
