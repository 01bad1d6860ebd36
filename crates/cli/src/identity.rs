//! How the kernel tells a pod's containers apart, and whether it can.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, SecurityContext};
use sidewall_api::enforcement::IdentityKind;
use sidewall_api::{Loaded, SidecarProxy};
use sidewall_netfilter::Features;
use sidewall_policy::model::{Identities, UserIdentities};
use sidewall_policy::world::objects::{namespace, subject_containers};
use sidewall_sandbox::PodInfo;

use crate::args::IdentityChoice;
use crate::error::Error;

/// An identity that was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By cgroup.
    Cgroup,
    /// By user.
    Uid,
    /// By group.
    Gid,
}

/// A container as far as identities go.
struct Bearer<'a> {
    name: &'a str,
    uid: Option<i64>,
    gid: Option<i64>,
}

impl Identity {
    /// What to use where no kernel is asked: `auto` is what a usual node has.
    pub const fn imagined(choice: IdentityChoice) -> Self {
        match choice {
            IdentityChoice::Auto | IdentityChoice::Cgroup => Self::Cgroup,
            IdentityChoice::Uid => Self::Uid,
            IdentityChoice::Gid => Self::Gid,
        }
    }

    /// What to use on this kernel.
    ///
    /// # Errors
    /// [`Error::NoCgroupMatch`] where cgroups were asked for and the kernel can't match them.
    pub fn choose(choice: IdentityChoice, features: Features) -> Result<Self, Error> {
        match choice {
            IdentityChoice::Cgroup if !features.socket_cgroup => Err(Error::NoCgroupMatch),
            IdentityChoice::Auto if !features.socket_cgroup => Ok(Self::Uid),
            choice => Ok(Self::imagined(choice)),
        }
    }

    /// What a node tells that it uses.
    pub const fn reported(kind: IdentityKind) -> Self {
        match kind {
            IdentityKind::Cgroup => Self::Cgroup,
            IdentityKind::Uid => Self::Uid,
            IdentityKind::Gid => Self::Gid,
        }
    }

    /// The same where there is no kernel to have cgroups or users of: what policies mean does not depend on them.
    pub fn unnumbered(self) -> Identities {
        match self {
            Self::Cgroup => Identities::Cgroup { level: 0, containers: BTreeMap::new(), pods_level: 0, pods: 0 },
            Self::Uid => Identities::Uid(UserIdentities::default()),
            Self::Gid => Identities::Gid(UserIdentities::default()),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Uid => "uid",
            Self::Gid => "gid",
        }
    }

    /// Whether a manifest's containers can be told apart, as far as it says under whom they run.
    ///
    /// # Errors
    /// [`Error::Unenforceable`].
    pub fn check<'a>(self, manifest: &Pod, proxies: impl IntoIterator<Item = &'a SidecarProxy>) -> Result<(), Error> {
        let spec = manifest.spec.as_ref();
        let common = spec.and_then(|spec| spec.security_context.as_ref());
        let containers = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
        let containers = containers.chain(spec.into_iter().flat_map(|spec| &spec.containers));
        let id = |own: &Option<SecurityContext>, of: fn(&SecurityContext) -> Option<i64>, all: Option<i64>| {
            own.as_ref().and_then(of).or(all)
        };
        let bearers: Vec<Bearer<'_>> = containers
            .map(|container| Bearer {
                name: &container.name,
                uid: id(&container.security_context, |c| c.run_as_user, common.and_then(|c| c.run_as_user)),
                gid: id(&container.security_context, |c| c.run_as_group, common.and_then(|c| c.run_as_group)),
            })
            .collect();
        self.verdict(manifest, proxies, &bearers)
    }

    /// Whether a pod's containers can be told apart, by the users and groups that they have.
    ///
    /// # Errors
    /// [`Error::Unenforceable`].
    pub fn check_made(self, manifest: &Pod, loaded: &Loaded, info: &PodInfo) -> Result<(), Error> {
        let bearers: Vec<Bearer<'_>> = info
            .containers
            .iter()
            .map(|c| Bearer { name: &c.name, uid: Some(c.uid.into()), gid: Some(c.gid.into()) })
            .collect();
        self.verdict(manifest, proxies(loaded), &bearers)
    }

    fn verdict<'a>(
        self,
        manifest: &Pod,
        proxies: impl IntoIterator<Item = &'a SidecarProxy>,
        bearers: &[Bearer<'_>],
    ) -> Result<(), Error> {
        let mut reasons = BTreeSet::new();
        match self {
            Self::Cgroup => {}
            Self::Uid => apart(bearers, "runAsUser", |b| b.uid, &mut reasons),
            Self::Gid => apart(bearers, "runAsGroup", |b| b.gid, &mut reasons),
        }
        let identity = !reasons.is_empty();
        proxy_alone(manifest, proxies, bearers, &mut reasons);
        if reasons.is_empty() {
            return Ok(());
        }
        let name = manifest.metadata.name.clone().unwrap_or_default();
        Err(Error::Unenforceable {
            pod: format!("{}/{name}", namespace(manifest.metadata.namespace.as_deref())),
            by: identity.then_some(self.name()),
            reasons: reasons.into_iter().collect(),
        })
    }

    /// Containers that share a user: the kernel tells their sockets apart by cgroup, but one can trace or signal the
    /// other, and join its SO_REUSEPORT listeners.
    pub fn shared_users(info: &PodInfo) -> Vec<String> {
        let mut by_user: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for container in &info.containers {
            by_user.entry(container.uid).or_default().push(&container.name);
        }
        let shared = by_user.into_iter().filter(|(_, names)| names.len() > 1);
        shared.map(|(uid, names)| {
            format!(
                "{} run as the same user {uid}: their sockets are told apart, but one can take over the other's process, \
                 or join its listeners; give each a runAsUser of its own",
                names.join(" and ")
            )
        })
        .collect()
    }

    /// How rules are to tell the containers of a pod apart.
    ///
    /// # Errors
    /// The pod has too many containers.
    pub fn of(self, manifest: &Pod, info: &PodInfo) -> Result<Identities, Error> {
        let mut containers = BTreeMap::new();
        for (id, container) in subject_containers(manifest)? {
            // Ephemeral containers are not run here and have no identity.
            if let Ok(made) = info.container(&container.name) {
                containers.insert(id, made);
            }
        }
        let depth = |level: u32| u8::try_from(level).unwrap_or(u8::MAX);
        Ok(match self {
            Self::Cgroup => Identities::Cgroup {
                level: info.containers.first().map_or(0, |container| depth(container.cgroup.level)),
                containers: containers.iter().map(|(id, made)| (*id, BTreeSet::from([made.cgroup.id]))).collect(),
                pods_level: depth(info.pods_cgroup.level),
                pods: info.pods_cgroup.id,
            },
            // The machine's own processes are root's: containers never are.
            Self::Uid => Identities::Uid(UserIdentities {
                containers: containers.iter().map(|(id, made)| (*id, made.uid)).collect(),
                node: BTreeSet::from([0]),
            }),
            Self::Gid => Identities::Gid(UserIdentities {
                containers: containers.iter().map(|(id, made)| (*id, made.gid)).collect(),
                node: BTreeSet::from([0]),
            }),
        })
    }
}

/// The proxies of files.
pub fn proxies(loaded: &Loaded) -> impl Iterator<Item = &SidecarProxy> {
    loaded.objects.proxies.iter().map(|proxy| &proxy.object)
}

fn apart(bearers: &[Bearer<'_>], field: &str, number: fn(&Bearer<'_>) -> Option<i64>, reasons: &mut BTreeSet<String>) {
    let mut seen: BTreeMap<i64, &str> = BTreeMap::new();
    for bearer in bearers {
        let Some(id) = number(bearer) else { continue };
        if id == 0 {
            reasons.insert(format!("{} has {field} 0, which is the node's own: give it another", bearer.name));
        }
        if let Some(other) = seen.insert(id, bearer.name) {
            reasons.insert(format!("{other} and {} both have {field} {id}: give each its own", bearer.name));
        }
    }
}

/// A process of the proxy's user could join its listeners and take passwords, whatever the identity.
fn proxy_alone<'a>(
    manifest: &Pod,
    proxies: impl IntoIterator<Item = &'a SidecarProxy>,
    bearers: &[Bearer<'_>],
    reasons: &mut BTreeSet<String>,
) {
    let here = namespace(manifest.metadata.namespace.as_deref());
    let labels = manifest.metadata.labels.clone().unwrap_or_default();
    for proxy in proxies {
        if namespace(proxy.metadata.namespace.as_deref()) != here || !proxy.spec.pod_selector.matches(&labels) {
            continue;
        }
        let name = &proxy.spec.container_name;
        let Some(own) = bearers.iter().find(|bearer| bearer.name == name) else { continue };
        for other in bearers.iter().filter(|b| b.name != name && b.uid.is_some() && b.uid == own.uid) {
            reasons.insert(format!(
                "{} has the runAsUser of the proxy {name}, so it could join the proxy's listeners and take passwords: \
                 give it another",
                other.name
            ));
        }
    }
}
