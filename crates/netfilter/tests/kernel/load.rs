//! What is loaded is what stands there, by our own reading and by `nft`'s.

use crate::support::*;
use sidewall_netfilter::{Features, LoadOptions, Standing};

#[test]
fn every_statement_loads_and_reads_back() {
    let (namespace, mut kernel) = namespace();
    let ruleset = everything();
    let loaded = kernel.load(&ruleset, LoadOptions::default()).unwrap();
    assert!(!loaded.owner && loaded.messages > 200);
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let text = nft(&namespace, &["list", "ruleset"]);
    println!("{text}");
}

#[test]
fn this_kernel_is_probed() {
    println!("{}", Features::probe().unwrap());
}
