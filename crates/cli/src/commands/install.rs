//! `sidewall install`: the product as plain manifests.
//!
//! They are rendered from the Helm chart when the chart changes (`deploy/manifests`), and are part of this program. What an option
//! says is put in by exchanging texts that stand for one thing only, and the tests hold that against what Helm itself renders.

use sha2::{Digest, Sha256};

use super::Answer;
use crate::args::Install;
use crate::args::install::Preset;
use crate::error::Error;
use crate::screen::Screen;

#[cfg(test)]
mod tests;

/// The namespace that the manifests were rendered for.
const NAMESPACE: &str = "sidewall-system";
/// What goes before the images' names in them.
const REPOSITORY: &str = "sidewall";
/// The images' tag in them.
const TAG: &str = env!("CARGO_PKG_VERSION");
/// By this annotation pods are exchanged when their configuration changes.
const CHECKSUM: &str = "checksum/configuration: ";

/// The manifests of a preset.
struct Manifests {
    whole: &'static str,
    walls: &'static str,
    proxies: &'static str,
    uninstall: &'static str,
}

macro_rules! manifests {
    ($preset:literal) => {
        Manifests {
            whole: include_str!(concat!("../../../../deploy/manifests/", $preset, ".yaml")),
            walls: include_str!(concat!("../../../../deploy/manifests/", $preset, "-walls.yaml")),
            proxies: include_str!(concat!("../../../../deploy/manifests/", $preset, "-proxies.yaml")),
            uninstall: include_str!(concat!("../../../../deploy/manifests/", $preset, "-uninstall.yaml")),
        }
    };
}

fn of(preset: Preset) -> Manifests {
    match preset {
        Preset::Kubeadm => manifests!("kubeadm"),
        Preset::K3s => manifests!("k3s"),
        Preset::Talos => manifests!("talos"),
        Preset::Bottlerocket => manifests!("bottlerocket"),
        Preset::Cos => manifests!("cos"),
        Preset::Openshift => manifests!("openshift"),
    }
}

/// Writes the manifests.
pub fn run(options: &Install, screen: &Screen) -> Result<Answer, Error> {
    screen.line(written(options).trim_end());
    Ok(Answer::Yes)
}

/// The manifests that are asked for.
fn written(options: &Install) -> String {
    let all = of(options.preset);
    let manifest = match options {
        Install { uninstall: true, .. } => all.uninstall,
        Install { no_operator: true, .. } => all.walls,
        Install { no_agent: true, .. } => all.proxies,
        _ => all.whole,
    };
    let manifest = changed(manifest, options);
    // The kinds first: nothing needs them, but what is applied last is not there longest.
    if options.no_crds || options.uninstall { manifest } else { sidewall_api::crd::crd_yaml() + &manifest }
}

/// A manifest with what the options say.
fn changed(manifest: &str, options: &Install) -> String {
    let images = [
        ("sidewall-agent", &options.agent_image),
        ("sidewall-operator", &options.operator_image),
        ("sidewall-proxy", &options.proxy_image),
    ];
    let mut text = manifest.replace(NAMESPACE, &options.namespace.to_string());
    for (name, whole) in images {
        let rendered = format!("\"{REPOSITORY}/{name}:{TAG}\"");
        let wanted = match whole {
            Some(image) => format!("\"{image}\""),
            None => {
                let repository = options.image_repository.as_ref().map(ToString::to_string);
                let tag = options.tag.as_ref().map(ToString::to_string);
                let (repository, tag) =
                    (repository.unwrap_or_else(|| REPOSITORY.to_owned()), tag.unwrap_or_else(|| TAG.to_owned()));
                format!("\"{repository}/{name}:{tag}\"")
            }
        };
        text = text.replace(&rendered, &wanted);
    }
    if text == manifest { text } else { with_checksum(&text) }
}

/// With other checksums of configurations: what was exchanged may stand in one, and its pods have to be exchanged then.
fn with_checksum(text: &str) -> String {
    let digest: String = Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let line = |line: &str| match line.split_once(CHECKSUM) {
        Some((before, _)) if before.trim().is_empty() => format!("{before}{CHECKSUM}\"{digest}\"\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
