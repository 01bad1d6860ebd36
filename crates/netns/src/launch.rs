//! Starts a process in a cgroup and a network namespace, under another identity, without capabilities.

mod child;
mod spawner;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::capability::Capability;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::ns::NetNs;

/// What a new process does between `fork` and its program, in this order. An error names the step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Writing itself into the cgroup.
    Cgroup = 1,
    /// Entering the network namespace.
    NetNs,
    /// Becoming the leader of a session of its own.
    Session,
    /// Giving every signal its default action and unblocking all.
    Signals,
    /// Emptying the capability bounding set.
    BoundingSet,
    /// Setting the supplementary groups.
    Groups,
    /// Setting the group id.
    Gid,
    /// Setting the user id.
    Uid,
    /// Dropping the capabilities.
    Capabilities,
    /// Forgoing new privileges for good.
    NoNewPrivs,
    /// Asking to be killed when the parent dies.
    ParentDeath,
    /// Closing inherited descriptors.
    Descriptors,
    /// Running the program (or entering the working directory).
    Exec,
}

impl Step {
    const ALL: [Step; 12] = [
        Step::Cgroup,
        Step::NetNs,
        Step::Session,
        Step::Signals,
        Step::BoundingSet,
        Step::Groups,
        Step::Gid,
        Step::Uid,
        Step::Capabilities,
        Step::NoNewPrivs,
        Step::ParentDeath,
        Step::Descriptors,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Cgroup => "joining its cgroup",
            Step::NetNs => "entering its network namespace",
            Step::Session => "starting a session",
            Step::Signals => "resetting signals",
            Step::BoundingSet => "emptying the capability bounding set",
            Step::Groups => "setting supplementary groups",
            Step::Gid => "setting the group id",
            Step::Uid => "setting the user id",
            Step::Capabilities => "dropping capabilities",
            Step::NoNewPrivs => "setting no_new_privs",
            Step::ParentDeath => "tying its life to its parent's",
            Step::Descriptors => "closing inherited descriptors",
            Step::Exec => "running the program",
        })
    }
}

/// How to start a process. Unless told otherwise it has **no capabilities**, can't gain any (`no_new_privs`), has no
/// supplementary groups, an **empty environment**, a session of its own, no inherited descriptors but the standard
/// three, and its standard streams are `/dev/null`.
#[derive(Debug)]
pub struct Launch {
    program: Program,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    stdio: [Stdio; 3],
    cgroup: Option<Cgroup>,
    ns: Option<NetNs>,
    ids: Option<(u32, u32)>,
    groups: Vec<u32>,
    capabilities: Keep,
    no_new_privs: bool,
    die_with_parent: bool,
}

#[derive(Debug)]
enum Program {
    Path(PathBuf),
    /// An open executable, run whatever the permissions of the directories on the way to it.
    File(File, PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    All,
    Set(u64),
}

impl Launch {
    /// A process that runs the program at `path` (not looked up in `PATH`).
    pub fn new(path: impl AsRef<Path>) -> Launch {
        Launch::of(Program::Path(path.as_ref().into()))
    }

    /// A process that runs an already open executable (not a script). For programs below a directory that the new
    /// identity may not search, such as a developer's home. `name` becomes the program's `argv[0]`.
    pub fn from_file(file: File, name: impl AsRef<Path>) -> Launch {
        Launch::of(Program::File(file, name.as_ref().into()))
    }

    fn of(program: Program) -> Launch {
        Launch {
            program,
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            stdio: [Stdio::null(), Stdio::null(), Stdio::null()],
            cgroup: None,
            ns: None,
            ids: None,
            groups: Vec::new(),
            capabilities: Keep::Set(0),
            no_new_privs: true,
            die_with_parent: false,
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Launch {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable. Nothing is inherited.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Launch {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working directory; else the parent's.
    pub fn directory(mut self, path: impl AsRef<Path>) -> Launch {
        self.directory = Some(path.as_ref().into());
        self
    }

    /// Where standard input comes from.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Launch {
        self.stdio[0] = stdin.into();
        self
    }

    /// Where standard output goes.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Launch {
        self.stdio[1] = stdout.into();
        self
    }

    /// Where standard error goes.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Launch {
        self.stdio[2] = stderr.into();
        self
    }

    /// The cgroup that the process joins before anything else, so that every socket it makes bears it.
    pub fn cgroup(mut self, cgroup: &Cgroup) -> Launch {
        self.cgroup = Some(cgroup.clone());
        self
    }

    /// The network namespace in which the process runs.
    pub fn netns(mut self, ns: &NetNs) -> Launch {
        self.ns = Some(ns.clone());
        self
    }

    /// The user and group id: real, effective, saved.
    pub fn identity(mut self, uid: u32, gid: u32) -> Launch {
        self.ids = Some((uid, gid));
        self
    }

    /// Supplementary groups; none unless given.
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Launch {
        self.groups = groups.into_iter().collect();
        self
    }

    /// Capabilities that the process keeps (in all five sets, so that they survive `exec` without being root).
    pub fn keep_capabilities(mut self, keep: impl IntoIterator<Item = Capability>) -> Launch {
        self.capabilities = Keep::Set(keep.into_iter().fold(0, |set, c| set | c.bit()));
        self
    }

    /// Leaves all capabilities, and the right to gain them, as the parent has them: a process of the node itself.
    pub fn privileged(mut self) -> Launch {
        self.capabilities = Keep::All;
        self.no_new_privs = false;
        self
    }

    /// Lets the process gain privileges through set-user-id programs. Only for tests of what that would open.
    pub fn allow_new_privileges(mut self) -> Launch {
        self.no_new_privs = false;
        self
    }

    /// Kills the process when this one dies. Only the process itself: what it started in turn is found by its cgroup.
    pub fn die_with_parent(mut self) -> Launch {
        self.die_with_parent = true;
        self
    }

    /// Starts the process and returns once its program runs.
    ///
    /// # Errors
    /// [`Error::Launch`] with the step that failed; [`Error::Command`] for NUL bytes; [`Error::File`] when the cgroup
    /// is gone.
    pub fn spawn(self) -> Result<Process> {
        let program = match &self.program {
            Program::Path(path) | Program::File(_, path) => path.display().to_string(),
        };
        if !self.die_with_parent {
            return self.fork(program);
        }
        // The kernel sends the parent-death signal when the *thread* that forked ends, so such processes are all
        // forked by one thread that never does. Its namespace is that of whoever needed it first; ours must not be.
        let mut launch = self;
        if launch.ns.is_none() {
            launch.ns = Some(NetNs::current()?);
        }
        spawner::on_lasting_thread(move || launch.fork(program))
    }

    fn fork(self, program: String) -> Result<Process> {
        let cgroup = self.cgroup.as_ref().map(Cgroup::procs_file).transpose()?;
        let (tell, heard) = step_pipe().map_err(|source| launch_error(&program, Step::Descriptors, source))?;
        let (mut command, executable) = match self.program {
            Program::Path(path) => (Command::new(&path), None),
            // A link in /proc leads to the open file without a walk through its directories. The descriptor is
            // close-on-exec, which takes effect after the file has been opened.
            Program::File(file, name) => {
                let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
                command.arg0(name);
                (command, Some(file))
            }
        };
        let [stdin, stdout, stderr] = self.stdio;
        command.args(&self.args).env_clear().envs(self.env).stdin(stdin).stdout(stdout).stderr(stderr);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let plan = child::Plan {
            tell: tell.as_raw_fd(),
            cgroup: cgroup.as_ref().map(AsRawFd::as_raw_fd),
            ns: self.ns.as_ref().map(|ns| std::os::fd::AsFd::as_fd(ns).as_raw_fd()),
            ids: self.ids,
            groups: self.groups,
            keep: match self.capabilities {
                Keep::All => None,
                Keep::Set(set) => Some(set),
            },
            no_new_privs: self.no_new_privs,
            parent: self.die_with_parent.then(|| std::process::id() as i32),
        };
        // SAFETY: the closure only makes system calls that are safe after fork, on data prepared here (see `child`);
        // it neither allocates nor takes a lock, and the descriptors in `plan` stay open until `spawn` has returned.
        unsafe { command.pre_exec(move || plan.apply()) };
        let spawned = command.spawn();
        drop((tell, cgroup, executable));
        match spawned {
            Ok(child) => Ok(Process { child, program }),
            // Not from the kernel: the standard library itself refuses NUL bytes.
            Err(source) if source.raw_os_error().is_none() => Err(Error::Command(program)),
            Err(source) => Err(launch_error(&program, failed_step(heard), source)),
        }
    }
}

fn launch_error(program: &str, step: Step, source: io::Error) -> Error {
    Error::Launch { program: program.to_owned(), step, source }
}

/// A pipe on which the child says which step failed; std's own carries the error number only.
fn step_pipe() -> io::Result<(OwnedFd, File)> {
    let (read, write) = io::pipe()?;
    Ok((write.into(), File::from(OwnedFd::from(read))))
}

fn failed_step(mut heard: File) -> Step {
    let mut byte = [0];
    match heard.read(&mut byte) {
        Ok(1) => Step::ALL.into_iter().find(|s| *s as u8 == byte[0]).unwrap_or(Step::Exec),
        // Every writer is gone and nothing was said: all steps passed.
        _ => Step::Exec,
    }
}

/// A started process. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: String,
}

impl Process {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The program, for messages.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The pipe to its standard input, when that was `Stdio::piped()`; once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The pipe from its standard output, when that was `Stdio::piped()`; once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The pipe from its standard error, when that was `Stdio::piped()`; once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The kernel's, in practice only when something else has reaped it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends a signal, unless it has been reaped already (its id could be another's by then).
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match self.child.try_wait()? {
            Some(_) => Ok(()),
            None => kill(Pid::from_raw(self.child.id() as i32), signal).map_err(io::Error::from),
        }
    }

    /// Kills the process and every other of its process group, and reaps it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // Not reaped yet, so the id is still ours, and the session that it leads has a process group of that id.
        let _ = kill(Pid::from_raw(-(self.child.id() as i32)), Signal::SIGKILL);
        self.child.kill()?;
        self.child.wait()
    }

    /// The child as the standard library has it, to wait with output.
    pub fn into_child(self) -> Child {
        self.child
    }
}
