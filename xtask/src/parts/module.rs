//! Programs that are built from a Go module of ours, whose go.mod names them as its tools and says in what version.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::go::{self, Version};
use super::{PartsError, at_once, in_one_of};
use crate::cache;
use crate::command;
use crate::report;
use crate::workspace::Workspace;

/// Kubernetes' client library.
const CLIENT: &str = "k8s.io/client-go";

/// What is built together.
#[derive(Debug)]
pub struct Source {
    /// What people call it.
    pub title: &'static str,
    /// The folder of our module.
    pub folder: &'static str,
    /// The Go module that the programs are from.
    pub package: &'static str,
    /// How the folder in the cache begins; the version follows.
    pub name: &'static str,
    /// What it costs, in words.
    pub cost: &'static str,
    /// The variables of Go packages that are set, from the version: `PACKAGE.VARIABLE=VALUE`.
    pub variables: fn(&Module) -> Vec<String>,
    /// Programs that are called otherwise than their packages: the package's last word, and the program's name.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Files that are put beside the programs.
    pub documents: &'static [Document],
}

/// A file of a Go module that go.mod names.
#[derive(Debug)]
pub struct Document {
    /// The Go module.
    pub package: &'static str,
    /// Where it is there.
    pub path: &'static str,
    /// What it is called beside the programs.
    pub name: &'static str,
}

impl Source {
    /// The names of the programs, as they are called in the end.
    pub fn programs<'a>(&'a self, module: &'a Module) -> impl Iterator<Item = &'a str> {
        module.programs.iter().map(|program| {
            let renamed = self.renamed.iter().find(|(from, _)| from == program);
            renamed.map_or(program.as_str(), |(_, to)| to)
        })
    }

    /// Whether the folders have all of it.
    fn is_in(&self, module: &Module, folders: &[PathBuf]) -> bool {
        let has = |document: &Document| folders.iter().any(|folder| folder.join(document.name).is_file());
        self.programs(module).all(|program| in_one_of(folders, program)) && self.documents.iter().all(has)
    }
}

/// What a module's go.mod says.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// Of the programs: `v1.34.4`.
    pub version: String,
    /// Of Kubernetes' client library, where it is named: `v0.34.4`. Its minor number is that of the Kubernetes it is made for.
    pub client: Option<String>,
    /// The oldest Go that it can be built with.
    pub go: Version,
    /// The names of the programs.
    programs: Vec<String>,
}

/// The folder with the programs, built where the cache has none; none when the given folders have them all.
///
/// # Errors
/// When they cannot be built.
pub fn ensure(workspace: &Workspace, source: &Source, given: &[PathBuf]) -> Result<Option<PathBuf>, PartsError> {
    let module = read(workspace, source)?;
    if source.is_in(&module, given) {
        return Ok(None);
    }
    let root = cache::tool(&format!("{}-{}", source.name, module.version))?;
    if !source.is_in(&module, std::slice::from_ref(&root)) {
        if root.is_dir() {
            // Left by lists of programs and files that were shorter.
            std::fs::remove_dir_all(&root).map_err(PartsError::file("remove", &root))?;
        }
        let go = go::ensure(module.go)?;
        report::step(&format!(
            "build {} {} ({}) into {} (once; {})",
            source.title,
            module.version,
            source.programs(&module).collect::<Vec<_>>().join(", "),
            root.display(),
            source.cost
        ));
        build(&workspace.root.join(source.folder), &go, source, &module, &root)?;
    }
    Ok(Some(root))
}

/// What our module says.
///
/// # Errors
/// When it can't be read.
pub fn read(workspace: &Workspace, source: &Source) -> Result<Module, PartsError> {
    let path = workspace.root.join(source.folder).join("go.mod");
    let text = std::fs::read_to_string(&path).map_err(PartsError::file("read", &path))?;
    Module::parse(&text, source.package).map_err(|what| PartsError::Module { path, what })
}

fn build(folder: &Path, go: &Path, source: &Source, module: &Module, root: &Path) -> Result<(), PartsError> {
    // Kept until the build is through, so that one that was interrupted goes on where it was.
    let objects = root.with_file_name(format!("{}-{}.objects", source.name, module.version));
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
        build.arg(flags(source, module)).arg("-o").arg(into).arg("tool");
        command::run(&mut build)?;
        for (from, to) in source.renamed {
            let from = into.join(from);
            std::fs::rename(&from, into.join(to)).map_err(PartsError::file("rename", from))?;
        }
        for document in source.documents {
            let folder = command::output(
                go(&["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", document.package]).stdout(Stdio::piped()),
            )?;
            let from = Path::new(String::from_utf8_lossy(&folder).trim()).join(document.path);
            let content = std::fs::read(&from).map_err(PartsError::file("read", &from))?;
            let to = into.join(document.name);
            std::fs::write(&to, content).map_err(PartsError::file("write", &to))?;
        }
        Ok(())
    })?;
    std::fs::remove_dir_all(&objects).map_err(PartsError::file("remove", &objects))
}

/// Without symbols, which nobody reads; and with the version that the programs tell.
pub fn flags(source: &Source, module: &Module) -> String {
    let set = (source.variables)(module).into_iter().map(|variable| format!(" -X {variable}"));
    format!("-s -w{}", set.collect::<String>())
}

impl Module {
    /// The names of the programs.
    #[cfg(test)]
    pub fn programs(&self) -> &[String] {
        &self.programs
    }

    /// Reads a go.mod as far as it concerns us.
    pub fn parse(text: &str, package: &str) -> Result<Self, &'static str> {
        let (mut language, mut programs, mut block) = (None, Vec::new(), "");
        let (mut version, mut client) = (None, None);
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
            version = required(line, package).or(version);
            client = required(line, CLIENT).or(client);
        }
        programs.retain(|program| !program.is_empty());
        if programs.is_empty() {
            return Err("list of tools");
        }
        Ok(Self {
            version: version.ok_or("version of the module that the programs are from")?,
            client,
            go: language.ok_or("line `go VERSION`")?,
            programs,
        })
    }
}

/// The version that a line of go.mod requires of a package; what is behind an arrow is a replacement.
fn required(line: &str, package: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace().skip_while(|word| *word != package).skip(1);
    let version = words.next().filter(|_| !line.contains("=>"))?;
    go::parse(version.strip_prefix('v')?).map(|_| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_tells_version_language_and_programs() {
        let text = "module x\n\ngo 1.24.0\n\ntool (\n\tk8s.io/kubernetes/cmd/kubectl\n\tk8s.io/kubernetes/cmd/kubelet // a\n)\n\n\
                    require k8s.io/kubernetes v1.34.4\n\nrequire (\n\ta.example/tool v1.0.0 // indirect\n)\n\n\
                    replace (\n\tk8s.io/client-go => k8s.io/client-go v0.34.4\n)\n";
        let package = "k8s.io/kubernetes";
        assert_eq!(
            Module::parse(text, package),
            Ok(Module {
                version: "v1.34.4".into(),
                client: None,
                go: (1, 24),
                programs: vec!["kubectl".into(), "kubelet".into()]
            })
        );
        let text = "go 1.24\ntool a/b\nrequire (\n\ta v2.0.1\n\tk8s.io/client-go v0.34.2 // indirect\n)\n";
        let module = Module::parse(text, "a").unwrap();
        assert_eq!((module.version.as_str(), module.client.as_deref()), ("v2.0.1", Some("v0.34.2")));
        assert_eq!(Module::parse("module x\ngo 1.24\n", package), Err("list of tools"));
        let error = Module::parse("go 1.24\ntool a/b\n", package);
        assert_eq!(error, Err("version of the module that the programs are from"));
    }
}
