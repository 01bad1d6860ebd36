//! Starting, changing, stopping.

mod common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use common::client::Client;
use common::upstream::Upstream;
use common::{ADMIN, Proxy, USERS, eventually, run};
use nix::sys::signal::Signal;

/// `admin:changed`, made by `htpasswd -nbs admin changed`.
const CHANGED: &str = "admin:{SHA}N8bFe+30MF70EknBeUdgtcuPrRc=\n";
const ADMIN_CHANGED: &str = "Authorization: Basic YWRtaW46Y2hhbmdlZA==";

#[test]
fn users_change_while_it_runs_and_a_bad_file_changes_nothing() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(upstream.port, "authentication: [{basic: {htpasswdFile: users}}]", "", |directory| {
        fs::create_dir(directory.join("v1")).expect("made");
        fs::write(directory.join("v1/users"), USERS).expect("written");
        symlink("v1", directory.join("..data")).expect("linked");
        symlink("..data/users", directory.join("users")).expect("linked");
    });
    let swap_to = |version: &str, users: &str| {
        fs::create_dir(proxy.file(version)).expect("made");
        fs::write(proxy.file(version).join("users"), users).expect("written");
        symlink(version, proxy.file("..tmp")).expect("linked");
        fs::rename(proxy.file("..tmp"), proxy.file("..data")).expect("swapped");
    };
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("/", &[ADMIN]).status, 200);

    swap_to("v2", &format!("{CHANGED}sesame\n"));
    eventually("the bad file is refused", || proxy.errors().contains("the new version is refused"));
    let errors = proxy.errors();
    assert!(errors.contains("line 2: has no colon") && errors.contains("users"), "{errors}");
    assert!(!errors.contains("sesame"), "{errors}");
    assert_eq!(client.get("/", &[ADMIN]).status, 200, "the old users stay");

    swap_to("v3", CHANGED);
    eventually("the new password is taken", || client.get("/", &[ADMIN_CHANGED]).status == 200);
    assert_eq!(client.get("/", &[ADMIN]).status, 401, "the old one is forgotten at once, however warm the cache");

    // Rewritten in place, as an editor does: the last user is removed.
    fs::write(proxy.file("v3/users"), "# nobody\n").expect("written");
    eventually("nobody gets in", || client.get("/", &[ADMIN_CHANGED]).status == 401);
    assert!(proxy.errors().contains("nobody can log in"));
}

#[test]
fn sigterm_lets_requests_in_flight_end_and_takes_no_new_ones() {
    let upstream = Upstream::start();
    // Draining begins at once, while the request is in flight.
    let basic = "authentication: [{basic: {htpasswdFile: users}}]";
    let mut proxy = Proxy::with(upstream.port, basic, "timeouts: {unreadySeconds: 0}", |directory| {
        fs::write(directory.join("users"), USERS).expect("written");
    });
    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("/", &[ADMIN]).status, 200);
    let mut busy = Client::connect(proxy.address());
    busy.send(format!("GET /sleep/1500 HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    eventually("the request arrives", || upstream.heads().len() == 2);

    proxy.signal(Signal::SIGHUP);
    eventually("it has heard", || proxy.errors().contains("SIGHUP: looking at all files"));
    assert_eq!(idle.get("/", &[ADMIN]).status, 200, "it goes on");

    proxy.signal(Signal::SIGTERM);
    assert!(idle.is_closed(), "an idle connection ends at once");
    eventually("nothing listens", || TcpStream::connect(proxy.address()).is_err());
    assert!(proxy.has_ended().is_none(), "a request is in flight");
    let answer = busy.answer(true);
    assert_eq!((answer.status, answer.text()), (200, "slept"));
    assert!(busy.is_closed());
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(proxy.lines(3).len(), 3, "the last line is written");
}

#[test]
fn draining_has_a_deadline() {
    let upstream = Upstream::start();
    let mut proxy = Proxy::with(upstream.port, "anonymous: true", "timeouts: {drainSeconds: 1}", |_| {});
    let mut busy = Client::connect(proxy.address());
    busy.send("GET /sleep/60000 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request arrives", || upstream.heads().len() == 1);
    let since = Instant::now();
    proxy.signal(Signal::SIGINT);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(since.elapsed() >= Duration::from_secs(1), "it waited");
    assert!(busy.try_answer(true).is_none());
    assert!(proxy.errors().contains("connections are cut"), "{}", proxy.errors());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::start();
    let mut proxy = Proxy::in_front_of(upstream.port);
    let mut busy = Client::connect(proxy.address());
    busy.send(format!("GET /sleep/60000 HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    eventually("the request arrives", || upstream.heads().len() == 1);
    proxy.signal(Signal::SIGTERM);
    eventually("it drains", || proxy.errors().contains("draining"));
    proxy.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(1));
}

fn with_file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("proxy.yaml");
    fs::write(&file, text).expect("written");
    fs::write(directory.path().join("users"), USERS).expect("written");
    let name = file.to_str().expect("text").to_owned();
    (directory, name)
}

#[test]
fn a_port_in_use_is_said_so() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let (_directory, file) =
        with_file(&format!("listeners: [{{port: {port}, address: 127.0.0.1, forward: {{port: 1}}, anonymous: true}}]"));
    let (status, _, errors) = run(&["--config", &file], "");
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains(&format!("listeners[0].port: 127.0.0.1:{port} is already in use")), "{errors}");

    // Another proxy of the same user would share the port unnoticed, were it not for the probe.
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let (status, _, errors) = run(&["--config", proxy.file("proxy.yaml").to_str().expect("text")], "");
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("already in use"), "{errors}");
}

#[test]
fn check_reads_everything_and_opens_nothing() {
    let (directory, file) =
        with_file("listeners: [{port: 1, forward: {port: 2}, authentication: [{basic: {htpasswdFile: users}}]}]");
    let (status, output, errors) = run(&["--config", &file, "--check"], "");
    assert!(status.success(), "{errors}");
    assert_eq!(output, format!("{file}: ok\n"));

    fs::write(directory.path().join("users"), "admin:admin\n").expect("written");
    let (status, _, errors) = run(&["--config", &file, "--check"], "");
    assert_eq!(status.code(), Some(1));
    assert!(
        errors.starts_with(&format!("sidewall-proxy: {file}:1: listeners[0].authentication[0].basic.htpasswdFile: "))
            && errors.contains("users: line 1: has a hash of an unsupported kind")
            && !errors.contains("admin:admin"),
        "{errors}"
    );
    fs::remove_file(directory.path().join("users")).expect("removed");
    let (_, _, errors) = run(&["--config", &file, "--check"], "");
    assert!(errors.contains("users: No such file"), "{errors}");
}

#[test]
fn a_bad_configuration_names_file_line_and_field() {
    for (text, expected) in [
        ("listeners:\n- port: 80\n  forward: {port: 8080}\n", ":2: listeners[0].authentication: "),
        ("listeners:\n- port: 80\n  forwards: {port: 8080}\n", ":3:"),
        (
            "listeners:\n- port: 80\n  forward: {port: 8080}\n  anonymous: true\n  tls: {certFile: a}\n",
            ":5: listeners[0].tls.keyFile: ",
        ),
        ("listeners: [", ":1:"),
    ] {
        let (_directory, file) = with_file(text);
        let (status, _, errors) = run(&["--config", &file], "");
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(errors.contains(&format!("{file}{expected}")), "{errors}");
    }
    let (status, _, errors) = run(&["--config", "/nowhere/proxy.yaml"], "");
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("/nowhere/proxy.yaml: No such file"), "{errors}");
}

#[test]
fn the_hash_command_makes_lines_that_other_programs_take() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    for algorithm in ["bcrypt", "apr1", "sha512"] {
        let (status, line, errors) = run(&["hash", "ada", "--algorithm", algorithm], "pa ss:wörd\n");
        assert!(status.success(), "{errors}");
        fs::write(&file, &line).expect("written");
        assert!(verified_by_htpasswd(&file, "pa ss:wörd"), "{line}");
        assert!(!verified_by_htpasswd(&file, "pa ss:word"), "{line}");
    }
    let (status, output, errors) = run(&["hash", "a:b"], "sesame\n");
    assert_eq!((status.code(), output.as_str()), (Some(1), ""));
    assert!(!errors.contains("sesame"), "{errors}");
}

/// Asks Apache's own program, which the test needs (Debian's apache2-utils).
fn verified_by_htpasswd(file: &Path, password: &str) -> bool {
    let output = std::process::Command::new("htpasswd")
        .args(["-v", "-b"])
        .arg(file)
        .args(["ada", password])
        .output()
        .expect("htpasswd of apache2-utils is installed");
    output.status.success()
}

#[test]
fn help_and_version_are_there() {
    let (status, output, _) = run(&["--help"], "");
    assert!(status.success() && output.contains("--config") && output.contains("hash"), "{output}");
    let (status, output, _) = run(&["--version"], "");
    assert!(status.success() && output.starts_with("sidewall-proxy "), "{output}");
}
