//! The tiers of tests, and which test target belongs to which.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use thiserror::Error;

use crate::packages::{self, Need};
use crate::parts::Parts;
use crate::toolchain;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

/// A group of tests that need the same surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Tier {
    /// Tests beside the code, doc tests, short fuzz runs, and every test target of no other tier
    Unit,
    /// Real namespaces, rules and pods on this machine (needs root)
    Kernel,
    /// The front proxy, over real connections
    Proxy,
    /// Nodes with a real containerd (needs root)
    Node,
    /// Clusters with a real API server, kubelets and controllers (needs root)
    Cluster,
    /// (does not exist yet)
    Split,
    /// (does not exist yet)
    Web,
}

/// A tier cannot be planned.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The name is reserved for a part that is not built.
    #[error("does not exist yet: what it would test is not built")]
    NotYet,
    /// Nothing to run is no success.
    #[error("has no test target in {0}")]
    Empty(String),
    /// Targets are selected by name, so a name must belong to one tier.
    #[error(
        "cannot be told apart: a test target `{target}` is in {here} and, for another tier, in {there}; rename one"
    )]
    SharedName {
        /// The test target's name.
        target: String,
        /// The package of this tier.
        here: String,
        /// The package of the other tier.
        there: String,
    },
}

impl Tier {
    /// The tiers that can run today, in the order in which they run.
    pub const EXISTING: [Self; 5] = [Self::Unit, Self::Kernel, Self::Proxy, Self::Node, Self::Cluster];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Split => "split",
            Self::Web => "web",
        }
    }

    /// Programs that the tier's tests start.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Kernel => packages::KERNEL,
            Self::Proxy => packages::PROXY,
            Self::Node | Self::Cluster => packages::NODE,
            Self::Unit | Self::Split | Self::Web => &[],
        }
    }

    /// Third parties' programs that the tier's tests run nodes and clusters of.
    pub fn parts(self) -> Parts {
        match self {
            Self::Node => Parts::Node,
            Self::Cluster => Parts::Cluster,
            Self::Unit | Self::Kernel | Self::Proxy | Self::Split | Self::Web => Parts::None,
        }
    }

    /// Whether the tier's tests make namespaces and load rules.
    pub fn needs_root(self) -> bool {
        matches!(self, Self::Kernel | Self::Node | Self::Cluster)
    }

    /// The tier of a package's integration test target.
    fn of_target(package: &str, target: &str) -> Self {
        match package {
            // One package, since they share nodes; what needs an API server says so by its name.
            "sidewall-node-tests"
                if ["agent", "cluster", "deploy", "operator"].iter().any(|name| target.starts_with(name)) =>
            {
                Self::Cluster
            }
            "sidewall-node-tests" => Self::Node,
            // What it is chained behind is a node's.
            "sidewall-cni" if target == "cni_chain" || target == "cni_program" => Self::Node,
            "sidewall-netns" | "sidewall-netfilter" | "sidewall-flowlog" | "sidewall-sandbox" | "sidewall-tests"
            | "sidewall-cli" | "sidewall-cni" => Self::Kernel,
            // Redirects connections in a namespace of its own.
            "sidewall-proxy" if target == "capture" => Self::Kernel,
            "sidewall-proxy" | "sidewall-proxy-config" => Self::Proxy,
            _ => Self::Unit,
        }
    }

    /// The cargo commands of the tier, in order.
    ///
    /// All of them select the whole workspace and choose test targets by name: cargo then builds every dependency with
    /// the same features, once, where selecting packages would build much of the tree anew for each tier.
    ///
    /// # Errors
    /// When the tier does not exist yet, or has nothing to run.
    pub fn plan(self, workspace: &Workspace) -> Result<Vec<Run>, PlanError> {
        if !Self::EXISTING.contains(&self) {
            return Err(PlanError::NotYet);
        }
        let targets = self.targets(workspace)?;
        let mut runs = Vec::new();
        match self {
            Self::Unit => {
                runs.push(Run::test(&["--workspace", "--lib", "--bins"], &BTreeSet::new()));
                runs.push(Run::test(&["--workspace", "--doc"], &BTreeSet::new()));
            }
            // Tests of whole pods and nodes start the programs as they are built beside each other.
            Self::Kernel | Self::Node | Self::Cluster => runs.push(Run::build(&["--workspace", "--bins"], &targets)),
            _ => {}
        }
        if self == Self::Node {
            runs.push(Run::plugin());
        }
        if !targets.is_empty() {
            runs.push(Run::test(&["--workspace"], &targets));
        } else if self != Self::Unit {
            return Err(PlanError::Empty(format!("the packages of the tier {}", self.name())));
        }
        Ok(runs)
    }

    /// The names of the tier's integration test targets.
    fn targets(self, workspace: &Workspace) -> Result<BTreeSet<&str>, PlanError> {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let all = || workspace.tests.iter().flat_map(|(package, names)| names.iter().map(move |name| (package, name)));
        for (package, name) in all().filter(|(package, name)| Self::of_target(package, name) == self) {
            owners.insert(name, package);
        }
        for (package, name) in all().filter(|(package, name)| Self::of_target(package, name) != self) {
            if let Some(here) = owners.get(name.as_str()) {
                return Err(PlanError::SharedName {
                    target: name.clone(),
                    here: (*here).to_owned(),
                    there: package.clone(),
                });
            }
        }
        Ok(owners.into_keys().collect())
    }
}

/// One call of cargo.
#[derive(Debug, PartialEq, Eq)]
pub enum Run {
    /// Builds what tests start; runs nothing.
    Build(Vec<String>),
    /// Runs tests, whose summary lines count.
    Test(Vec<String>),
}

impl Run {
    fn build(selection: &[&str], targets: &BTreeSet<&str>) -> Self {
        Self::Build(arguments(&["build"], selection, targets))
    }

    /// The CNI plugin as it is shipped: a test looks at it.
    fn plugin() -> Self {
        let target = toolchain::static_target();
        let flags = format!("target.{target}.rustflags=[\"-C\", \"target-feature=+crt-static\"]");
        let name = "sidewall-cni";
        let command = ["build", "--release", "-p", name, "--bin", name, "--target", &target, "--config", &flags];
        Self::Build(command.map(str::to_owned).to_vec())
    }

    fn test(selection: &[&str], targets: &BTreeSet<&str>) -> Self {
        // A failure in one target must not hide those in the next.
        Self::Test(arguments(&["test", "--no-fail-fast"], selection, targets))
    }
}

fn arguments(command: &[&str], selection: &[&str], targets: &BTreeSet<&str>) -> Vec<String> {
    let targets = targets.iter().flat_map(|name| ["--test", name]);
    command.iter().copied().chain(selection.iter().copied()).chain(targets).map(str::to_owned).collect()
}
