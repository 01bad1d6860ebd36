//! What the program does: one command of the specification, from the environment and standard input to standard output.

use crate::args::{self, Pod};
use crate::ask::Agent;
use crate::config::{self, Config};
use crate::failure::{Failure, Known};
use crate::names::{BadName, InterfaceName, SandboxId};
use crate::result::pass_on;
use crate::state::State;
use crate::version::SpecVersion;
use crate::wire::{Answer, Ask, Attachment, Detachment, Reason, Valid};
use rustix::fs::fstatfs;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The longest that DEL, GC and STATUS wait for the agent: nobody's end and no health check may hang on it.
const BRIEFLY: Duration = Duration::from_secs(2);
/// The kernel's number for the file system of namespaces (`NSFS_MAGIC`).
const NSFS: u64 = 0x6e73_6673;

/// What the program writes, and whether it succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output: a result or an error, or nothing.
    pub output: String,
    /// For standard error: what went wrong without being an error.
    pub remark: String,
    /// Whether the command failed.
    pub failed: bool,
}

/// The program.
pub fn main() -> ExitCode {
    let outcome = run(&|name| std::env::var_os(name), &mut io::stdin().lock());
    if !outcome.remark.is_empty() {
        let _ = writeln!(io::stderr(), "sidewall-cni: {}", outcome.remark);
    }
    let mut output = io::stdout().lock();
    let written = output.write_all(outcome.output.as_bytes()).and_then(|()| output.flush());
    // A runtime that does not get a result must not take the pod for attached.
    if outcome.failed || (written.is_err() && !outcome.output.is_empty()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// One command, with its variables and its standard input.
pub fn run(variable: &dyn Fn(&str) -> Option<OsString>, input: &mut dyn Read) -> Outcome {
    let command = variable("CNI_COMMAND");
    let octets = config::read_all(input);
    let version = octets.as_ref().ok().and_then(|octets| config::version(octets));
    let call = Call { variable, octets };
    let done = match command.as_ref().and_then(|command| command.to_str()) {
        Some("ADD") => call.add(),
        Some("DEL") => return succeeded(call.del()),
        Some("CHECK") => call.check().map(|()| String::new()),
        Some("GC") => return succeeded(call.gc()),
        Some("STATUS") => call.status().map(|()| String::new()),
        Some("VERSION") => Ok(versions(version.unwrap_or(SpecVersion::NEWEST))),
        Some(_) => Err(Failure::Command),
        None if command.is_some() => Err(Failure::Command),
        None => Err(Failure::Variables(vec!["CNI_COMMAND"])),
    };
    match done {
        Ok(output) => Outcome { output, ..Outcome::default() },
        Err(failure) => Outcome {
            output: failure.write(version.unwrap_or(SpecVersion::NEWEST)),
            failed: true,
            ..Outcome::default()
        },
    }
}

/// The outcome of a command that never fails: what would be an error elsewhere is only remarked.
fn succeeded(done: Result<(), Failure>) -> Outcome {
    let remark = done.err().map(|failure| format!("{failure}. {}", failure.details())).unwrap_or_default();
    Outcome { remark, ..Outcome::default() }
}

/// The answer to VERSION.
fn versions(version: SpecVersion) -> String {
    let spoken: Vec<_> = SpecVersion::ALL.iter().map(|version| format!("\"{version}\"")).collect();
    format!("{{\"cniVersion\":\"{version}\",\"supportedVersions\":[{}]}}", spoken.join(","))
}

struct Call<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    octets: Result<Vec<u8>, Failure>,
}

impl Call<'_> {
    fn config(self) -> Result<(Config, Variables), Failure> {
        let config = Config::parse(&self.octets?)?;
        Ok((config, Variables::read(self.variable)?))
    }

    fn add(self) -> Result<String, Failure> {
        let (config, variables) = self.config()?;
        let previous = config.previous.as_ref().ok_or(Failure::NotChained)?;
        let result = pass_on(previous.get(), config.version)?;
        judge(&config, &variables, Ask::Add)?;
        Ok(result)
    }

    fn check(self) -> Result<(), Failure> {
        let (config, variables) = self.config()?;
        if config.version < SpecVersion::V0_4_0 {
            return Err(Failure::TooOld { command: "CHECK", version: config.version });
        }
        judge(&config, &variables, Ask::Check)
    }

    /// Tells the agent what it can. What is missing, it finds out: an attachment that is gone has no namespace.
    fn del(self) -> Result<(), Failure> {
        let config = self.octets.and_then(|octets| Config::parse(&octets));
        let text = |name| (self.variable)(name).and_then(|value| value.into_string().ok());
        let container = text("CNI_CONTAINERID").ok_or(Failure::Variables(vec!["CNI_CONTAINERID"]))?;
        let ask = Ask::Del(Detachment {
            container: container.try_into().map_err(|reason| Failure::Variable { name: "CNI_CONTAINERID", reason })?,
            network: config.as_ref().ok().map(|config| config.network.clone()),
            interface: text("CNI_IFNAME").and_then(|name| name.try_into().ok()),
            pod: text("CNI_ARGS").and_then(|args| args::pod(&args).ok().flatten()),
        });
        let entry = config.as_ref().map(|config| config.entry.clone()).unwrap_or_default();
        tell(&entry, &ask)?;
        config.map(|_| ())
    }

    fn gc(self) -> Result<(), Failure> {
        let config = Config::parse(&self.octets?)?;
        // Without a list nothing is known to be gone: that is not the same as an empty list.
        let attachments = config.valid.ok_or(Failure::Missing("cni.dev/valid-attachments"))?;
        tell(&config.entry, &Ask::Gc(Valid { network: config.network, attachments }))
    }

    fn status(self) -> Result<(), Failure> {
        let config = Config::parse(&self.octets?)?;
        if config.version < SpecVersion::V1_1_0 {
            return Err(Failure::TooOld { command: "STATUS", version: config.version });
        }
        let daemon_set = config.entry.daemon_set();
        let agent = Agent { socket: config.entry.socket().into(), within: config.entry.timeout().min(BRIEFLY) };
        match agent.ask(&Ask::Status, None) {
            Ok(Answer::Ready) => Ok(()),
            Ok(Answer::Refused(refusal)) => Err(Failure::Refused { message: refusal.message, daemon_set }),
            Ok(_) => Err(Failure::NoAnswer { daemon_set }),
            // Where nothing selects anything, pods start without an agent, and the node is not to be held unready for
            // it.
            Err(error) => match State::read(config.entry.state()) {
                Ok(state) if !state.any_selected() => Ok(()),
                _ => Err(Failure::NotAvailable { error: error.into(), daemon_set }),
            },
        }
    }
}

/// The variables of ADD and CHECK.
struct Variables {
    container: SandboxId,
    namespace: PathBuf,
    interface: InterfaceName,
    pod: Option<Pod>,
}

impl Variables {
    fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let needed = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
        let found = needed.map(|name| variable(name).filter(|value| !value.is_empty()));
        let missing: Vec<_> =
            needed.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(name, _)| *name).collect();
        let [Some(container), Some(namespace), Some(interface)] = found else {
            return Err(Failure::Variables(missing));
        };
        let text = |name, value: OsString| value.into_string().map_err(|_| Failure::VariableNotText(name));
        let bad = |name| move |reason: BadName| Failure::Variable { name, reason };
        let args = variable("CNI_ARGS").unwrap_or_default();
        Ok(Self {
            container: text("CNI_CONTAINERID", container)?.try_into().map_err(bad("CNI_CONTAINERID"))?,
            namespace: namespace.into(),
            interface: text("CNI_IFNAME", interface)?.try_into().map_err(bad("CNI_IFNAME"))?,
            pod: args::pod(args.to_str().ok_or(args::ArgsError::NotText)?)?,
        })
    }
}

/// Asks about a pod: `Ok` when it may go on.
fn judge(config: &Config, variables: &Variables, question: fn(Attachment) -> Ask) -> Result<(), Failure> {
    let previous = config.previous.clone().ok_or(Failure::NotChained)?;
    // Who is no pod of Kubernetes nothing selects.
    let Some(pod) = variables.pod.clone() else { return Ok(()) };
    let entry = &config.entry;
    if entry.exempt_namespaces.contains(&pod.namespace) {
        return Ok(());
    }
    let namespace = open_namespace(&variables.namespace)?;
    let pods_namespace = pod.namespace.clone();
    let ask = question(Attachment {
        network: config.network.clone(),
        container: variables.container.clone(),
        interface: variables.interface.clone(),
        pod,
        spec_version: config.version,
        previous,
    });
    let daemon_set = entry.daemon_set();
    let agent = Agent { socket: entry.socket().into(), within: entry.timeout() };
    match agent.ask(&ask, Some(namespace.as_fd())) {
        Ok(Answer::Guarded | Answer::Free(_)) => Ok(()),
        Ok(Answer::Refused(refusal)) if refusal.reason == Reason::NotUnderstood => {
            Err(Failure::NoAnswer { daemon_set })
        }
        Ok(Answer::Refused(refusal)) if matches!(ask, Ask::Check(_)) => {
            Err(Failure::NotStanding { message: refusal.message, daemon_set })
        }
        Ok(Answer::Refused(refusal)) => Err(Failure::Refused { message: refusal.message, daemon_set }),
        Ok(Answer::Noted | Answer::Ready) => Err(Failure::NoAnswer { daemon_set }),
        Err(error) => match Known::about(&pods_namespace, State::read(entry.state())) {
            None => Ok(()),
            Some(known) => Err(Failure::NoAgent {
                consequence: if matches!(ask, Ask::Check(_)) {
                    "the pod's walls can't be checked"
                } else {
                    "the pod waits"
                },
                namespace: pods_namespace,
                error: error.into(),
                known: known.into(),
                daemon_set,
            }),
        },
    }
}

/// Tells the agent of an end, without waiting long.
fn tell(entry: &crate::entry::Entry, ask: &Ask) -> Result<(), Failure> {
    let agent = Agent { socket: entry.socket().into(), within: entry.timeout().min(BRIEFLY) };
    let daemon_set = entry.daemon_set();
    match agent.ask(ask, None::<BorrowedFd<'_>>) {
        Ok(Answer::Noted) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(Failure::Refused { message: refusal.message, daemon_set }),
        Ok(_) => Err(Failure::NoAnswer { daemon_set }),
        Err(error) => Err(Failure::NotAvailable { error: error.into(), daemon_set }),
    }
}

/// Opens the pod's network namespace. That it is one of the network the agent checks, which can ask the kernel.
fn open_namespace(path: &PathBuf) -> Result<File, Failure> {
    let failed = |source| Failure::OpenNamespace { path: path.clone(), source };
    // NONBLOCK: something else in its place, like a FIFO, would keep us waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path).map_err(failed)?;
    let kind = fstatfs(&file).map_err(|error| failed(error.into()))?.f_type;
    if u64::try_from(kind) != Ok(NSFS) {
        return Err(Failure::NoNamespace(path.clone()));
    }
    Ok(file)
}
