use super::*;

fn somewhere(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

#[test]
fn a_folder_is_complete_or_not_there() {
    let (above, folder) = somewhere("part-1");
    let error = at_once(&folder, |beside| {
        std::fs::write(beside.join("half"), "x").unwrap();
        Err(PartsError::NoArchive)
    });
    assert!(matches!(error, Err(PartsError::NoArchive)));
    assert!(!folder.exists());
    at_once(&folder, |beside| std::fs::write(beside.join("whole"), "x").map_err(PartsError::file("write", beside)))
        .unwrap();
    assert!(folder.join("whole").exists());
    assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 1, "something was left beside it");
}

#[test]
fn who_comes_second_leaves_what_is_there() {
    let (_above, folder) = somewhere("part-1");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("first"), "x").unwrap();
    at_once(&folder, |beside| std::fs::write(beside.join("second"), "x").map_err(PartsError::file("write", beside)))
        .unwrap();
    assert!(folder.join("first").exists() && !folder.join("second").exists());
}

#[test]
fn what_a_killed_run_left_is_swept_away() {
    let (above, folder) = somewhere("part-1");
    // No process has the highest number that a process id can have, and one more.
    let (dead, alive) = (above.path().join("part-1.4194305.part"), above.path().join("part-1.1.part"));
    let other = above.path().join("part-12.4194305.part");
    for path in [&dead, &alive, &other] {
        std::fs::create_dir(path).unwrap();
    }
    at_once(&folder, |_| Ok(())).unwrap();
    assert!(folder.is_dir() && alive.is_dir() && other.is_dir() && !dead.exists());
}
