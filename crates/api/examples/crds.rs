//! Prints every CustomResourceDefinition as one YAML stream. `cargo xtask crds` makes `deploy/crds` of it.
#![forbid(unsafe_code)]

fn main() {
    print!("{}", sidewall_api::crd::crd_yaml());
}
