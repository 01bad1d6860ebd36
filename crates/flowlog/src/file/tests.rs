use super::*;
use crate::testing::{number, record};
use std::os::unix::fs::PermissionsExt;

fn numbers(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| number(&Record::from_line(line).unwrap()).unwrap()).collect()
}

#[test]
fn a_full_file_is_put_away_and_no_record_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.json");
    let length = record(10).to_line().len() as u64 + 1;
    let mut file = RotatingFile::open(&path, length * 3).unwrap();
    (10..18).for_each(|n| file.write(&record(n)).unwrap());
    assert_eq!((numbers(&dir.path().join("flows.json.1")), numbers(&path)), (vec![13, 14, 15], vec![16, 17]));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What is there already counts.
    let mut file = RotatingFile::open(&path, length * 3).unwrap();
    (18..20).for_each(|n| file.write(&record(n)).unwrap());
    assert_eq!((numbers(&dir.path().join("flows.json.1")), numbers(&path)), (vec![16, 17, 18], vec![19]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    // A record that is larger than the limit is written all the same.
    let mut file = RotatingFile::open(&path, 10).unwrap();
    (20..22).for_each(|n| file.write(&record(n)).unwrap());
    assert_eq!(numbers(&path), [21]);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = RotatingFile::open(dir.path(), 1).unwrap_err().to_string();
    assert!(error.starts_with("can't open the flow log /"), "{error}");
}
