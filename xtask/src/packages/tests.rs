use super::*;

#[test]
fn nothing_is_missing_when_every_program_is_there() {
    assert!(Missing::of(KERNEL, |_| true).is_empty());
}

#[test]
fn a_package_is_named_once_with_all_its_missing_programs() {
    let needs = [need("b", "two"), need("a", "two"), need("c", "one"), need("d", "three"), need("a", "two")];
    let missing = Missing::of(&needs, |program| program == "d");
    assert_eq!(missing.packages(), "one two");
    assert_eq!(missing.programs(), "c, a, b");
}

#[test]
fn programs_are_executable_files() {
    assert!(on_path("sh"));
    assert!(!on_path("no-program-has-this-name"));
    // A folder is executable too, and no program.
    assert!(!on_path("."));
}

#[test]
fn no_list_gives_two_packages_for_one_program() {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for need in [KERNEL, PROXY, DEMO, BENCH_WALLS, LINT].concat() {
        assert_eq!(*seen.entry(need.program).or_insert(need.package), need.package, "{}", need.program);
    }
}

#[test]
fn the_installer_is_a_valid_script() {
    command::run(command::program("sh").args(["-n", "-c", include_str!("install.sh")])).unwrap();
}

/// Runs the installer in a folder of its own, with an `apt-get` that notes its arguments and what the policy answers.
fn install_in(folder: &Path, ending: &str) -> (std::process::ExitStatus, String) {
    let apt = folder.join("apt-get");
    let policy = folder.join("policy-rc.d");
    let log = folder.join("log");
    let (policy_text, log_text) = (policy.to_str().unwrap(), log.to_str().unwrap());
    let note = format!("#!/bin/sh\n[ -x {policy_text} ] && {policy_text}\necho \"$? $1\" >>{log_text}\n{ending}\n");
    std::fs::write(&apt, note).unwrap();
    std::fs::set_permissions(&apt, PermissionsExt::from_mode(0o755)).unwrap();
    let script = include_str!("install.sh")
        .replace("/usr/sbin/policy-rc.d", policy_text)
        .replace("/run/sidewall-xtask-packages.lock", folder.join("lock").to_str().unwrap());
    let status = command::program("sh")
        .args(["-c", &script, "install-packages", "some-package"])
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    (status, std::fs::read_to_string(log).unwrap())
}

#[test]
fn services_are_forbidden_for_the_time_of_the_installation_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (status, log) = install_in(folder.path(), "exit 0");
    assert!(status.success());
    assert_eq!(log, "101 update\n101 install\n");
    assert!(!folder.path().join("policy-rc.d").exists());
}

#[test]
fn a_failed_or_interrupted_installation_takes_the_policy_away_too() {
    let folder = tempfile::tempdir().unwrap();
    let (status, _) = install_in(folder.path(), "[ \"$1\" = update ] || exit 100");
    assert_eq!(status.code(), Some(100));
    assert!(!folder.path().join("policy-rc.d").exists());
    // A shell can't trap a signal that its parent ignores, as a job's in the background does with that of the keyboard.
    let (status, _) = install_in(folder.path(), "kill -TERM $PPID");
    assert_eq!(status.code(), Some(143));
    assert!(!folder.path().join("policy-rc.d").exists());
}

#[test]
fn a_policy_of_the_machine_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy-rc.d");
    std::fs::write(&policy, "#!/bin/sh\nexit 104\n").unwrap();
    std::fs::set_permissions(&policy, PermissionsExt::from_mode(0o755)).unwrap();
    let (status, log) = install_in(folder.path(), "exit 0");
    assert!(status.success());
    assert_eq!(log, "104 update\n104 install\n");
    assert_eq!(std::fs::read_to_string(&policy).unwrap(), "#!/bin/sh\nexit 104\n");
}

#[test]
fn a_policy_left_over_from_a_killed_run_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let mark = include_str!("install.sh").lines().find_map(|line| line.strip_prefix("mark=")).unwrap();
    let policy = folder.path().join("policy-rc.d");
    std::fs::write(&policy, format!("#!/bin/sh\n{}\nexit 101\n", mark.trim_matches('\''))).unwrap();
    let (status, _) = install_in(folder.path(), "exit 0");
    assert!(status.success());
    assert!(!policy.exists());
}
