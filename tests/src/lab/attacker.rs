//! Processes that attack: they run inside a container, and what they do they do themselves.
//!
//! A [`Maker`](crate::party::Maker) hands its sockets to the test, which is root. That is enough to ask whose a socket
//! is, but not to ask what its owner may do. An [`Attacker`] is a process with the container's cgroup, namespace, user
//! and capabilities and nothing else, and it evaluates what the test writes for it in perl, which every Debian has and
//! which can make any system call.

use super::Lab;
use sidewall_flow::ContainerId;
use sidewall_netns::{Capability, Cgroup, Launch, Process};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

/// What the process runs.
const PROGRAM: &str = include_str!("attacker.pl");

/// What an attacker has beside the container's cgroup and namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arms {
    /// Root with CAP_SETUID and CAP_NET_RAW: more than runtimes give without being told.
    Root,
    /// The same and CAP_SETGID: nearly what runtimes give to root.
    Ids,
    /// The container's user, with CAP_NET_RAW.
    Raw,
    /// The container's user, without a capability.
    Plain,
}

impl Arms {
    /// Whether raw and packet sockets may be made.
    pub fn raw(self) -> bool {
        self != Self::Plain
    }

    fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::Root => &[Capability::SETUID, Capability::NET_RAW],
            Self::Ids => &[Capability::SETUID, Capability::SETGID, Capability::NET_RAW],
            Self::Raw => &[Capability::NET_RAW],
            Self::Plain => &[],
        }
    }
}

/// Where an attack ended that the system did not let it finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(pub String);

impl Failed {
    /// The system's error number, where that is what ended it.
    pub fn errno(&self) -> Option<i32> {
        self.0.strip_prefix("errno ")?.split(':').next()?.parse().ok()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

/// A process that attacks from inside a container; ended when dropped.
pub struct Attacker {
    process: Process,
    code: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Attacker {
    /// Starts a process.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn start(launch: Launch) -> Result<Self, sidewall_netns::Error> {
        let launch = launch.args(["-e", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = launch.stderr(Stdio::inherit()).die_with_parent().spawn()?;
        let code = process.take_stdin().expect("it was asked for");
        let answers = BufReader::new(process.take_stdout().expect("it was asked for"));
        Ok(Self { process, code, answers })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Evaluates code, and gives its value.
    ///
    /// # Errors
    /// What the system refused it, as the code tells.
    ///
    /// # Panics
    /// Where the process is gone, or the code is no perl: the test would try nothing.
    pub fn run(&mut self, code: &str) -> Result<String, Failed> {
        write!(self.code, "{}\n{code}", code.len()).and_then(|()| self.code.flush()).expect("the attacker listens");
        let mut length = String::new();
        self.answers.read_line(&mut length).expect("the attacker answers");
        let length: usize = length.trim().parse().unwrap_or_else(|_| panic!("the attacker has ended during: {code}"));
        let mut answer = vec![0; length];
        self.answers.read_exact(&mut answer).expect("the attacker answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.split_once(' ') {
            Some(("done", value)) => Ok(value.to_owned()),
            Some((_, why))
                if why.contains("syntax error") || why.contains("Undefined") || why.contains(" at (eval") =>
            {
                panic!("this is no attack: {why}: {code}")
            }
            Some((_, why)) => Err(Failed(why.to_owned())),
            None => panic!("the attacker says {answer:?}"),
        }
    }

    /// Evaluates code that must succeed: what an attack needs before it begins.
    ///
    /// # Panics
    /// Where it does not.
    pub fn must(&mut self, code: &str) -> String {
        self.run(code).unwrap_or_else(|error| panic!("{error}: {code}"))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.process.kill();
    }
}

impl Lab {
    /// Starts an attacker in a container.
    ///
    /// # Panics
    /// Where it can't be started.
    pub fn attacker(&self, id: ContainerId, arms: Arms) -> Attacker {
        let number = u32::from(id.get());
        let (uid, gid) =
            if matches!(arms, Arms::Root | Arms::Ids) { (0, 0) } else { (20_000 + number, 30_000 + number) };
        let launch = Launch::new("/usr/bin/perl").netns(&self.pod).cgroup(&self.cgroups.containers[&id]);
        let launch = launch.identity(uid, gid).keep_capabilities(arms.capabilities().iter().copied());
        Attacker::start(launch).unwrap_or_else(|error| panic!("an attacker can't be started: {error}"))
    }

    /// Starts a process of the node in the pod's namespace: what an attack needs of an administrator's mistakes.
    ///
    /// # Panics
    /// Where it can't be started.
    pub fn administrator(&self) -> Attacker {
        let launch = Launch::new("/usr/bin/perl").netns(&self.pod).privileged();
        Attacker::start(launch).unwrap_or_else(|error| panic!("an administrator can't be started: {error}"))
    }

    /// Starts a process on the network that may send it anything.
    ///
    /// # Panics
    /// Where it can't be started.
    pub fn neighbour(&self) -> Attacker {
        let launch = Launch::new("/usr/bin/perl").netns(&self.network).privileged();
        Attacker::start(launch).unwrap_or_else(|error| panic!("a neighbour can't be started: {error}"))
    }

    /// A container's cgroup.
    pub fn cgroup_of(&self, id: ContainerId) -> &Cgroup {
        &self.cgroups.containers[&id]
    }
}
