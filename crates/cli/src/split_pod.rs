//! The parts of a split pod: each with a namespace and walls of its own, joined by a segment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Pod;
use sidewall_policy::model::{Link, LinkedPart};
use sidewall_policy::world::objects::subject_containers;
use sidewall_sandbox::{LINK_DEVICE, Options, Sandbox, Segment, SegmentKind};

use crate::args::IdentityChoice;
use crate::error::Error;
use crate::identity::Identity;
use crate::parting::Parting;
use crate::scene::Scene;
use crate::walled_pod::{Standing, View, features};
use crate::walls::{Raised, Walls};

/// A split pod with its walls, in which nothing runs yet. Dropping it removes it.
pub struct SplitStanding {
    /// The parts, the primary first, as `parting` has them.
    pub parts: Vec<Standing>,
    /// What joins them, as long as it lives.
    pub segment: Segment,
}

/// The links of a pod's parts, by their addresses: each leads to all the others.
pub fn links(manifest: &Pod, parting: &Parting, addresses: &[Ipv4Addr]) -> Result<Vec<Link>, Error> {
    let mut linked = Vec::new();
    let containers = subject_containers(manifest)?;
    for (part, address) in parting.parts.iter().zip(addresses) {
        let ids = containers.iter().filter(|(_, c)| part.containers.contains(&c.name)).map(|(id, _)| *id);
        let part_of = LinkedPart {
            addresses: BTreeSet::from([IpAddr::V4(*address)]),
            containers: ids.collect(),
            // Its namespace is there before anything runs; what does not listen yet refuses by itself.
            ready: true,
        };
        linked.push((part.name.clone(), part_of));
    }
    let others = |name: &str| {
        let others = linked.iter().filter(|(other, _)| other != name).cloned();
        others.collect::<BTreeMap<_, _>>()
    };
    Ok(linked
        .iter()
        .map(|(name, own)| Link {
            device: LINK_DEVICE.to_owned(),
            addresses: own.addresses.clone(),
            parts: others(name),
        })
        .collect())
}

/// Makes the parts of `manifest` and raises their walls. `manifest` is the scene's own, but for what its containers run and what
/// it is called.
///
/// # Errors
/// Whatever keeps a part or its walls from being made. Nothing is left then.
pub fn prepare(
    scene: &Scene,
    manifest: &Pod,
    parting: &Parting,
    choice: IdentityChoice,
    kind: SegmentKind,
    options: &Options,
) -> Result<SplitStanding, Error> {
    let features = features()?;
    let identity = Identity::choose(choice, features)?;
    let mut options = options.clone();
    let mut segment = Segment::new(kind)?;
    let (mut made, mut addresses) = (Vec::new(), Vec::new());
    for part in &parting.parts {
        let prepared = Sandbox::prepare(&part.of(manifest), &options)?;
        // Processes of two parts share this machine: they should not share a user.
        options.plan.first_id += u32::try_from(part.containers.len()).unwrap_or(u32::MAX);
        addresses.push(segment.join(prepared.pod().netns())?);
        made.push(prepared);
    }
    let mut parts = Vec::new();
    for (prepared, link) in made.into_iter().zip(links(&scene.manifest, parting, &addresses)?) {
        let mut warnings = Vec::new();
        if identity == Identity::Cgroup {
            warnings.extend(Identity::shared_users(prepared.pod().info()));
        }
        let view = View::linked(scene, prepared.pod().info(), identity, Some(link))?;
        let mut walls = Walls::open(prepared.pod(), features)?;
        walls.guard(&view.subject)?;
        let (raised, _) = walls.raise(&view.resolved)?;
        debug_assert!(raised != Raised::None, "a link is rules");
        walls.open_loopback(prepared.pod().netns(), LINK_DEVICE)?;
        parts.push(Standing { prepared, view, walls: Some(walls), raised, logs: features.log, warnings });
    }
    Ok(SplitStanding { parts, segment })
}
