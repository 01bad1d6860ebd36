//! What the tests of the command share.
#![allow(dead_code, reason = "each test target uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The command, as it was built for these tests.
pub fn sidewall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidewall"));
    command.env_remove("SIDEWALL_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// The directory examples/hello.
pub fn hello() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello")
}

/// A directory with files.
pub fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o755);
    // The containers' users start there.
    let dir = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Runs the command in a directory, and gives its exit code, standard output and standard error.
pub fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = sidewall().current_dir(dir).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs the command and reads its JSON.
pub fn json(dir: &Path, args: &[&str]) -> (i32, Value) {
    let (code, out, err) = run(dir, args);
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}")))
}

/// A command that runs on; killed when dropped.
pub struct Background {
    child: Child,
    lines: Receiver<String>,
}

impl Background {
    /// Starts it.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child =
            sidewall().current_dir(dir).env("TMPDIR", dir).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let out = child.stdout.take().unwrap();
        thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    /// Reads lines until one is what is looked for.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is: impl FnMut(&str) -> bool) -> String {
        let begun = Instant::now();
        let mut seen = Vec::new();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if is(&line) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no {what}; exit {:?}, after:\n{}", self.child.try_wait(), seen.join("\n")),
            }
        }
    }

    /// Reads events until one is what is looked for.
    #[track_caller]
    pub fn event(&mut self, name: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let line = self.until(name, |line| {
            let event = parse(line);
            event["event"] == name && is(&event)
        });
        parse(&line)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end and gives its exit code.
    #[track_caller]
    pub fn code(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Its pods go with it: their processes die with their parent, and the next start removes the rest.
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
            let begun = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The processes whose working directory is below a directory.
pub fn processes_in(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))).collect()
}

/// The pods that are written down in a state directory.
pub fn pods(state: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(state.join("pods")).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
