//! The program as it is shipped: one file, small, that needs nothing of the node. `cargo xtask test` builds it before.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The most octets of the program.
const MOST: u64 = 2 << 20;

fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let targets = here.ancestors().nth(3).unwrap_or(Path::new("/"));
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let program = targets.join(target).join("release/sidewall-cni");
    assert!(program.is_file(), "{} is not there: `cargo xtask test --only node` builds it", program.display());
    program
}

/// Whether an ELF file (64 bits, little-endian) has a program header that names a loader (PT_INTERP).
fn needs_loader(file: &[u8]) -> bool {
    let number = |at: usize, size: usize| -> usize {
        file[at..at + size].iter().rev().fold(0, |number, octet| number << 8 | usize::from(*octet))
    };
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(&file[..4] == b"\x7fELF" && count > 0);
    (0..count).any(|header| number(headers + header * size, 4) == 3)
}

#[test]
fn the_program_is_small_and_needs_no_other_file() {
    let program = program();
    let size = program.metadata().unwrap().len();
    assert!(size < MOST, "sidewall-cni has {size} octets");
    assert!(!needs_loader(&std::fs::read(&program).unwrap()), "sidewall-cni is linked dynamically");
    // And it runs: without a command of CNI it says what it speaks.
    let output = Command::new(&program).env_clear().env("CNI_COMMAND", "VERSION").output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let versions = said["supportedVersions"].as_array().unwrap();
    assert!(["0.4.0", "1.0.0", "1.1.0"].iter().all(|version| versions.iter().any(|v| v == version)), "{said}");
}
