//! runc on a host whose cgroup v2 tree has not all controllers.
//!
//! Where a host keeps cpu, memory and pids in cgroup v1, no setting of theirs can be written to the v2 tree, and runc
//! refuses the container. Settings of controllers that are there stay.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::Value;

use super::{Said, because};

/// Where the cell says which runc is the real one.
pub const REAL: &str = "/run/bed/runc";

/// Edits the bundle of a `create` or `run`, and becomes runc.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if let Err(said) = prepare(&arguments) {
        eprintln!("sidewall-bed as runc: {said}");
        return ExitCode::FAILURE;
    }
    let source = Command::new(REAL).args(&arguments).exec();
    eprintln!("sidewall-bed as runc: cannot run {REAL}: {source}");
    ExitCode::FAILURE
}

fn prepare(arguments: &[OsString]) -> Said<()> {
    let creates = arguments.iter().any(|word| word == "create" || word == "run" || word == "update");
    let bundle = arguments.iter().position(|word| word == "--bundle").and_then(|at| arguments.get(at + 1));
    let (true, Some(bundle)) = (creates, bundle) else { return Ok(()) };
    let path = Path::new(bundle).join("config.json");
    let text = fs::read(&path).map_err(because(path.display()))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(because(path.display()))?;
    let there = "/sys/fs/cgroup/cgroup.controllers";
    let controllers = fs::read_to_string(there).map_err(because(there))?;
    drop_missing(&mut config, &controllers.split_ascii_whitespace().collect());
    fs::write(&path, config.to_string()).map_err(because(path.display()))
}

/// Takes away `linux.resources` settings (OCI runtime specification) of controllers that are not there.
fn drop_missing(config: &mut Value, controllers: &BTreeSet<&str>) {
    let Some(resources) = config.pointer_mut("/linux/resources").and_then(Value::as_object_mut) else { return };
    for (setting, controller) in
        [("cpu", "cpu"), ("memory", "memory"), ("pids", "pids"), ("blockIO", "io"), ("hugepageLimits", "hugetlb")]
    {
        if !controllers.contains(controller) {
            resources.remove(setting);
        }
    }
    if let Some(unified) = resources.get_mut("unified").and_then(Value::as_object_mut) {
        unified.retain(|key, _| key.split('.').next().is_some_and(|controller| controllers.contains(controller)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_of_missing_controllers_go_and_others_stay() {
        let mut config = json!({"linux": {"cgroupsPath": "/a", "resources": {
            "cpu": {"shares": 2}, "memory": {"limit": 1}, "pids": {"limit": 5}, "devices": [{"allow": false}],
            "hugepageLimits": [], "unified": {"memory.oom.group": "1", "pids.max": "7"}}}});
        drop_missing(&mut config, &BTreeSet::from(["pids"]));
        assert_eq!(
            config,
            json!({"linux": {"cgroupsPath": "/a", "resources": {
                "pids": {"limit": 5}, "devices": [{"allow": false}], "unified": {"pids.max": "7"}}}})
        );
    }

    #[test]
    fn a_bundle_without_resources_stays_as_it_is() {
        let mut config = json!({"process": {}});
        drop_missing(&mut config, &BTreeSet::new());
        assert_eq!(config, json!({"process": {}}));
    }
}
