//! `sidewall demo`, whole. It needs root, and `sidewall-proxy` beside `sidewall`: cargo build -p sidewall-proxy.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use common::{Background, files, pods, processes_in, sidewall};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn every_line_is_as_expected_and_nothing_is_left() {
    let temporary = files(&[]);
    let state = files(&[]);
    // First to its end, as a program reads it.
    let out = sidewall()
        .env("TMPDIR", temporary.path())
        .args(["demo", "--output=json", "--state-dir"])
        .arg(state.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{errors}"));
    assert_eq!((out.status.code(), report["ok"].as_bool()), (Some(0), Some(true)), "{report:#}");
    let lines = report["lines"].as_array().unwrap();
    let after = |attempt: &str| {
        let line = lines.iter().find(|line| line["attempt"] == attempt).unwrap_or_else(|| panic!("no line {attempt}"));
        (line["before"].as_str().unwrap().to_owned(), line["after"].as_str().unwrap().to_owned())
    };
    let was = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    assert_eq!(after("host -> GET / without credentials"), was("401", "401"));
    assert_eq!(after("host -> GET / as admin:admin"), was("Hello World!", "Hello World!"));
    assert_eq!(after("log-shipper -> application"), was("Hello World!", "denied"));
    assert_eq!(after("log-shipper -> collector"), was("reached", "reached"));
    assert_eq!(after("log-shipper -> elsewhere"), was("reached", "denied"));
    assert_eq!(lines.len(), 30);
    nothing_left(temporary.path(), state.path());

    // Then to stay, until it is told to go.
    let args = ["demo", "--keep", "--port", "0", "--state-dir", state.path().to_str().unwrap()];
    let mut demo = Background::start(temporary.path(), &args);
    let curl = demo.until("curl line", |line| line.contains("curl -i -u admin:admin"));
    let address = curl.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut front = TcpStream::connect(address).unwrap();
    write!(front, "GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    front.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.code(), 0);
    nothing_left(temporary.path(), state.path());
}

#[track_caller]
fn nothing_left(temporary: &std::path::Path, state: &std::path::Path) {
    assert!(pods(state).is_empty());
    assert_eq!(processes_in(temporary), Vec::<std::path::PathBuf>::new());
    assert_eq!(std::fs::read_dir(temporary).unwrap().count(), 0, "files are left");
    // The collector's address was on the pod's link.
    assert!(TcpListener::bind("198.51.100.10:0").is_err(), "the link is still there");
}
