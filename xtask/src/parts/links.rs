//! Multus, which attaches pods to further networks, and whereabouts, which gives addresses there that no other node gives.

use super::module::{Document, Module, Source};

/// Multus, in both its forms. Which version, the module says.
pub const MULTUS: Source = Source {
    title: "Multus",
    folder: "tests/node/multus",
    package: "gopkg.in/k8snetworkplumbingwg/multus-cni.v4",
    name: "multus",
    cost: "about two minutes on two cores",
    variables: multus_version,
    renamed: &[],
    documents: &[
        Document {
            package: "github.com/k8snetworkplumbingwg/network-attachment-definition-client",
            path: "artifacts/networks-crd.yaml",
            name: "network-attachment-definitions.yaml",
        },
        Document {
            package: "github.com/k8snetworkplumbingwg/multi-networkpolicy",
            path: "scheme.yml",
            name: "multi-networkpolicies.yaml",
        },
    ],
};

/// The plugin whereabouts. Which version, the module says.
pub const WHEREABOUTS: Source = Source {
    title: "whereabouts",
    folder: "tests/node/whereabouts",
    package: WHEREABOUTS_MODULE,
    name: "whereabouts",
    cost: "about a minute on two cores",
    variables: whereabouts_version,
    // Its package is called after nothing.
    renamed: &[("cmd", "whereabouts")],
    documents: &[
        Document {
            package: WHEREABOUTS_MODULE,
            path: "doc/crds/whereabouts.cni.cncf.io_ippools.yaml",
            name: "ippools.yaml",
        },
        Document {
            package: WHEREABOUTS_MODULE,
            path: "doc/crds/whereabouts.cni.cncf.io_overlappingrangeipreservations.yaml",
            name: "overlappingrangeipreservations.yaml",
        },
    ],
};

const WHEREABOUTS_MODULE: &str = "github.com/k8snetworkplumbingwg/whereabouts";

fn multus_version(module: &Module) -> Vec<String> {
    vec![format!("{}/pkg/multus.version={}", MULTUS.package, module.version)]
}

fn whereabouts_version(module: &Module) -> Vec<String> {
    vec![format!("{WHEREABOUTS_MODULE}/pkg/version.Version={}", module.version)]
}

#[cfg(test)]
mod tests {
    use super::super::module::flags;
    use super::*;

    #[test]
    fn our_own_modules_are_understood() {
        for (source, text, programs) in [
            (
                &MULTUS,
                include_str!("../../../tests/node/multus/go.mod"),
                &["multus", "multus-daemon", "multus-shim", "thin_entrypoint"][..],
            ),
            (&WHEREABOUTS, include_str!("../../../tests/node/whereabouts/go.mod"), &["whereabouts"]),
        ] {
            let module = Module::parse(text, source.package).unwrap();
            assert_eq!(source.programs(&module).collect::<Vec<_>>(), programs);
            let flags = flags(source, &module);
            assert!(flags.ends_with(&format!("ersion={}", module.version)), "{flags}");
            for document in source.documents {
                assert!(text.contains(&format!("\t{} v", document.package)), "{}", document.package);
            }
        }
    }
}
