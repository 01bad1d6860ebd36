//! A cell: namespaces and a cgroup with a first process, seen from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::process::Signal;
use sidewall_netns::{Cgroup, Cgroups, Launch, NetNs, Process};

use crate::error::{BedError, Result};
use crate::inside::mounts::LOGS;
use crate::inside::protocol::{Answer, Plan, Request, Service};
use crate::parts;
use crate::until::until;

/// How long the first process may take for anything it is asked.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a cell may take to end.
const END: Duration = Duration::from_secs(20);
/// How much of a log is shown in an error, in bytes.
const TAIL: usize = 3000;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Namespaces (mount, process, host name, IPC, cgroup; the network one is given) with a cgroup and a first process.
///
/// Dropping it ends everything inside and removes the cgroup. The same happens when this process is killed.
#[derive(Debug)]
pub struct Cell {
    name: String,
    enter: Process,
    init: u32,
    cgroup: Cgroup,
    netns: NetNs,
    talk: Mutex<Talk>,
}

#[derive(Debug)]
struct Talk {
    /// Closing it ends the cell.
    to: Option<ChildStdin>,
    from: mpsc::Receiver<String>,
}

impl Cell {
    /// Makes a cell whose network is `netns`; with `containers`, one in which containers can run.
    ///
    /// # Errors
    /// When not root, when the bed's program is missing, or when the kernel refuses something.
    pub fn new(name: &str, netns: &NetNs, containers: bool) -> Result<Cell> {
        if !rustix::process::geteuid().is_root() {
            return Err(BedError::NotRoot);
        }
        let bed = parts::bed()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = Cgroups::find()?.top().create(&format!("sidewall-bed-{}-{number}", std::process::id()))?;
        let plan = Plan { hostname: name.into(), cgroup: cgroup.path().into(), containers };
        let plan = serde_json::to_string(&plan)
            .map_err(|source| BedError::Json { what: "the plan of a cell".into(), source })?;
        let launched = Launch::new(&bed)
            .args(["enter", &plan])
            .env("PATH", search_path())
            .netns(netns)
            .privileged()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut enter = match launched {
            Ok(enter) => enter,
            Err(error) => {
                cgroup.remove()?;
                return Err(error.into());
            }
        };
        let to = enter.take_stdin();
        let from = listen(enter.take_stdout());
        // From here on `Drop` cleans up.
        let mut cell = Cell {
            name: name.into(),
            enter,
            init: 0,
            cgroup,
            netns: netns.clone(),
            talk: Mutex::new(Talk { to, from }),
        };
        let (mut init, mut ready) = (None, false);
        while init.is_none() || !ready {
            match cell.hear(&cell.lock().from)? {
                Answer::Init(pid) => init = Some(pid),
                Answer::Ready => ready = true,
                other => return Err(cell.refused(&format!("{other:?}"))),
            }
        }
        cell.init = init.unwrap_or_default();
        Ok(cell)
    }

    /// What it was called; also the host name inside.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// The top of its cgroups as the host sees it; the root of cgroups inside.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The first process, in this process's counting.
    pub fn pid(&self) -> u32 {
        self.init
    }

    /// How a path inside the cell is reached from outside, also for connecting to a socket.
    ///
    /// Symbolic links are followed as they are followed inside: an absolute one (`/var/run`) would else lead from the way
    /// through `/proc` to the host's file of that name. What does not exist yet is taken literally.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        let inside = inside.as_ref();
        let inside = inside.strip_prefix("/").unwrap_or(inside);
        let mut missing = PathBuf::new();
        for there in inside.ancestors() {
            if let Some(real) = resolve(&root, there) {
                let real = real.strip_prefix("/").unwrap_or(&real).join(&missing);
                // An empty rest would leave a slash at the end, which no file has.
                return root.join(real.components().as_path());
            }
            missing = Path::new(there.file_name().unwrap_or_default()).join(missing);
        }
        root.join(inside)
    }

    /// Writes a file inside, making its folders. A link that leads nowhere is replaced.
    ///
    /// # Errors
    /// [`BedError::File`].
    pub fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(&inside);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(BedError::file("make", folder))?;
        }
        if path.is_symlink() {
            fs::remove_file(&path).map_err(BedError::file("remove", &path))?;
        }
        fs::write(&path, content).map_err(BedError::file("write", path))
    }

    /// A program to be run once inside: its mounts, processes, network, host name, IPC and cgroup root, but not the cgroup
    /// itself. It is the caller's child; its output goes where the caller says.
    ///
    /// # Errors
    /// [`BedError::NoPart`] without `nsenter` (util-linux).
    pub fn command(&self, program: impl AsRef<Path>) -> Result<Command> {
        let mut command = Command::new(parts::system("nsenter")?);
        command.args(["--target", &self.init.to_string(), "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"]);
        command.arg("--wd=/").arg("--").arg(program.as_ref()).env("PATH", search_path()).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a program inside to its end and returns what it printed.
    ///
    /// # Errors
    /// [`BedError::Failed`] with what it said.
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<String> {
        output(self.command(program)?.args(arguments))
    }

    /// Starts a service inside, in the cgroup of services. Its output goes to a log, see [`Cell::log`].
    ///
    /// # Errors
    /// [`BedError::Cell`] when it can't be started.
    pub fn start(&self, name: &str, command: &[String], environment: &[(&str, &str)]) -> Result<()> {
        let mut all = BTreeMap::from([("PATH".to_owned(), search_path()), ("HOME".to_owned(), "/root".to_owned())]);
        all.extend(environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let log = Path::new(LOGS).join(format!("{name}.log"));
        let service = Service { name: name.into(), command: command.to_vec(), environment: all, log };
        match self.ask(&Request::Start(service))? {
            Answer::Started(_) => Ok(()),
            other => Err(self.refused(&format!("cannot start {name}: {}", words(&other)))),
        }
    }

    /// Sends a signal to a service.
    ///
    /// # Errors
    /// [`BedError::Cell`] when it doesn't run.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        match self.ask(&Request::Signal { name: name.into(), signal: signal.as_raw() })? {
            Answer::Signalled => Ok(()),
            other => Err(self.refused(&format!("cannot signal {name}: {}", words(&other)))),
        }
    }

    /// Ends a service with the signal and waits until it has ended; returns how it ended, in words.
    ///
    /// # Errors
    /// When it doesn't run, or not end within the limit.
    pub fn stop(&self, name: &str, signal: Signal, limit: Duration) -> Result<String> {
        self.signal(name, signal)?;
        until(&format!("the end of {name}"), limit, || Ok(self.ended(name)?.ok_or_else(|| self.log(name))))
    }

    /// How a service ended; `None` while it runs.
    ///
    /// # Errors
    /// [`BedError::Cell`] when there is none of that name.
    pub fn ended(&self, name: &str) -> Result<Option<String>> {
        match self.ask(&Request::State { name: name.into() })? {
            Answer::Running(_) => Ok(None),
            Answer::Ended(how) => Ok(Some(how)),
            other => Err(self.refused(&format!("{name}: {}", words(&other)))),
        }
    }

    /// The process id of a running service in this process's counting, to read its `/proc` files.
    ///
    /// # Errors
    /// [`BedError::Cell`] when it doesn't run.
    pub fn service_pid(&self, name: &str) -> Result<u32> {
        let Answer::Running(inside) = self.ask(&Request::State { name: name.into() })? else {
            return Err(self.refused(&format!("{name} does not run")));
        };
        let services = self.cgroup.open("bed")?;
        let same = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default().to_owned();
            numbers.split_ascii_whitespace().next_back() == Some(inside.to_string().as_str())
        };
        let found = services.procs()?.into_iter().find(same).and_then(|pid| u32::try_from(pid).ok());
        found.ok_or_else(|| self.refused(&format!("the process of {name} is not to be found")))
    }

    /// Fails when a service has ended, with the end of its log.
    ///
    /// # Errors
    /// [`BedError::Ended`].
    pub fn still_runs(&self, name: &str) -> Result<()> {
        match self.ended(name)? {
            None => Ok(()),
            Some(status) => {
                Err(BedError::Ended { cell: self.name.clone(), service: name.into(), status, log: self.log(name) })
            }
        }
    }

    /// The end of a service's log.
    pub fn log(&self, name: &str) -> String {
        let log = fs::read(self.path(Path::new(LOGS).join(format!("{name}.log")))).unwrap_or_default();
        String::from_utf8_lossy(log.get(log.len().saturating_sub(TAIL)..).unwrap_or_default()).into_owned()
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        let mut line = serde_json::to_vec(request)
            .map_err(|source| BedError::Json { what: "a request to a cell".into(), source })?;
        line.push(b'\n');
        let mut talk = self.lock();
        let sent = talk.to.as_mut().map(|to| to.write_all(&line).and_then(|()| to.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.refused("its first process has ended"));
        }
        self.hear(&talk.from)
    }

    fn hear(&self, from: &mpsc::Receiver<String>) -> Result<Answer> {
        let line = from.recv_timeout(LIMIT).map_err(|_| self.refused("its first process does not answer"))?;
        match serde_json::from_str(&line) {
            Ok(Answer::Error(said)) => Err(self.refused(&said)),
            Ok(answer) => Ok(answer),
            Err(source) => Err(BedError::Json { what: format!("the answer of the cell {}", self.name), source }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, said: &str) -> BedError {
        BedError::Cell { cell: self.name.clone(), said: said.into() }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.lock().to.take();
        let start = Instant::now();
        // `enter` ends once everything has ended and the cgroup is gone.
        while matches!(self.enter.try_wait(), Ok(None)) {
            if start.elapsed() > END {
                eprintln!("the cell {} does not end; its processes are killed now", self.name);
                let _ = self.enter.kill();
                if let Err(error) = self.cgroup.remove_tree() {
                    eprintln!("the cell {} leaves its cgroup behind: {error}", self.name);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads lines on a thread, so that waiting for one can have a limit. It ends with the pipe.
fn listen(from: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    if let Some(from) = from {
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(std::result::Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receive
}

fn words(answer: &Answer) -> String {
    match answer {
        Answer::Ended(how) => format!("it has ended ({how})"),
        Answer::Unknown => "it was never started".into(),
        other => format!("{other:?}"),
    }
}

/// Where a path below `root` leads for those whose root it is; `None` when there is nothing.
fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    // The kernel tells an open file's path from the root of its own mount namespace.
    fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
}

/// `PATH` inside: the third parties' programs first, then the system's.
fn search_path() -> String {
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let all: Vec<String> = parts::parts().chain(system).map(|path| path.display().to_string()).collect();
    all.join(":")
}

/// Runs a command to its end and returns its standard output as text.
///
/// # Errors
/// [`BedError::Spawn`], [`BedError::Failed`].
pub fn output(command: &mut Command) -> Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.output().map_err(|source| BedError::Spawn { line: line.clone(), source })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = if output.stderr.is_empty() { text(&output.stdout) } else { text(&output.stderr) };
    Err(BedError::Failed { line, status: output.status.to_string(), said })
}
