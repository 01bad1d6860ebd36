use super::*;
use std::os::unix::fs::PermissionsExt;

fn memory(directory: &tempfile::TempDir) -> Memory {
    Memory::owned_by(directory.path().join("pods"), nix::unistd::geteuid().as_raw()).unwrap()
}

fn pod(uid: &str) -> Remembered {
    Remembered {
        namespace: "shop".into(),
        name: format!("web-{uid}"),
        uid: PodUid::try_from(uid.to_owned()).unwrap(),
        sandbox: "f00d".into(),
        netns: NsId { device: 4, inode: 4_026_531_840 },
        devices: BTreeMap::from([
            ("eth0".into(), Device { network: None, addresses: vec!["10.1.2.3".parse().unwrap()] }),
            ("net1".into(), Device { network: Some("shop/link".into()), addresses: vec![] }),
        ]),
        rules: Some(Rules { generation: 3 }),
    }
}

#[test]
fn what_is_kept_is_recalled_until_it_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let kept = memory(&directory);
    let (a, mut b) = (pod("aa-01"), pod("bb-02"));
    kept.keep(&b).unwrap();
    kept.keep(&a).unwrap();
    b.rules = None;
    kept.keep(&b).unwrap();
    let (pods, troubles) = memory(&directory).recall().unwrap();
    assert_eq!((pods, troubles.len()), (vec![a.clone(), b.clone()], 0));
    kept.forget(&a.uid).unwrap();
    kept.forget(&a.uid).unwrap();
    assert_eq!(kept.recall().unwrap().0, [b]);
    let mode = fs::metadata(kept.path(&pod("bb-02").uid)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_is_not_ours_is_told_and_the_others_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let kept = memory(&directory);
    kept.keep(&pod("aa")).unwrap();
    let put = |name: &str, text: &str| {
        let path = kept.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    put("01.json", "{");
    put("02.json", &serde_json::to_string(&Written { version: 2, pod: pod("02") }).unwrap());
    put("03.json", &serde_json::to_string(&Written { version: 1, pod: pod("aa") }).unwrap());
    put("04.json", &format!("{{\"version\":1,{}\"pod\":0}}", " ".repeat(LARGEST as usize)));
    let shared = put("05.json", &serde_json::to_string(&Written { version: 1, pod: pod("05") }).unwrap());
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o620)).unwrap();
    std::os::unix::fs::symlink(kept.path(&pod("aa").uid), kept.directory.join("06.json")).unwrap();
    let half = put("07.new", "{\"vers");
    put("notes", "not looked at");
    let (pods, troubles) = kept.recall().unwrap();
    assert_eq!(pods, [pod("aa")]);
    let mut told: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    told.sort();
    let says = ["EOF", "version 2", "speaks of pod aa", "bytes", "mode 620", "06.json"];
    assert_eq!(told.len(), says.len(), "{told:?}");
    for word in says {
        assert!(told.iter().any(|told| told.contains(word)), "{word}: {told:?}");
    }
    assert!(!half.exists());
}

#[test]
fn a_directory_that_others_can_write_in_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pods");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let own = nix::unistd::geteuid().as_raw();
    assert!(matches!(Memory::owned_by(path.clone(), own), Err(MemoryError::NotRoots { mode: 0o777, .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(Memory::owned_by(path.clone(), own + 1), Err(MemoryError::NotRoots { .. })));
    let elsewhere = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &elsewhere).unwrap();
    assert!(Memory::owned_by(elsewhere, own).is_err());
}

#[test]
fn an_identity_is_no_path() {
    for bad in ["", "..", "a/b", "a.json", "g1", &"a".repeat(65)] {
        assert!(PodUid::try_from(bad.to_owned()).is_err(), "{bad:?}");
    }
    for good in ["5c3a9a1e-3f1e-4a7a-9c9f-0123456789ab", "0123456789abcdef0123456789abcdef"] {
        assert_eq!(PodUid::try_from(good.to_owned()).unwrap().as_str(), good);
    }
}
