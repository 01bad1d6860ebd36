//! Makes the wire messages from our own description of the part of NRI and ttrpc that we speak.
#![forbid(unsafe_code)]

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["proto/nri.proto", "proto/ttrpc.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().btree_map(["."]).bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
