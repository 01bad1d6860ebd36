use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Watches files; contents that begin with `bad` are refused.
fn watch(files: &[PathBuf]) -> (Watch, Seen) {
    let snapshot = read(files).expect("the files read");
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let apply: Apply = Box::new(move |contents| {
        let all: Vec<u8> = contents.iter().flat_map(|content| content.iter().copied()).collect();
        if all.starts_with(b"bad") {
            return Err("it is bad".into());
        }
        record.lock().expect("unpoisoned").push(all);
        Ok(())
    });
    (Watch::new(files.to_vec(), &snapshot, apply), seen)
}

#[test]
fn a_change_of_the_same_size_within_the_same_tick_is_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f");
    fs::write(&file, "one").expect("written");
    let (mut watch, seen) = watch(std::slice::from_ref(&file));
    assert_eq!(watch.look(), Found::Same);
    fs::write(&file, "two").expect("written");
    assert_eq!(watch.look(), Found::Applied);
    assert_eq!(watch.look(), Found::Same);
    assert_eq!(*seen.lock().expect("unpoisoned"), [b"two".to_vec()]);
}

#[test]
fn a_swapped_link_as_in_a_mounted_secret_is_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for (version, content) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(path(version)).expect("made");
        fs::write(path(version).join("tls.crt"), content).expect("written");
        fs::write(path(version).join("tls.key"), content).expect("written");
    }
    symlink("v1", path("..data")).expect("linked");
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), path(name)).expect("linked");
    }
    let (mut watch, seen) = watch(&[path("tls.crt"), path("tls.key")]);
    assert_eq!(watch.look(), Found::Same);
    symlink("v2", path("..data_tmp")).expect("linked");
    fs::rename(path("..data_tmp"), path("..data")).expect("swapped");
    assert_eq!(watch.look(), Found::Applied);
    assert_eq!(*seen.lock().expect("unpoisoned"), [b"twotwo".to_vec()]);
}

#[test]
fn a_bad_or_missing_version_is_refused_and_a_good_one_after_it_is_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f");
    fs::write(&file, "one").expect("written");
    let (mut watch, seen) = watch(std::slice::from_ref(&file));
    fs::write(&file, "bad").expect("written");
    assert_eq!(watch.look(), Found::Refused("it is bad".to_owned()));
    fs::remove_file(&file).expect("removed");
    assert!(matches!(watch.look(), Found::Refused(why) if why.contains("f: ")));
    assert!(seen.lock().expect("unpoisoned").is_empty());
    fs::write(&file, "three").expect("written");
    assert_eq!(watch.look(), Found::Applied);
    assert_eq!(*seen.lock().expect("unpoisoned"), [b"three".to_vec()]);
}

#[test]
fn too_large_and_missing_files_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("large");
    fs::write(&file, vec![0; (MAX_FILE_BYTES + 1) as usize]).expect("written");
    let error = read(std::slice::from_ref(&file)).err().expect("too large").to_string();
    assert!(error.contains("large: larger than"), "{error}");
    let error = read(&[directory.path().join("none")]).err().expect("missing").to_string();
    assert!(error.contains("none: "), "{error}");
    let error = read(&[directory.path().to_owned()]).err().expect("a directory").to_string();
    assert!(error.ends_with(": not a regular file"), "{error}");
}

#[test]
fn what_is_in_force_is_not_stale_once_it_is_the_newest_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f");
    fs::write(&file, "one").expect("written");
    let (mut watch, seen) = watch(std::slice::from_ref(&file));
    fs::rename(&file, directory.path().join("away")).expect("moved");
    assert!(matches!(watch.look(), Found::Refused(_)));
    fs::rename(directory.path().join("away"), &file).expect("moved back");
    assert_eq!(watch.look(), Found::Restored);
    assert_eq!(watch.look(), Found::Same);
    fs::write(&file, "bad").expect("written");
    assert!(matches!(watch.look(), Found::Refused(_)));
    assert_eq!(watch.look(), Found::Same, "it is said once");
    fs::write(&file, "one").expect("written");
    assert_eq!(watch.look(), Found::Restored);
    assert!(seen.lock().expect("unpoisoned").is_empty(), "and it was in force all the time");
}

#[test]
fn a_file_that_is_being_written_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f");
    fs::write(&file, "one").expect("written");
    let files = Files::new(vec![file.clone()], &read(std::slice::from_ref(&file)).expect("it reads"));
    let within = Duration::from_millis(200);
    assert!(!files.are_being_written(within), "nothing has changed");
    fs::write(&file, "more").expect("written");
    assert!(!files.are_being_written(within), "it has changed, and does no more");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for size in (5..4000).cycle().take_while(|_| !done.load(Ordering::SeqCst)) {
                fs::write(&file, "x".repeat(size)).expect("written");
                thread::sleep(within / 10);
            }
        });
        // The one who writes may be kept from it for a while.
        let noticed = (0..20).any(|_| files.are_being_written(within));
        done.store(true, Ordering::SeqCst);
        assert!(noticed);
    });
}
