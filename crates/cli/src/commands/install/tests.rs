use clap::{Parser, ValueEnum};

use super::*;
use crate::args::{Cli, Command};

fn options(arguments: &[&str]) -> Result<Install, String> {
    let all = ["sidewall", "install"].iter().chain(arguments);
    match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
        Command::Install(options) => Ok(options),
        other => panic!("{other:?}"),
    }
}

fn text(arguments: &[&str]) -> String {
    written(&options(arguments).unwrap())
}

/// The kind and name of each document.
fn objects(text: &str) -> Vec<String> {
    let documents = text.split("\n---\n").filter(|document| document.contains("\nkind: "));
    let named = documents.map(|document| {
        let field = |start: &str| document.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("?").to_owned();
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
        format!("{}/{}", kind.unwrap_or("?"), field("  name: "))
    });
    named.collect()
}

#[test]
fn every_preset_has_all_and_its_halves() {
    for preset in ["kubeadm", "k3s", "talos", "bottlerocket", "cos", "openshift"] {
        let of = |more: &[&str]| objects(&text(&[&["--preset", preset], more].concat()));
        let (whole, walls, proxies) = (of(&[]), of(&["--no-operator"]), of(&["--no-agent"]));
        let crd = "CustomResourceDefinition/sidecarproxies.sidewall.dev".to_owned();
        for all in [&whole, &walls, &proxies] {
            assert!(all.contains(&crd) && all.contains(&"Namespace/sidewall-system".to_owned()), "{all:?}");
            assert!(all.contains(&"ValidatingAdmissionPolicy/sidewall-reserved-pod-keys".to_owned()), "{all:?}");
        }
        let (agent, operator) = ("DaemonSet/sidewall-agent".to_owned(), "Deployment/sidewall-operator".to_owned());
        assert!(whole.contains(&agent) && whole.contains(&operator), "{whole:?}");
        assert!(walls.contains(&agent) && !walls.iter().any(|object| object.contains("operator")), "{walls:?}");
        assert!(proxies.contains(&operator) && !proxies.iter().any(|object| object.contains("agent")), "{proxies:?}");
        let namespace = |object: &String| object.starts_with("Namespace/");
        let first_of_ours = whole.iter().position(|object| !object.starts_with("CustomResourceDefinition/"));
        assert_eq!(first_of_ours, whole.iter().position(namespace), "what is in the namespace comes after it");
        assert!(!of(&["--no-crds"]).contains(&crd));
        assert_eq!(of(&["--uninstall"]), [agent], "{preset}");
    }
}

#[test]
fn without_options_it_is_what_is_in_the_repository() {
    assert_eq!(text(&["--no-crds"]), of(Preset::Kubeadm).whole);
    assert_eq!(text(&["--no-crds", "--tag", TAG, "--namespace", NAMESPACE]), of(Preset::Kubeadm).whole);
}

#[test]
fn images_are_named_in_one_place_each() {
    for preset in Preset::value_variants() {
        let whole = of(*preset).whole;
        for name in ["sidewall-agent", "sidewall-operator", "sidewall-proxy"] {
            assert_eq!(whole.matches(&format!("\"{REPOSITORY}/{name}:{TAG}\"")).count(), 1, "{preset:?} {name}");
        }
        // And nothing else is named as the namespace is.
        assert_eq!(whole.replace(NAMESPACE, "").matches("sidewall-sys").count(), 0);
    }
    let all = text(&["--image-repository", "registry.example:5000/a", "--tag", "v2", "--proxy-image", "p@sha256:1"]);
    for image in
        ["registry.example:5000/a/sidewall-agent:v2", "registry.example:5000/a/sidewall-operator:v2", "p@sha256:1"]
    {
        assert!(all.contains(&format!("image: \"{image}\"")), "{image}");
    }
    assert!(!all.contains(&format!(":{TAG}\"")));
}

#[test]
fn pods_are_exchanged_when_what_they_read_changes() {
    let checksums = |arguments: &[&str]| -> Vec<String> {
        text(arguments).lines().filter(|line| line.contains(CHECKSUM)).map(str::to_owned).collect()
    };
    let (plain, other) = (checksums(&[]), checksums(&["--proxy-image", "a:1"]));
    assert_eq!((plain.len(), other.len()), (2, 2));
    assert!(plain.iter().all(|line| !other.contains(line)), "{plain:?} {other:?}");
    assert_eq!(other, checksums(&["--proxy-image", "a:1"]));
    assert_ne!(other, checksums(&["--proxy-image", "a:2"]));
}

#[test]
fn the_namespace_is_the_same_everywhere() {
    let all = text(&["--namespace", "walls"]);
    assert!(!all.contains(NAMESPACE));
    assert!(
        all.contains("'system:serviceaccount:walls:sidewall-operator'")
            && all.contains("daemonSet: walls/sidewall-agent")
    );
}

#[test]
fn what_can_not_be_is_refused() {
    for wrong in [
        &["--namespace", "kube-system"][..],
        &["--namespace", "default"],
        &["--namespace", "A"],
        &["--preset", "kops"],
        &["--tag", "a b"],
        &["--tag", "-a"],
        &["--image-repository", "a\"\nb"],
        &["--image-repository", "a/"],
        &["--proxy-image", ""],
        &["--no-agent", "--no-operator"],
        &["--no-operator", "--proxy-image", "a"],
        &["--uninstall", "--no-agent"],
    ] {
        assert!(options(wrong).is_err(), "{wrong:?}");
    }
}
