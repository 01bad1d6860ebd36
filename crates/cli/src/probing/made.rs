//! A pod that is made for probes alone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sidewall_netns::{Links, NetNs};
use sidewall_sandbox::{Options, SegmentKind};

use crate::args::IdentityChoice;
use crate::error::Error;
use crate::parting::Parting;
use crate::scene::Scene;
use crate::split_pod::{self, SplitStanding};
use crate::walled_pod::{Standing, prepare};

/// What stands for a container's command, which is never run.
const NOTHING: &str = "/bin/true";

/// Makes the pod and the network around it: a namespace that has every address of `remotes`, so that packets really go
/// there and come from there, and nothing leaves this machine.
pub fn make(scene: &Scene, choice: IdentityChoice, state: &Path, remotes: &[IpAddr]) -> Result<Standing, Error> {
    // Before anything is made: without privileges the answer should be that.
    crate::walled_pod::features()?;
    prepare(scene, &skeleton(&scene.manifest), choice, true, &options(state, remotes)?)
}

/// Makes the parts of a split pod, in such a network.
pub fn make_split(
    scene: &Scene,
    parting: &Parting,
    kind: SegmentKind,
    choice: IdentityChoice,
    state: &Path,
    remotes: &[IpAddr],
) -> Result<SplitStanding, Error> {
    crate::walled_pod::features()?;
    split_pod::prepare(scene, &skeleton(&scene.manifest), parting, choice, kind, &options(state, remotes)?)
}

fn options(state: &Path, remotes: &[IpAddr]) -> Result<Options, Error> {
    let node = NetNs::new()?;
    let mut links = Links::of(&node)?;
    links.set_up("lo")?;
    for address in remotes.iter().collect::<BTreeSet<_>>() {
        links.add_address("lo", IpNet::from(*address))?;
    }
    Ok(Options { state_root: state.to_owned(), node: Some(node), ..Options::default() })
}

/// The containers, users and ports of a manifest, and nothing that runs.
fn skeleton(manifest: &Pod) -> Pod {
    let spec = manifest.spec.clone().unwrap_or_default();
    let name = manifest.metadata.name.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            // A pod of the manifest's own name may be running.
            name: Some(format!("{}.probe-{}", name.chars().take(200).collect::<String>(), std::process::id())),
            namespace: manifest.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            init_containers: spec.init_containers.map(|all| all.into_iter().map(bone).collect()),
            containers: spec.containers.into_iter().map(bone).collect(),
            host_network: spec.host_network,
            share_process_namespace: spec.share_process_namespace,
            security_context: spec.security_context.map(|context| PodSecurityContext {
                run_as_user: context.run_as_user,
                run_as_group: context.run_as_group,
                sysctls: context.sysctls,
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn bone(container: Container) -> Container {
    Container {
        name: container.name,
        command: Some(vec![NOTHING.to_owned()]),
        ports: container.ports.map(|ports| {
            ports
                .into_iter()
                .map(|port| k8s_openapi::api::core::v1::ContainerPort { host_port: None, host_ip: None, ..port })
                .collect()
        }),
        restart_policy: container.restart_policy,
        // What would make the walls worthless stays, and is refused.
        security_context: container.security_context.map(|context| SecurityContext {
            run_as_user: context.run_as_user,
            run_as_group: context.run_as_group,
            privileged: context.privileged,
            capabilities: context.capabilities,
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}
