//! `--wall`, `--part` and `--link`: where a pod's containers are.

use clap::{Args, ValueEnum};
use sidewall_sandbox::SegmentKind;

use crate::error::Error;

/// Where a pod's containers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WallChoice {
    /// In one network namespace, with rules between them
    #[default]
    Shared,
    /// In parts of the pod that have network namespaces of their own, and reach each other's localhost by a link
    Split,
}

/// What joins the parts of a split pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LinkChoice {
    /// A bridge
    #[default]
    Bridge,
    /// Macvlans on a parent that is made for them
    Macvlan,
}

/// `NAME=CONTAINER[,…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartArg {
    /// The part's name.
    pub name: String,
    /// Its containers.
    pub containers: Vec<String>,
}

impl std::str::FromStr for PartArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not NAME=CONTAINER[,CONTAINER], such as metrics=metrics-exporter");
        let (name, containers) = text.split_once('=').ok_or_else(form)?;
        let containers: Vec<String> = containers.split(',').map(str::to_owned).collect();
        let bad = name.is_empty() || containers.iter().any(String::is_empty);
        if bad { Err(form()) } else { Ok(Self { name: name.to_owned(), containers }) }
    }
}

/// Where a pod's containers are to be.
#[derive(Args, Clone, Debug, Default)]
pub struct WallArgs {
    /// Whether the containers share a network namespace
    #[arg(long, value_enum, default_value_t, value_name = "WALL")]
    pub wall: WallChoice,
    /// A part of a split pod and its containers; what is named in none stays in the part `primary`. Without this option each
    /// container but the first is a part
    #[arg(long = "part", value_name = "NAME=CONTAINER[,...]")]
    pub parts: Vec<PartArg>,
    /// What joins the parts of a split pod
    #[arg(long, value_enum, value_name = "KIND")]
    pub link: Option<LinkChoice>,
}

/// How a pod is to be split.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// The parts that were asked for.
    pub parts: Vec<PartArg>,
    /// What joins them.
    pub kind: SegmentKind,
}

impl WallArgs {
    /// How the pod is to be split, where it is.
    ///
    /// # Errors
    /// [`Error::NotSplit`].
    pub fn split(&self) -> Result<Option<Split>, Error> {
        match self.wall {
            WallChoice::Shared if !self.parts.is_empty() => Err(Error::NotSplit("--part")),
            WallChoice::Shared if self.link.is_some() => Err(Error::NotSplit("--link")),
            WallChoice::Shared => Ok(None),
            WallChoice::Split => {
                let kind = match self.link.unwrap_or_default() {
                    LinkChoice::Bridge => SegmentKind::Bridge,
                    LinkChoice::Macvlan => SegmentKind::Macvlan,
                };
                Ok(Some(Split { parts: self.parts.clone(), kind }))
            }
        }
    }
}
