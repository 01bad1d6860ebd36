use super::*;

#[test]
fn differences_are_named() {
    let files = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Files>();
    let wanted = files(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let present = files(&[("b", "0"), ("c", "3"), ("d", "4")]);
    assert_eq!(difference(&wanted, &present), ["a is missing", "b differs", "d is surplus"]);
    assert!(difference(&wanted, &wanted).is_empty());
}

#[test]
fn only_yaml_files_of_the_folder_count() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "1").unwrap();
    std::fs::write(folder.path().join("README.md"), "2").unwrap();
    assert_eq!(read(folder.path()).unwrap(), Files::from([("a.yaml".into(), "1".into())]));
    assert_eq!(read(&folder.path().join("none")).unwrap(), Files::new());
}
