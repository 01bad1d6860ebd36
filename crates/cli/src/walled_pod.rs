//! A pod on this machine with its walls raised before anything in it runs. Whatever fails on the way takes the pod down
//! again, so that nothing ever runs without them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use sidewall_netfilter::Features;
use sidewall_policy::model::Link;
use sidewall_policy::record::{Names, Recorder};
use sidewall_policy::world::Network;
use sidewall_policy::{ResolvedPod, Subject, resolve};
use sidewall_sandbox::{LivePod, Options, PodInfo, Prepared, Running, Sandbox};

use crate::args::IdentityChoice;
use crate::error::Error;
use crate::identity::Identity;
use crate::scene::{Scene, subject, world};
use crate::walls::{Raised, Walls};

/// A pod with its walls, in which nothing runs yet. Dropping it removes it.
pub struct Standing {
    /// The pod.
    pub prepared: Prepared,
    /// What the policies mean for it.
    pub view: View,
    /// The rules; none where none were wanted.
    pub walls: Option<Walls>,
    /// What is in force.
    pub raised: Raised,
    /// Whether this kernel can log what the rules deny.
    pub logs: bool,
    /// What could be better, for the user.
    pub warnings: Vec<String>,
}

/// What has to be known of a living pod to judge its flows.
#[derive(Clone, Debug)]
pub struct View {
    /// How containers are told apart.
    pub identity: Identity,
    /// The pod that policies are resolved for.
    pub subject: Subject,
    /// What they mean for it.
    pub resolved: ResolvedPod,
    /// Where things are.
    pub network: Network,
    /// Who has which address around it.
    pub names: Arc<Names>,
}

impl View {
    /// What policies mean for a living pod.
    ///
    /// # Errors
    /// The pod can't be walled off by that identity.
    pub fn new(scene: &Scene, info: &PodInfo, identity: Identity) -> Result<Self, Error> {
        Self::linked(scene, info, identity, None)
    }

    /// The same of a part of a split pod: the scene's pod is the whole one, and `info` what is known of the part.
    ///
    /// # Errors
    /// As [`View::new`].
    pub fn linked(scene: &Scene, info: &PodInfo, identity: Identity, link: Option<Link>) -> Result<Self, Error> {
        identity.check_made(&scene.manifest, &scene.loaded, info)?;
        let identities = identity.of(&scene.manifest, info)?;
        let mut subject = subject(&scene.manifest, info.addresses.clone(), identities)?;
        subject.interface = Some(info.interface.clone());
        subject.link = link;
        let network = Network { this_node: info.node_addresses.iter().copied().collect(), ..Network::default() };
        let world = scene.world(network.clone());
        let (resolved, names) = (resolve(&world, &subject), Arc::new(Names::of(&world)));
        Ok(Self { identity, subject, resolved, network, names })
    }

    /// The same pod under other policies, with other pods and Services around it.
    pub fn under(&self, scene: &Scene) -> Self {
        let world = world(&scene.loaded, self.network.clone());
        let (resolved, names) = (resolve(&world, &self.subject), Arc::new(Names::of(&world)));
        Self { resolved, names, ..self.clone() }
    }

    /// What tells of its flows.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.resolved.clone(), Arc::clone(&self.names))
    }
}

/// What this kernel can do, for a process that may use it. Whether it is enough turns out with the rules.
///
/// # Errors
/// [`Error::NotRoot`], [`Error::Netlink`].
pub fn features() -> Result<Features, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    Ok(Features::probe()?)
}

/// Makes a pod of `manifest` and raises the walls that the scene's policies ask for. `manifest` is the scene's own, but
/// for what its containers run.
///
/// # Errors
/// Whatever keeps the pod or its walls from being made. Nothing is left then.
pub fn prepare(
    scene: &Scene,
    manifest: &Pod,
    choice: IdentityChoice,
    walls: bool,
    options: &Options,
) -> Result<Standing, Error> {
    prepare_with(scene, manifest, choice, walls, options, features()?)
}

/// The same with what a kernel can do.
fn prepare_with(
    scene: &Scene,
    manifest: &Pod,
    choice: IdentityChoice,
    walls: bool,
    options: &Options,
    features: Features,
) -> Result<Standing, Error> {
    let identity = Identity::choose(choice, features)?;
    let prepared = Sandbox::prepare(manifest, options)?;
    let mut warnings = Vec::new();
    if choice == IdentityChoice::Auto && identity != Identity::Cgroup {
        warnings.push("this kernel can't tell sockets apart by cgroup: containers are told apart by user".to_owned());
    }
    if identity == Identity::Cgroup {
        warnings.extend(Identity::shared_users(prepared.pod().info()));
    }
    let view = View::new(scene, prepared.pod().info(), identity)?;
    let (walls, raised) = if walls { raise(prepared.pod(), &view, features)? } else { (None, Raised::None) };
    Ok(Standing { prepared, view, walls, raised, logs: features.log, warnings })
}

fn raise(pod: &LivePod, view: &View, features: Features) -> Result<(Option<Walls>, Raised), Error> {
    let mut walls = Walls::open(pod, features)?;
    if !view.resolved.is_selected() {
        return Ok((Some(walls), Raised::None));
    }
    walls.guard(&view.subject)?;
    let (raised, _) = walls.raise(&view.resolved)?;
    Ok((Some(walls), raised))
}

impl Standing {
    /// Starts the containers.
    ///
    /// # Errors
    /// [`Error::Sandbox`].
    pub fn start(self) -> Result<(Running, View, Option<Walls>), Error> {
        Ok((self.prepared.start()?, self.view, self.walls))
    }
}
