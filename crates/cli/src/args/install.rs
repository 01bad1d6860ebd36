//! `sidewall install`.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use sidewall_api::names::is_dns_label;

/// `sidewall install`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is written is what `helm install` would install with the same preset: the kinds, the agent on each node, the operator, and the
rights and admission policies of both. One `apply` is enough. The API server then waits for the operator where pods of namespaces
are made that opted in, and where policies are written; nowhere else.

Anything that these options do not say is a matter for the Helm chart, or for changes to what is written (kustomize takes it).

To uninstall, in this order, so that nobody waits for who is gone, and pods that run keep their proxies and walls until you say:
  kubectl delete mutatingwebhookconfiguration sidewall-inject
  kubectl delete validatingwebhookconfiguration sidewall-validate
  sidewall install --uninstall | kubectl apply -f -
  kubectl -n sidewall-system rollout status daemonset/sidewall-agent
  sidewall install --no-crds | kubectl delete -f -
Without --no-crds the kinds go too, and with them every policy and every SidecarProxy.

Examples:
  sidewall install | kubectl apply -f -
  sidewall install --preset k3s --image-repository registry.example/sidewall | kubectl apply -f -
  sidewall install --no-operator > walls.yaml")]
pub struct Install {
    /// Where things are on the nodes
    #[arg(long, value_enum, default_value_t, value_name = "PRESET")]
    pub preset: Preset,
    /// The namespace that is made and installed in
    #[arg(long, value_name = "NAME", default_value = "sidewall-system")]
    pub namespace: Namespace,
    /// What goes before the names of the images
    #[arg(long, value_name = "HOST/PATH")]
    pub image_repository: Option<ImagePart>,
    /// The images' tag [default: this program's version]
    #[arg(long, value_name = "TAG")]
    pub tag: Option<Tag>,
    /// The agent's image, whole: with its tag or digest
    #[arg(long, value_name = "IMAGE", conflicts_with = "no_agent")]
    pub agent_image: Option<ImagePart>,
    /// The operator's image, whole
    #[arg(long, value_name = "IMAGE", conflicts_with = "no_operator")]
    pub operator_image: Option<ImagePart>,
    /// The front proxy's image, whole
    #[arg(long, value_name = "IMAGE", conflicts_with = "no_operator")]
    pub proxy_image: Option<ImagePart>,
    /// Without the agent: proxies alone, and no walls
    #[arg(long, conflicts_with = "no_operator")]
    pub no_agent: bool,
    /// Without the operator: walls alone; nothing is injected, and policies are checked by their schema only
    #[arg(long)]
    pub no_operator: bool,
    /// Without the kinds (CustomResourceDefinitions)
    #[arg(long)]
    pub no_crds: bool,
    /// In place of all: the agents, which then take their work away from the nodes and wait
    #[arg(long, conflicts_with_all = ["no_agent", "no_operator", "no_crds", "operator_image", "proxy_image"])]
    pub uninstall: bool,
}

/// Where things are on the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// containerd and network plugins where their own packages put them
    #[default]
    Kubeadm,
    /// k3s
    K3s,
    /// Talos
    Talos,
    /// Bottlerocket
    Bottlerocket,
    /// Container-Optimized OS, as on GKE
    Cos,
    /// OpenShift
    Openshift,
}

/// A namespace that can be Sidewall's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !is_dns_label(text) {
            return Err("a namespace has 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends".to_owned());
        }
        // It becomes privileged, and is labelled so.
        if text == "default" || text.starts_with("kube-") {
            return Err(format!("{text} is not a namespace of Sidewall's own: choose another"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// An image, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePart(String);

impl FromStr for ImagePart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = |c: char| c.is_ascii_alphanumeric();
        let within = |c: char| ends(c) || "._-/:@".contains(c);
        if text.len() <= 512 && text.starts_with(ends) && text.ends_with(ends) && text.chars().all(within) {
            Ok(Self(text.to_owned()))
        } else {
            Err("an image is named as registry.example/path, of letters, digits and ._-/:@".to_owned())
        }
    }
}

/// A tag of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.len() <= 128 && text.starts_with(first) && text.chars().all(|c| first(c) || c == '.' || c == '-') {
            Ok(Self(text.to_owned()))
        } else {
            Err("a tag has 1 to 128 letters, digits, _, . and -, and begins with none of the last two".to_owned())
        }
    }
}

/// Each as it was written.
macro_rules! shown {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}
shown!(Namespace, ImagePart, Tag);
