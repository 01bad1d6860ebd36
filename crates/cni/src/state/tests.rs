use super::*;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

fn namespace(name: &str) -> Namespace {
    name.try_into().unwrap()
}

fn state() -> State {
    let standing =
        [("kube-system", Standing::Exempt), ("plain", Standing::NothingSelects), ("shop", Standing::Selected)];
    State::new(standing.into_iter().map(|(name, standing)| (namespace(name), standing)).collect())
}

/// A directory of root's alone, and the file's path in it. These tests need root.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(fs::metadata(directory.path()).unwrap().uid(), 0, "this test must run as root");
    let path = directory.path().join("cni.json");
    (directory, path)
}

#[test]
fn what_is_written_is_read() {
    let (directory, _) = place();
    let path = directory.path().join("made/cni.json");
    state().write(&path).unwrap();
    let read = State::read(&path).unwrap();
    assert_eq!(read, state());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(read.standing(&namespace("kube-system")), Standing::Exempt);
    assert_eq!(read.standing(&namespace("plain")), Standing::NothingSelects);
    assert_eq!(read.standing(&namespace("shop")), Standing::Selected);
    assert_eq!(read.standing(&namespace("unheard-of")), Standing::Selected);
    assert!(read.any_selected() && read.names(&namespace("shop")) && !read.names(&namespace("unheard-of")));
    assert!(read.age() < Duration::from_secs(60));
    State::new(BTreeMap::new()).write(&path).unwrap();
    assert!(!State::read(&path).unwrap().any_selected());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn the_format_is_as_documented() {
    let mut state = state();
    state.written = 7;
    let text =
        r#"{"version":1,"written":7,"namespaces":{"kube-system":"exempt","plain":"nothingSelects","shop":"selected"}}"#;
    assert_eq!(serde_json::to_string(&state).unwrap(), text);
}

#[test]
fn a_file_that_others_may_have_written_is_not_believed() {
    let (directory, path) = place();
    state().write(&path).unwrap();
    let refused = |what: &str| {
        let error = State::read(&path).unwrap_err();
        assert!(matches!(error, StateError::Untrusted { .. } | StateError::Io { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused("others than root may write");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    State::read(&path).unwrap();
    chown(&path, Some(65534), None).unwrap();
    refused("not root's");
    chown(&path, Some(0), None).unwrap();

    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    refused("others than root may write");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    chown(directory.path(), Some(65534), None).unwrap();
    refused("not root's");
    chown(directory.path(), Some(0), None).unwrap();
    State::read(&path).unwrap();

    let moved = directory.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    refused("No such file");
    symlink(&moved, &path).unwrap();
    refused("symbolic links");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("no ordinary file");
    fs::remove_dir(&path).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(fifo.success());
    refused("no ordinary file");
}

#[test]
fn a_directory_behind_a_link_is_not_believed() {
    let (directory, path) = place();
    state().write(&path).unwrap();
    let link = directory.path().join("link");
    symlink(directory.path(), &link).unwrap();
    assert!(matches!(State::read(&link.join("cni.json")), Err(StateError::Io { what: "open", .. })));
    assert!(matches!(State::read(Path::new("cni.json")), Err(StateError::Path(_))));
}

#[test]
fn a_file_that_says_something_else_is_not_believed() {
    let (_directory, path) = place();
    for (text, what) in [
        ("", "EOF"),
        ("{}", "version"),
        (r#"{"version":2,"anything":1}"#, "version 2"),
        (r#"{"version":1,"written":7}"#, "namespaces"),
        (r#"{"version":1,"written":7,"namespaces":{},"more":1}"#, "more"),
        (r#"{"version":1,"written":-7,"namespaces":{}}"#, "invalid value"),
        (r#"{"version":1,"written":7,"namespaces":{"a":"open"}}"#, "open"),
        (r#"{"version":1,"written":7,"namespaces":{"A":"exempt"}}"#, "DNS label"),
        (r#"{"version":1,"written":7,"namespaces":{"a":"selected","a":"exempt"}}"#, "twice"),
        (r#"{"version":1,"written":7,"namespaces":{"a":"exempt""#, "EOF"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = State::read(&path).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("not believed"), "{text}: {error}");
    }
    fs::write(&path, vec![b' '; usize::try_from(STATE_MAX).unwrap() + 1]).unwrap();
    assert!(matches!(State::read(&path), Err(StateError::Long(_))));
}
