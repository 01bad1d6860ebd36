//! cert-manager: a program of ours that puts together its published controllers, and its kinds.

use std::path::{Path, PathBuf};

use super::module::{self, Module, Source};
use super::{PartsError, go};
use crate::command;
use crate::workspace::Workspace;

/// Which version, the module says. The number in the name is raised when our own program changes.
pub const CERT_MANAGER: Source = Source {
    title: "cert-manager",
    folder: "tests/node/certmanager",
    package: "github.com/cert-manager/cert-manager",
    name: "cert-manager-1",
    cost: "a few minutes on two cores",
    variables,
    renamed: &[],
    documents: &[],
};

/// The file of its kinds, beside the program.
const KINDS: &str = "cert-manager-crds.yaml";

fn variables(module: &Module) -> Vec<String> {
    vec![format!("{}/pkg/util.AppVersion={}", CERT_MANAGER.package, module.version)]
}

/// The folder with the program and the kinds. It is always the cache's: no release of cert-manager has them together.
///
/// # Errors
/// When they cannot be built.
pub fn ensure(workspace: &Workspace) -> Result<Option<PathBuf>, PartsError> {
    let built = module::ensure(workspace, &CERT_MANAGER, &[])?;
    if let Some(root) = &built {
        let kinds = root.join(KINDS);
        if !kinds.is_file() {
            write_kinds(workspace, &kinds)?;
        }
    }
    Ok(built)
}

/// Takes the kinds from the module's own files.
fn write_kinds(workspace: &Workspace, to: &Path) -> Result<(), PartsError> {
    let program = go::ensure(module::read(workspace, &CERT_MANAGER)?.go)?;
    let go = |words: &[&str]| {
        let mut go = command::program(&program);
        go.args(words).arg(CERT_MANAGER.package).current_dir(workspace.root.join(CERT_MANAGER.folder));
        go
    };
    // It is there, unless the program was built long ago.
    command::run(&mut go(&["mod", "download"]))?;
    let said = command::output(&mut go(&["list", "-m", "-f", "{{.Dir}}"]))?;
    let crds = PathBuf::from(String::from_utf8_lossy(&said).trim()).join("deploy/crds");
    let listed = std::fs::read_dir(&crds).map_err(PartsError::file("read", &crds))?;
    let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut documents = Vec::new();
    for path in &files {
        documents.push(plain(&std::fs::read_to_string(path).map_err(PartsError::file("read", path))?));
    }
    if documents.is_empty() {
        return Err(PartsError::Missing { packages: CERT_MANAGER.package.to_owned(), program: KINDS.to_owned() });
    }
    // Complete or not at all.
    let beside = to.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&beside, documents.join("---\n")).map_err(PartsError::file("write", &beside))?;
    std::fs::rename(&beside, to).map_err(PartsError::file("move into place", to))
}

/// The files are templates of its chart; what only the chart can fill in is labels.
fn plain(template: &str) -> String {
    template.lines().filter(|line| !line.contains("{{")).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::module::flags;
    use super::*;

    #[test]
    fn our_own_module_is_understood() {
        let module = Module::parse(include_str!("../../../tests/node/certmanager/go.mod"), CERT_MANAGER.package);
        let module = module.unwrap();
        assert_eq!(module.programs(), ["cert-manager"]);
        assert!(flags(&CERT_MANAGER, &module).contains(&format!("AppVersion={}", module.version)));
    }

    #[test]
    fn what_only_a_chart_can_fill_in_is_left_out() {
        let template = "# START {{ if x }}\nkind: A\nlabels:\n  app: '{{ name }}'\n  b: c\n";
        assert_eq!(plain(template), "kind: A\nlabels:\n  b: c\n");
    }
}
