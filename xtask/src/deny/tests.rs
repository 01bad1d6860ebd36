use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::*;

fn ended(code: i32, stderr: &str) -> Output {
    Output { status: ExitStatus::from_raw(code << 8), stdout: Vec::new(), stderr: stderr.into() }
}

#[test]
fn a_fetched_database_is_checked() {
    assert_eq!(judge(&ended(0, "warning: Could not resolve host")).unwrap(), Fetched::Yes);
}

#[test]
fn a_closed_network_is_told_from_other_failures() {
    let closed = "[ERROR] failed to fetch database: failed to clone\n\
        fatal: unable to access 'https://example.org/db/': Could not resolve host: example.org";
    assert_eq!(judge(&ended(1, closed)).unwrap(), Fetched::NoNetwork);
    let slow = "fatal: unable to access 'https://example.org/db/': Failed to connect to example.org port 443";
    assert_eq!(judge(&ended(128, slow)).unwrap(), Fetched::NoNetwork);
}

#[test]
fn any_other_failure_is_one() {
    for other in [
        "fatal: could not create work tree dir: No space left on device",
        "fatal: unable to access 'https://example.org/db/': The requested URL returned error: 404",
        "fatal: unable to access 'https://example.org/db/': SSL certificate problem: self-signed certificate",
        "",
    ] {
        let error = judge(&ended(1, other)).unwrap_err();
        assert!(matches!(&error, DenyError::Fetch(said) if said == other), "{error}");
    }
}
