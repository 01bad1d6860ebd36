//! Kubernetes' programs, as they are released.

use super::go;
use super::module::{Module, Source};

/// Which, and in what version, the module says.
pub const KUBERNETES: Source = Source {
    title: "Kubernetes",
    folder: "tests/node/kubernetes",
    package: "k8s.io/kubernetes",
    name: "kubernetes",
    cost: "10 to 20 minutes on two cores",
    variables,
    renamed: &[],
    documents: &[],
};

/// The oldest API server that the chart is for. Tests name it; nothing else takes it for the other one, which comes first.
pub const OLDEST: Source = Source {
    title: "the oldest Kubernetes",
    folder: "tests/node/kubernetes-1.29",
    name: "kubernetes-oldest",
    cost: "about five minutes on two cores",
    ..KUBERNETES
};

fn variables(module: &Module) -> Vec<String> {
    let package = "k8s.io/component-base/version";
    let version = &module.version;
    let (major, minor) = go::parse(version.trim_start_matches('v')).unwrap_or_default();
    [format!("gitVersion={version}"), format!("gitMajor={major}"), format!("gitMinor={minor}")]
        .map(|variable| format!("{package}.{variable}"))
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::module::flags;
    use super::*;

    #[test]
    fn our_own_module_is_understood() {
        let text = include_str!("../../../tests/node/kubernetes/go.mod");
        let module = Module::parse(text, KUBERNETES.package).unwrap();
        for program in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"] {
            assert!(module.programs().iter().any(|name| name == program), "{module:?}");
        }
        assert!(flags(&KUBERNETES, &module).contains(&format!("gitVersion={} ", module.version)));
        let text = include_str!("../../../tests/node/kubernetes-1.29/go.mod");
        let module = Module::parse(text, OLDEST.package).unwrap();
        assert_eq!((module.programs(), &module.version[..6]), (&["kube-apiserver".to_owned()][..], "v1.29."));
    }
}
