//! Helm, which renders the chart.

use super::go;
use super::module::{Module, Source};

/// Which version, the module says.
pub const HELM: Source = Source {
    title: "Helm",
    folder: "xtask/helm",
    package: "helm.sh/helm/v3",
    name: "helm",
    cost: "about two minutes on two cores",
    variables,
    renamed: &[],
    documents: &[],
};

/// As in Helm's own releases: without them it would take clusters for Kubernetes 1.20, where no cluster is asked.
fn variables(module: &Module) -> Vec<String> {
    let package = |name: &str| format!("{}/{name}", HELM.package);
    let mut all = vec![format!("{}.version={}", package("internal/version"), module.version)];
    let client = module.client.as_deref().and_then(|version| go::parse(version.trim_start_matches('v')));
    if let Some((_, minor)) = client {
        for name in ["pkg/chartutil", "pkg/lint/rules"].map(package) {
            all.push(format!("{name}.k8sVersionMajor=1"));
            all.push(format!("{name}.k8sVersionMinor={minor}"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::module::flags;
    use super::*;

    #[test]
    fn our_own_module_is_understood() {
        let module = Module::parse(include_str!("../../helm/go.mod"), HELM.package).unwrap();
        assert_eq!(module.programs(), ["helm"]);
        let flags = flags(&HELM, &module);
        assert!(flags.contains(&format!("internal/version.version={} ", module.version)), "{flags}");
        assert!(flags.contains("pkg/chartutil.k8sVersionMajor=1"), "{flags}");
    }
}
