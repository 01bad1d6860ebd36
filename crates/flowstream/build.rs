//! Makes the wire messages from the description of the service.
#![forbid(unsafe_code)]

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let file = "proto/flows.proto";
    println!("cargo:rerun-if-changed={file}");
    prost_build::Config::new().compile_fds(protox::compile([file], ["proto"])?)?;
    Ok(())
}
