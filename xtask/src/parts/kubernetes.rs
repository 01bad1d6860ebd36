//! Kubernetes' programs, built from the Go module `tests/node/kubernetes`, which says which and in what version.

use std::path::{Path, PathBuf};

use super::go::{self, Version};
use super::{PartsError, at_once, in_one_of};
use crate::cache;
use crate::command;
use crate::report;
use crate::workspace::Workspace;

const MODULE: &str = "tests/node/kubernetes";

/// What the module says.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    /// Of Kubernetes: `v1.34.4`.
    version: String,
    /// The oldest Go that it can be built with.
    go: Version,
    /// The names of the programs.
    programs: Vec<String>,
}

/// The folder with the programs, built where the cache has none; none when the given folders have them all.
///
/// # Errors
/// When they cannot be built.
pub fn ensure(workspace: &Workspace, given: &[PathBuf]) -> Result<Option<PathBuf>, PartsError> {
    let folder = workspace.root.join(MODULE);
    let path = folder.join("go.mod");
    let text = std::fs::read_to_string(&path).map_err(PartsError::file("read", &path))?;
    let module = Module::parse(&text).map_err(|what| PartsError::Module { path, what })?;
    let there = |folders: &[PathBuf]| module.programs.iter().all(|program| in_one_of(folders, program));
    if there(given) {
        return Ok(None);
    }
    let root = cache::tool(&format!("kubernetes-{}", module.version))?;
    if !there(std::slice::from_ref(&root)) {
        if root.is_dir() {
            // Left by a list of programs that was shorter.
            std::fs::remove_dir_all(&root).map_err(PartsError::file("remove", &root))?;
        }
        let go = go::ensure(module.go)?;
        report::step(&format!(
            "build Kubernetes {} ({}) into {} (once; 10 to 20 minutes on two cores)",
            module.version,
            module.programs.join(", "),
            root.display()
        ));
        build(&folder, &go, &module, &root)?;
    }
    Ok(Some(root))
}

fn build(folder: &Path, go: &Path, module: &Module, root: &Path) -> Result<(), PartsError> {
    // Kept until the build is through, so that one that was interrupted goes on where it was.
    let objects = root.with_file_name(format!("kubernetes-{}.objects", module.version));
    at_once(root, |into| {
        let go = |words: &[&str]| {
            let mut go = command::program(go);
            go.args(words)
                .current_dir(folder)
                .env("CGO_ENABLED", "0")
                .env("GOCACHE", &objects)
                .stdout(std::io::stderr());
            go
        };
        // The proxy is asked more than once: one lost connection of hundreds must not cost the whole build.
        let download = || command::run(&mut go(&["mod", "download"]));
        download().or_else(|_| download()).or_else(|_| download())?;
        let mut build = go(&["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags"]);
        build.arg(flags(&module.version)).arg("-o").arg(into).arg("tool");
        Ok(command::run(&mut build)?)
    })?;
    std::fs::remove_dir_all(&objects).map_err(PartsError::file("remove", &objects))
}

/// Without symbols, which nobody reads; and with the version that the programs tell each other.
fn flags(version: &str) -> String {
    let package = "k8s.io/component-base/version";
    let (major, minor) = go::parse(version.trim_start_matches('v')).unwrap_or_default();
    format!("-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
}

impl Module {
    /// Reads a go.mod as far as it concerns us.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut version, mut language, mut programs, mut block) = (None, None, Vec::new(), "");
        for line in text.lines() {
            let mut words = line.split("//").next().unwrap_or_default().split_ascii_whitespace();
            let first = words.next().unwrap_or_default();
            let (directive, value) = match (block, first) {
                (_, ")") => {
                    block = "";
                    continue;
                }
                ("", directive) => (directive, words.next().unwrap_or_default()),
                (block, value) => (block, value),
            };
            match (directive, value) {
                ("tool" | "require" | "replace", "(") => block = if directive == "tool" { "tool" } else { "other" },
                ("tool", package) => programs.extend(package.rsplit('/').next().map(str::to_owned)),
                ("go", number) => language = go::parse(number),
                _ => {}
            }
            if line.contains("k8s.io/kubernetes v") && !line.contains("=>") {
                version = line.split_ascii_whitespace().find(|word| go::parse(word.trim_start_matches('v')).is_some());
            }
        }
        programs.retain(|program| !program.is_empty());
        if programs.is_empty() {
            return Err("list of tools");
        }
        Ok(Self {
            version: version.ok_or("version of k8s.io/kubernetes")?.to_owned(),
            go: language.ok_or("line `go VERSION`")?,
            programs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_tells_version_language_and_programs() {
        let text = "module x\n\ngo 1.24.0\n\ntool (\n\tk8s.io/kubernetes/cmd/kubectl\n\tk8s.io/kubernetes/cmd/kubelet // a\n)\n\n\
                    require k8s.io/kubernetes v1.34.4\n\nrequire (\n\ta.example/tool v1.0.0 // indirect\n)\n\n\
                    replace (\n\tk8s.io/api => k8s.io/api v0.34.4\n)\n";
        assert_eq!(
            Module::parse(text),
            Ok(Module { version: "v1.34.4".into(), go: (1, 24), programs: vec!["kubectl".into(), "kubelet".into()] })
        );
        assert_eq!(Module::parse("module x\ngo 1.24\n"), Err("list of tools"));
        assert_eq!(Module::parse("go 1.24\ntool a/b\n"), Err("version of k8s.io/kubernetes"));
    }

    #[test]
    fn our_own_module_is_understood() {
        let module = Module::parse(include_str!("../../../tests/node/kubernetes/go.mod")).unwrap();
        for program in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"] {
            assert!(module.programs.iter().any(|name| name == program), "{module:?}");
        }
        assert!(flags(&module.version).contains(&format!("gitVersion={} ", module.version)));
    }
}
