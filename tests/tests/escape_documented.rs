//! SECURITY.md names every attack that is tried, and no other.

use std::collections::BTreeSet;
use std::path::Path;

/// The tests of a file: the names of the functions behind the attribute.
fn tests_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
    tests
        .map(|pair| pair[1].strip_prefix("fn ").and_then(|rest| rest.split('(').next()).expect("a function"))
        .map(|test| format!("{name}::{test}"))
        .collect()
}

#[test]
fn every_attack_is_documented_and_every_documented_attack_is_tried() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(here.join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("escape_") && name.ends_with(".rs") && name != "escape_documented.rs"
    });
    let tried: BTreeSet<String> = files.flat_map(|path| tests_of(&path)).collect();
    assert!(tried.len() > 70, "only {} attacks were found", tried.len());
    let page = std::fs::read_to_string(here.join("../SECURITY.md")).unwrap();
    let documented: BTreeSet<String> =
        page.split('`').filter(|word| word.starts_with("escape_") && word.contains("::")).map(str::to_owned).collect();
    let missing: Vec<_> = tried.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&tried).collect();
    assert!(missing.is_empty() && stale.is_empty(), "SECURITY.md lacks {missing:#?} and names in vain {stale:#?}");
    // What is called a limit by a test is called one by the page.
    for line in page.lines().filter(|line| line.contains("_a_documented_limit")) {
        assert!(line.contains("limit |") || line.contains("limit;") || line.contains(" limit"), "{line}");
    }
}
