//! What the tests of the running proxy share: the real binary, a real application, a client that sends raw bytes.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod client;
pub mod mounted;
pub mod side;
pub mod upstream;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// `admin:admin`, as `htpasswd -nbm admin admin` made it.
pub const USERS: &str = "admin:$apr1$837ZICup$/JkHlYsg3Db39Eyw.u7gK/\n";
/// The header that `admin:admin` sends.
pub const ADMIN: &str = "Authorization: Basic YWRtaW46YWRtaW4=";
/// Longer than anything that is waited for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A port on which nothing listens at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Waits until something is so, and fails the test when it does not come to be.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "never came to be: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A running `sidewall-proxy`, with its files. Dropped, it is killed.
pub struct Proxy {
    pub port: u16,
    pub directory: TempDir,
    child: Child,
}

impl Proxy {
    /// In front of an application, with `admin:admin`.
    pub fn in_front_of(application: u16) -> Self {
        Self::with(application, "authentication: [{basic: {htpasswdFile: users}}]", "", |directory| {
            fs::write(directory.join("users"), USERS).expect("written");
        })
    }

    /// On 127.0.0.1, with these lines in the listener and these in the configuration, and these files beside it.
    pub fn with(application: u16, listener: &str, rest: &str, files: impl Fn(&Path)) -> Self {
        let text = |port| {
            format!(
                "listeners:\n- port: {port}\n  address: 127.0.0.1\n  forward: {{port: {application}}}\n  {listener}\n{rest}\n"
            )
        };
        Self::start(text, files)
    }

    /// With this configuration for a port.
    pub fn start(text: impl Fn(u16) -> String, files: impl Fn(&Path)) -> Self {
        // Another program may take the port between our look and the proxy's start: then try another.
        for _ in 0..5 {
            let directory = tempfile::tempdir().expect("a directory");
            files(directory.path());
            let port = free_port();
            fs::write(directory.path().join("proxy.yaml"), text(port)).expect("written");
            let child = spawn(directory.path(), &["--workers", "2"]);
            let mut proxy = Self { port, directory, child };
            if proxy.comes_up() {
                return proxy;
            }
        }
        panic!("the proxy found no free port");
    }

    fn comes_up(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            // A connection that sends nothing leaves no line in the access log.
            if self.errors().contains("listening") && TcpStream::connect(self.address()).is_ok() {
                return true;
            }
            if let Some(status) = self.child.try_wait().expect("the proxy can be waited for") {
                let errors = self.errors();
                assert!(errors.contains("already in use"), "the proxy ended with {status}:\n{errors}");
                return false;
            }
            assert!(Instant::now() < until, "the proxy does not come up:\n{}", self.errors());
            sleep(Duration::from_millis(10));
        }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has written to standard error.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.file("stderr")).expect("readable")
    }

    /// What it has written to standard output.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("stdout")).expect("readable")
    }

    /// The access log's lines, once there are so many.
    pub fn lines(&self, count: usize) -> Vec<serde_json::Value> {
        eventually(&format!("{count} lines in the access log"), || self.log().lines().count() >= count);
        self.log().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the proxy takes signals");
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the proxy can be waited for")
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the proxy ends", || {
            status = self.has_ended();
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("readable");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a VmHWM line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("readable").count()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the binary with `proxy.yaml` of a directory, its output in files there.
pub fn spawn(directory: &Path, arguments: &[&str]) -> Child {
    let create = |name: &str| File::create(directory.join(name)).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_sidewall-proxy"))
        .arg("--config")
        .arg(directory.join("proxy.yaml"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(create("stdout"))
        .stderr(create("stderr"))
        .spawn()
        .expect("the proxy starts")
}

/// Runs the binary to its end: status, standard output, standard error.
pub fn run(arguments: &[&str], stdin: &str) -> (ExitStatus, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sidewall-proxy"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the proxy starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    let mut errors = String::new();
    let mut output = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    (child.wait().expect("it ends"), output, errors)
}
