//! Cases, as their files give them.

use super::mirror;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A title, and what happens one after the other.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file that it is from, without its ending.
    pub family: String,
    /// What it shows.
    pub title: String,
    /// At least one.
    pub steps: Vec<Step>,
}

/// Changes to the cluster, and who reaches whom after them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Step {
    /// NetworkPolicies that are created or replaced: their specs by `namespace/name`.
    #[serde(default)]
    pub apply: BTreeMap<String, Value>,
    /// NetworkPolicies that are deleted.
    #[serde(default)]
    pub delete: Vec<String>,
    /// The labels that namespaces have from now on; none where the namespace is deleted, with all that is in it.
    #[serde(default)]
    pub namespaces: BTreeMap<String, Option<BTreeMap<String, String>>>,
    /// What changes of pods, by `namespace/name`; none where the pod is deleted.
    #[serde(default)]
    pub pods: BTreeMap<String, Option<PodChange>>,
    /// Services that are created.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Who reaches whom, as [`super::Expectation`] reads it.
    #[serde(default)]
    pub expect: Vec<String>,
}

/// What changes of a pod. A pod that there was not is made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodChange {
    /// All its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The names of its ports, each with the ports that bear it (`TCP/80`). Every pod listens on the same ports.
    pub ports: Option<BTreeMap<String, Vec<String>>>,
    /// Its addresses.
    pub addresses: Option<Vec<std::net::IpAddr>>,
    /// It shares its node's network.
    #[serde(default)]
    pub host_network: bool,
    /// It has ended.
    #[serde(default)]
    pub ended: bool,
}

/// A Service with a cluster address in each family.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Its ports (`TCP/80`), each with the number behind it.
    pub ports: BTreeMap<String, u16>,
    /// The pods behind it.
    pub pods: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "for whoever reads the file")]
    about: String,
    cases: Vec<Written>,
}

/// A case as it is written: one of a single step needs no list of steps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    /// The case holds as well with the directions exchanged.
    #[serde(default)]
    mirrored: bool,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    apply: BTreeMap<String, Value>,
    #[serde(default)]
    namespaces: BTreeMap<String, Option<BTreeMap<String, String>>>,
    #[serde(default)]
    pods: BTreeMap<String, Option<PodChange>>,
    #[serde(default)]
    services: BTreeMap<String, Service>,
    #[serde(default)]
    expect: Vec<String>,
}

/// Every case of every file, in the order of the files' names; a mirrored one is followed by its image.
///
/// # Panics
/// Where a file cannot be read or says anything that is not understood.
pub fn cases() -> Vec<Case> {
    folder("network-policy")
}

/// The cases about ICMP echo, where lines are about echo requests: in the same order.
///
/// # Panics
/// As [`cases`].
pub fn echo_cases() -> Vec<Case> {
    folder("network-policy/echo")
}

fn folder(name: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let name = path.display();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    // A namespace is called y, which is a truth value only in old YAML.
    let options = serde_saphyr::options! { strict_booleans: true };
    let file: File =
        serde_saphyr::from_str_with_options(&text, options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let family = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let mut cases = Vec::new();
    for written in file.cases {
        let mirrored = written.mirrored;
        let case = written.into_case(&family);
        let image = mirrored.then(|| mirror::image(&case));
        cases.push(case);
        cases.extend(image);
    }
    cases
}

impl Written {
    fn into_case(self, family: &str) -> Case {
        let Self { title, mirrored: _, mut steps, apply, namespaces, pods, services, expect } = self;
        let single = Step { apply, delete: Vec::new(), namespaces, pods, services, expect };
        if steps.is_empty() {
            steps.push(single);
        } else {
            assert!(single.is_empty(), "{family}: {title}: has steps, and something beside them");
        }
        Case { family: family.to_owned(), title, steps }
    }
}

impl Step {
    fn is_empty(&self) -> bool {
        self.apply.is_empty()
            && self.delete.is_empty()
            && self.namespaces.is_empty()
            && self.pods.is_empty()
            && self.services.is_empty()
            && self.expect.is_empty()
    }
}
