//! Policies of files in a cluster where they are not yet: what would be if they were applied.

use serde::Serialize;
use sidewall_api::{Loaded, Located};
use sidewall_cluster::kube::Resource;
use sidewall_cluster::{Kind, Kinds, Reading};
use sidewall_policy::model::{PolicyKind, PolicyName};
use sidewall_policy::world::objects::namespace;
use sidewall_policy::world::{Unreadable, World};

use crate::error::Error;

/// A policy that was taken to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Supposed {
    /// Which.
    #[serde(flatten)]
    pub policy: PolicyName,
    /// Whether the cluster has another of that name, which was left out.
    pub replaces: bool,
    /// Whether it counts. Of a kind that does not, nothing was taken.
    pub counts: bool,
}

/// Takes policies to be applied: each in the place of the cluster's own of its name, where there is one.
///
/// # Errors
/// [`Error::NotAPolicy`] for files with anything else: the rest is the cluster's own.
pub fn suppose(world: &mut World, files: &Loaded, kinds: &Kinds) -> Result<Vec<Supposed>, Error> {
    let objects = &files.objects;
    for (kind, count) in [
        ("PodSplit", objects.splits.len()),
        ("Pod", objects.pods.len()),
        ("Namespace", objects.namespaces.len()),
        ("Service", objects.services.len()),
        ("EndpointSlice", objects.endpoint_slices.len()),
    ] {
        if count > 0 {
            return Err(Error::NotAPolicy(kind));
        }
    }
    let World { policies, proxies, network_policies, multi_network_policies, unreadable, .. } = world;
    let mut all = Vec::new();
    let mut put = Put { kinds, unreadable, all: &mut all };
    put.these(PolicyKind::ContainerNetworkPolicy, Kind::ContainerNetworkPolicy, &objects.policies, policies);
    put.these(PolicyKind::SidecarProxy, Kind::SidecarProxy, &objects.proxies, proxies);
    put.these(PolicyKind::NetworkPolicy, Kind::NetworkPolicy, &objects.network_policies, network_policies);
    let (files, own) = (&objects.multi_network_policies, multi_network_policies);
    put.these(PolicyKind::MultiNetworkPolicy, Kind::MultiNetworkPolicy, files, own);
    Ok(all)
}

/// Puts policies into a world.
struct Put<'a> {
    kinds: &'a Kinds,
    unreadable: &'a mut Vec<Unreadable>,
    all: &'a mut Vec<Supposed>,
}

impl Put<'_> {
    /// Puts those of a kind.
    fn these<T: Resource + Clone>(&mut self, kind: PolicyKind, of: Kind, files: &[Located<T>], own: &mut Vec<T>) {
        let counts = self.kinds.reading(of) != Reading::Off;
        for file in files {
            let policy = PolicyName { kind, namespace: file.namespace(), name: file.name() };
            let before = own.len() + self.unreadable.len();
            if counts {
                own.retain(|other| {
                    let other = other.meta();
                    namespace(other.namespace.as_deref()) != policy.namespace
                        || other.name.as_ref() != Some(&policy.name)
                });
                self.unreadable.retain(|other| {
                    other.kind != kind
                        || other.namespace.as_ref() != Some(&policy.namespace)
                        || other.name.as_ref() != Some(&policy.name)
                });
            }
            let replaces = own.len() + self.unreadable.len() < before;
            if counts {
                own.push(file.object.clone());
            }
            self.all.push(Supposed { policy, replaces, counts });
        }
    }
}

impl Supposed {
    /// What its author should know, of a pod of that namespace.
    pub fn warning(&self, of: &str) -> Option<String> {
        let policy = &self.policy;
        if !self.counts {
            return Some(format!("{policy} was left out: policies of its kind do not count here"));
        }
        (policy.namespace != of).then(|| {
            format!(
                "{policy} is not about this pod, which is in the namespace {of}: say so in the policy's metadata.namespace"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewall_api::load::load;

    fn policy(kind: &str, group: &str, namespace: &str, name: &str) -> String {
        format!(
            "apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress]}}\n---\n"
        )
    }

    fn ours(namespace: &str, name: &str) -> String {
        policy("ContainerNetworkPolicy", "sidewall.dev/v1alpha1", namespace, name)
    }

    fn cluster() -> World {
        let own = load("own", &[ours("shop", "a"), ours("other", "a")].concat());
        assert!(!own.has_errors(), "{:?}", own.diagnostics);
        let odd = |kind| Unreadable {
            kind,
            namespace: Some("shop".to_owned()),
            name: Some("odd".to_owned()),
            pod_selector: None,
            reason: "news".to_owned(),
        };
        let policies = own.objects.policies.into_iter().map(|policy| policy.object).collect();
        World {
            policies,
            unreadable: vec![odd(PolicyKind::ContainerNetworkPolicy), odd(PolicyKind::SidecarProxy)],
            ..World::default()
        }
    }

    #[test]
    fn a_policy_takes_the_place_of_its_own_name_only() {
        let mut world = cluster();
        let files = load("f", &[ours("shop", "a"), ours("shop", "odd"), ours("shop", "new")].concat());
        let supposed = suppose(&mut world, &files, &Kinds::default()).unwrap();
        let told: Vec<_> = supposed.iter().map(|one| (one.policy.name.as_str(), one.replaces, one.counts)).collect();
        assert_eq!(told, [("a", true, true), ("odd", true, true), ("new", false, true)]);
        assert_eq!(world.policies.len(), 4);
        // A proxy of the same name isolates as before.
        let unreadable: Vec<_> = world.unreadable.iter().map(|policy| policy.kind).collect();
        assert_eq!(unreadable, [PolicyKind::SidecarProxy]);
        assert_eq!(supposed[0].warning("shop"), None);
        assert!(supposed[0].warning("default").is_some_and(|text| text.contains("metadata.namespace")));
    }

    #[test]
    fn what_does_not_count_is_left_out_and_said() {
        let mut world = cluster();
        let files = load("f", &policy("NetworkPolicy", "networking.k8s.io/v1", "shop", "net"));
        assert_eq!(files.objects.network_policies.len(), 1, "{:?}", files.diagnostics);
        let supposed = suppose(&mut world, &files, &Kinds::default()).unwrap();
        assert!(!supposed[0].counts && world.network_policies.is_empty());
        assert!(supposed[0].warning("shop").is_some_and(|text| text.contains("do not count")));
        let kinds = Kinds { network_policies: true, ..Kinds::default() };
        assert_eq!(suppose(&mut world, &files, &kinds).unwrap()[0].warning("shop"), None);
        assert_eq!(world.network_policies.len(), 1);
    }

    #[test]
    fn only_policies_are_taken() {
        let files = load("f", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
        let error = suppose(&mut cluster(), &files, &Kinds::default()).unwrap_err();
        assert!(error.to_string().contains("Namespace") && error.exit_code() == 2, "{error}");
    }
}
