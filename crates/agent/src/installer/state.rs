//! What the installer tells of itself.

use sidewall_cni::contest::PAUSE;
use sidewall_cni::install::InstallError;
use sidewall_cni::plan::Problem;
use std::fmt;
use std::path::PathBuf;

/// How the installation stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InstallerStatus {
    /// Whether the plugin is in the pods' chain.
    pub state: InstallerState,
    /// How often something had to be changed, the first time included.
    pub changes: u64,
}

/// Whether the plugin is in the pods' chain. As text it is for people.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum InstallerState {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// It is.
    Installed(Installed),
    /// It is, but somebody takes it away again and again, and for up to [`PAUSE`] it is missing: pods that start
    /// meanwhile have no guard.
    Contested(Installed),
    /// It is not, or can't be: pods start without a guard, or not at all.
    NotInstalled {
        /// Why, and what to do.
        reason: String,
    },
}

impl InstallerState {
    /// Whether every pod that starts meets the plugin.
    pub fn is_installed(&self) -> bool {
        matches!(self, Self::Installed(_))
    }
}

/// An installation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Installed {
    /// The networks whose chains it is in: the pods' default network, and where Multus copies its configuration that copy.
    pub networks: Vec<Network>,
    /// What is not as it should be, though it does no harm yet.
    pub notes: Vec<String>,
}

/// A network whose chain the plugin is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The file.
    pub file: PathBuf,
    /// The network's name.
    pub name: String,
    /// The types of the plugins that others have put behind ours.
    pub behind: Vec<String>,
}

impl fmt::Display for InstallerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not looked at yet"),
            Self::Installed(installed) => write!(f, "installed in {installed}"),
            Self::Contested(installed) => write!(
                f,
                "contested: another installer keeps taking sidewall-cni out of {installed}; it is put back every {} s, and pods \
                 that start in between have no guard: find who writes that file (often the network plugin's DaemonSet) and have \
                 it keep the plugins of others",
                PAUSE.as_secs()
            ),
            Self::NotInstalled { reason } => write!(f, "not installed: {reason}"),
        }
    }
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Network { file, name, behind }) in self.networks.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} (network {name:?})", file.display())?;
            if !behind.is_empty() {
                write!(f, " before {}", behind.join(", "))?;
            }
        }
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

/// Why the plugin can't be put into the chain, or taken out of it.
#[derive(Debug, thiserror::Error)]
pub enum InstallerError {
    /// The program can't be put in place.
    #[error(
        "{source}: cni.program must be the plugin in the agent's image, and cni.programDirectory the directory in which the \
         runtime looks for plugins (containerd: bin_dir; CRI-O: plugin_dirs), mounted for writing"
    )]
    Program {
        /// What can't be done, and with which file.
        source: InstallError,
    },
    /// The directory of configurations can't be read or changed.
    #[error(
        "{source}: cni.configurationDirectory must be the runtime's (containerd: conf_dir; CRI-O: network_dir), mounted for writing"
    )]
    Directory {
        /// What can't be done, and with which file.
        source: InstallError,
    },
    /// There is no chain that it could be in.
    #[error("{}: {source}", directory.display())]
    Chain {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: Problem,
    },
    /// Files that it could not be taken out of.
    #[error("sidewall-cni may still be in {}: take its entry out by hand", files.join(", "))]
    Left {
        /// The files, each with why.
        files: Vec<String>,
    },
    /// Somebody else never stopped writing.
    #[error("{}: another installer changed the files {attempts} times in between: end it, then try again", directory.display())]
    Restless {
        /// Where.
        directory: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
}
