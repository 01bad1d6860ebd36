//! `deploy/manifests/*.yaml`: the chart as plain manifests, for who has no Helm, and for `sidewall install`; for each preset one file
//! with the whole product, one without the operator, one without the agent, and one that takes the agent's work away from the nodes
//! again. `deploy/golden/*.yaml`: the chart with values that nobody would choose together, so that
//! what a change of a template does is seen in its diff.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::generated::{self, Files, GeneratedError};
use crate::parts::{self, PartsError};
use crate::workspace::Workspace;

/// The chart.
const CHART: &str = "deploy/charts/sidewall";
/// Values for golden files: `NAME-values.yaml`, as other tools for charts expect them.
const VALUES: &str = "deploy/charts/sidewall/ci";
const FOLDER: &str = "deploy/manifests";
const GOLDEN: &str = "deploy/golden";
const CHORE: &str = "cargo xtask manifests";
const HEAD: &str = "# Written by `cargo xtask manifests` from deploy/charts/sidewall: change that.\n";
/// What every manifest is rendered with.
const COMMON: [&str; 4] = [
    "--namespace=sidewall-system",
    "--kube-version=1.30.0",
    "--set=namespace.create=true",
    // They are in deploy/crds.
    "--set=crds.install=false",
];
/// The files of a preset: how its name ends, and what it is rendered with beside those.
const VARIANTS: [(&str, &[&str]); 4] = [
    ("", &[]),
    ("-walls", &["--set=operator.enabled=false"]),
    ("-proxies", &["--set=agent.enabled=false"]),
    ("-uninstall", &["--set=uninstall.enabled=true", "--show-only=templates/daemon-set.yaml"]),
];

/// Why the manifests could not be written.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// There is no Helm.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// Helm refuses the chart; what it printed says why.
    #[error(transparent)]
    Helm(#[from] CommandError),
    /// Helm printed something that is no text.
    #[error("`{0}` printed text that is not UTF-8")]
    NotText(String),
    /// The chart's presets or values could not be listed.
    #[error("{path}: {source}")]
    Folder {
        /// Their folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files.
    #[error(transparent)]
    Files(#[from] GeneratedError),
}

/// Writes the files, and removes those of presets and values that are no more.
///
/// # Errors
/// When Helm is missing or refuses the chart, or a file cannot be written.
pub fn write(workspace: &Workspace) -> Result<(), ManifestError> {
    let helm = parts::helm(workspace)?;
    generated::write(workspace, FOLDER, &manifests(workspace, &helm)?)?;
    Ok(generated::write(workspace, GOLDEN, &golden(workspace, &helm)?)?)
}

/// Checks that they are what [`write()`] would leave.
///
/// # Errors
/// [`GeneratedError::Stale`] naming the files, or why that could not be found out.
pub fn check(workspace: &Workspace) -> Result<(), ManifestError> {
    let helm = parts::helm(workspace)?;
    generated::check(workspace, FOLDER, &manifests(workspace, &helm)?, CHORE)?;
    Ok(generated::check(workspace, GOLDEN, &golden(workspace, &helm)?, CHORE)?)
}

fn manifests(workspace: &Workspace, helm: &Path) -> Result<Files, ManifestError> {
    let mut files = Files::new();
    for preset in names(workspace, "deploy/charts/sidewall/presets", ".yaml")? {
        let preset_option = format!("--set=preset={preset}");
        let common = COMMON.into_iter().chain([preset_option.as_str()]);
        for (end, more) in VARIANTS {
            let text = render(workspace, helm, common.clone().chain(more.iter().copied()))?;
            files.insert(format!("{preset}{end}.yaml"), text);
        }
    }
    Ok(files)
}

fn golden(workspace: &Workspace, helm: &Path) -> Result<Files, ManifestError> {
    let mut files = Files::new();
    for name in names(workspace, VALUES, "-values.yaml")? {
        let values = format!("--values={VALUES}/{name}-values.yaml");
        let arguments = [COMMON[0], COMMON[1], "--set=crds.install=false", &values];
        files.insert(format!("{name}.yaml"), render(workspace, helm, arguments)?);
    }
    Ok(files)
}

fn render<'a>(
    workspace: &Workspace,
    helm: &Path,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<String, ManifestError> {
    let mut template = command::program(helm);
    template.args(["template", "sidewall", CHART]).args(arguments).current_dir(&workspace.root);
    let text = String::from_utf8(command::output(&mut template)?);
    text.map(|text| format!("{HEAD}{text}")).map_err(|_| ManifestError::NotText(command::line(&template)))
}

/// The names of a folder's files that end so, without that end.
fn names(workspace: &Workspace, folder: &str, end: &str) -> Result<Vec<String>, ManifestError> {
    let path = workspace.root.join(folder);
    let names = std::fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
    });
    let names = names.map_err(|source| ManifestError::Folder { path, source })?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(end)).map(str::to_owned).collect())
}
