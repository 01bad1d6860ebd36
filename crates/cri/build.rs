//! Makes the wire messages from our own description of the part of CRI v1 that we speak.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    generate("runtime")?;
    if env::var_os("CARGO_FEATURE_CONTROL").is_some() {
        generate("control")?;
    }
    Ok(())
}

/// The two descriptions name the same package, so each is generated into a directory of its own.
fn generate(name: &str) -> Result<(), Box<dyn Error>> {
    let file = format!("proto/{name}.proto");
    println!("cargo:rerun-if-changed={file}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join(name);
    fs::create_dir_all(&out)?;
    let descriptors = protox::compile([file.as_str()], ["proto"])?;
    prost_build::Config::new().btree_map(["."]).bytes(["."]).out_dir(out).compile_fds(descriptors)?;
    Ok(())
}
