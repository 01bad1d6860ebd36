//! `sidewall check`: mistakes in files, each at its place.

use serde::Serialize;
use sidewall_api::{Diagnostic, Problem};
use sidewall_policy::lint::{TellApart, lint, privileges};
use sidewall_policy::model::Identities;
use sidewall_policy::resolve;
use sidewall_policy::world::Network;
use std::collections::{BTreeMap, BTreeSet};

use super::Answer;
use crate::args::{Check, IdentityChoice};
use crate::error::Error;
use crate::inputs;
use crate::scene::{self, subject};
use crate::screen::Screen;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    ok: bool,
    errors: usize,
    warnings: usize,
    objects: BTreeMap<&'static str, usize>,
    diagnostics: &'a [Diagnostic],
}

/// Reads the files and shows what is wrong with them.
///
/// # Errors
/// [`Error::Read`].
pub fn run(options: &Check, screen: &Screen) -> Result<Answer, Error> {
    let loaded = inputs::read(&options.files)?;
    let mut diagnostics = loaded.diagnostics.clone();
    if !loaded.has_errors() {
        diagnostics.extend(about_pods(&loaded, options.identity.identity));
    }
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let objects = &loaded.objects;
    let counts = BTreeMap::from([
        ("ContainerNetworkPolicy", objects.policies.len()),
        ("NetworkPolicy", objects.network_policies.len()),
        ("MultiNetworkPolicy", objects.multi_network_policies.len()),
        ("SidecarProxy", objects.proxies.len()),
        ("PodSplit", objects.splits.len()),
        ("Pod", objects.pods.len()),
        ("Namespace", objects.namespaces.len()),
        ("Service", objects.services.len()),
        ("EndpointSlice", objects.endpoint_slices.len()),
    ]);
    if screen.is_json() {
        screen.value(&Report { ok: errors == 0, errors, warnings, objects: counts, diagnostics: &diagnostics });
    } else {
        screen.diagnostics(&diagnostics);
        let found: Vec<String> =
            counts.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
        let found = if found.is_empty() { "no objects".to_owned() } else { found.join(", ") };
        let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        screen.line(&format!("{found}: {}, {}", plural(errors, "error"), plural(warnings, "warning")));
    }
    Ok(match (errors, warnings) {
        (1.., _) => Answer::BadInput,
        (0, 1..) if options.strict => Answer::No,
        _ => Answer::Yes,
    })
}

/// What the policies' authors probably did not mean; and what the policies come to for each of the pods, where that is not
/// what it seems.
fn about_pods(loaded: &sidewall_api::Loaded, identity: IdentityChoice) -> Vec<Diagnostic> {
    let world = scene::world(loaded, Network::default());
    let mut found: Vec<Diagnostic> =
        lint(&world).iter().filter_map(|finding| scene::at_policy(loaded, &finding.policy, &finding.problem)).collect();
    let apart = match identity {
        IdentityChoice::Auto => TellApart::Either,
        IdentityChoice::Cgroup => TellApart::Cgroup,
        IdentityChoice::Uid => TellApart::Uid,
        IdentityChoice::Gid => TellApart::Gid,
    };
    let mut seen = BTreeSet::new();
    for pod in &loaded.objects.pods {
        let addresses = sidewall_policy::world::objects::pod(&pod.object).addresses;
        let identities = Identities::Cgroup { level: 0, containers: BTreeMap::new(), pods_level: 0, pods: 0 };
        match subject(&pod.object, addresses, identities) {
            Ok(subject) => {
                let resolved = resolve(&world, &subject);
                if resolved.is_selected() {
                    let problems = privileges(&pod.object, apart);
                    found.extend(problems.iter().map(|problem| pod.place.diagnostic(problem)));
                }
                for note in resolved.notes {
                    // The same is true of many pods of one Deployment.
                    if seen.insert(note.clone()) {
                        found.extend(scene::place(loaded, Some(pod), &note));
                    }
                }
            }
            Err(error) => {
                let path = sidewall_api::FieldPath::spec().key("containers");
                found.push(pod.place.diagnostic(&Problem::error(path, error.to_string())));
            }
        }
    }
    found
}
