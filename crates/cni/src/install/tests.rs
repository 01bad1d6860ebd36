use super::*;
use crate::entry::Entry;
use crate::plan;
use std::os::unix::fs::{MetadataExt, symlink};

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel"}]}"#;

fn plan(directory: &Path) -> Plan {
    plan::install(&read(directory).unwrap(), &Entry::default()).unwrap()
}

#[test]
fn a_plan_is_carried_out_and_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("10-flannel.conflist");
    fs::write(&path, LIST).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    fs::write(directory.path().join("README"), "no configuration").unwrap();
    fs::create_dir(directory.path().join("cbr0.conf")).unwrap();
    assert_eq!(read(directory.path()).unwrap().keys().collect::<Vec<_>>(), ["10-flannel.conflist"]);

    apply(directory.path(), &plan(directory.path())).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("sidewall-cni"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert!(plan(directory.path()).steps.is_empty());
    apply(directory.path(), &plan::uninstall(&read(directory.path()).unwrap())).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), LIST);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing else is left");
}

#[test]
fn a_list_beside_is_made_and_goes_again() {
    let directory = tempfile::tempdir().unwrap();
    let single = r#"{"cniVersion":"0.4.0","name":"podnet","type":"bridge"}"#;
    fs::write(directory.path().join("10-bridge.conf"), single).unwrap();
    apply(directory.path(), &plan(directory.path())).unwrap();
    let beside = directory.path().join("10-bridge.00-sidewall.conflist");
    assert_eq!(fs::metadata(&beside).unwrap().mode() & 0o777, 0o600);
    apply(directory.path(), &plan::uninstall(&read(directory.path()).unwrap())).unwrap();
    assert!(!beside.exists());
}

#[test]
fn who_was_faster_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("10-flannel.conflist");
    fs::write(&path, LIST).unwrap();
    let planned = plan(directory.path());
    let newer = LIST.replace("flannel", "calico");
    fs::write(&path, &newer).unwrap();
    assert!(matches!(apply(directory.path(), &planned), Err(InstallError::Changed(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    fs::remove_file(&path).unwrap();
    assert!(matches!(apply(directory.path(), &planned), Err(InstallError::Changed(_))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_link_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real.conflist");
    fs::write(&target, LIST).unwrap();
    let link = directory.path().join("10-flannel.conflist");
    symlink(&target, &link).unwrap();
    apply(directory.path(), &plan(directory.path())).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("sidewall-cni"));
}

#[test]
fn what_can_not_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    assert!(read(&directory.path().join("none")).unwrap().is_empty());
    fs::write(directory.path().join("a.conf"), b"\xff").unwrap();
    fs::write(directory.path().join("b.conf"), vec![b' '; usize::try_from(FILE_MAX).unwrap() + 1]).unwrap();
    symlink("/nowhere", directory.path().join("c.conf")).unwrap();
    let files = read(directory.path()).unwrap();
    let found: Vec<_> = files.values().map(|file| file.clone().unwrap_err()).collect();
    assert_eq!(found, [Unreadable::NotText, Unreadable::Long, Unreadable::NoFile]);
}

#[test]
fn the_program_is_put_in_place_once() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    fs::write(&from, "program").unwrap();
    let bin = directory.path().join("bin");
    fs::create_dir(&bin).unwrap();
    assert!(place_program(&from, &bin).unwrap());
    let target = bin.join("sidewall-cni");
    let meta = fs::metadata(&target).unwrap();
    assert_eq!((fs::read_to_string(&target).unwrap().as_str(), meta.mode() & 0o7777), ("program", 0o755));
    assert!(!place_program(&from, &bin).unwrap());
    // One that is running is not written into, and one that others have changed is put right.
    let running = File::open(&target).unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o777)).unwrap();
    fs::write(&from, "newer").unwrap();
    assert!(place_program(&from, &bin).unwrap());
    assert_eq!(
        (io::read_to_string(running).unwrap().as_str(), fs::metadata(&target).unwrap().mode() & 0o777),
        ("program", 0o755)
    );
    assert_eq!(fs::read_dir(&bin).unwrap().count(), 1);
    fs::write(&from, "").unwrap();
    assert!(matches!(place_program(&from, &bin), Err(InstallError::NoProgram(_))));
    assert!(matches!(place_program(&directory.path().join("none"), &bin), Err(InstallError::Io { what: "open", .. })));
}
