//! The first process of a cell: mounts, starts services, buries the dead, and ends when its input ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, wait, waitid};

use super::mounts;
use super::protocol::{Answer, Plan, Request, Service, say};
use super::{Said, because};

/// Services by name: the process, and how it ended.
static SERVICES: Mutex<BTreeMap<String, (Pid, Option<String>)>> = Mutex::new(BTreeMap::new());

/// Makes itself at home, says so, and answers until its input ends.
///
/// # Errors
/// When something cannot be set up.
pub fn main(plan: &str) -> Said<ExitCode> {
    let plan: Plan = serde_json::from_str(plan).map_err(because("the plan"))?;
    let join = plan.cgroup.join("cgroup.procs");
    fs::write(&join, "0").map_err(because(join.display()))?;
    let flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
    #[expect(clippy::disallowed_methods, reason = "this whole process, which has one thread, is made for it")]
    unshare(flags).map_err(because("cannot make namespaces"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(because("cannot part from the host's mounts"))?;
    rustix::system::sethostname(plan.hostname.as_bytes()).map_err(because("cannot set the host name"))?;
    mounts::make(plan.containers)?;
    // A cgroup whose controllers are used below has no processes of its own: the services' is beside the pods'.
    fs::create_dir_all("/sys/fs/cgroup/bed").map_err(because("the services' cgroup"))?;
    fs::write("/sys/fs/cgroup/bed/cgroup.procs", "0").map_err(because("the services' cgroup"))?;
    std::thread::Builder::new().name("bury".into()).spawn(bury).map_err(because("cannot start a thread"))?;
    say(&Answer::Ready);
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        say(&match serde_json::from_str(&line) {
            Ok(Request::Start(service)) => start(service).unwrap_or_else(|said| Answer::Error(said.to_string())),
            Ok(Request::Signal { name, signal }) => send(&name, signal),
            Ok(Request::State { name }) => state(&name),
            Err(source) => Answer::Error(format!("not understood: {source}")),
        });
    }
    // The kernel now ends every process of the namespace.
    Ok(ExitCode::SUCCESS)
}

fn services() -> MutexGuard<'static, BTreeMap<String, (Pid, Option<String>)>> {
    SERVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(service: Service) -> Said<Answer> {
    let [program, arguments @ ..] = service.command.as_slice() else { return Err("no program was named".into()) };
    let log = fs::OpenOptions::new().create(true).append(true).open(&service.log);
    let log = log.map_err(because(service.log.display()))?;
    let again = log.try_clone().map_err(because(service.log.display()))?;
    // Held while starting: a program that can't be run is buried by the standard library, not by our thread.
    let mut services = services();
    if services.get(&service.name).is_some_and(|(_, ended)| ended.is_none()) {
        return Err(format!("{} is running", service.name).into());
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&service.environment).current_dir("/");
    command.stdin(Stdio::null()).stdout(log).stderr(again).process_group(0);
    let child = command.spawn().map_err(because(program))?;
    let pid = Pid::from_child(&child);
    services.insert(service.name, (pid, None));
    Ok(Answer::Started(pid.as_raw_nonzero().get()))
}

fn send(name: &str, signal: i32) -> Answer {
    let Some(signal) = Signal::from_named_raw(signal) else { return Answer::Error(format!("no signal {signal}")) };
    match services().get(name) {
        None => Answer::Unknown,
        Some((_, Some(ended))) => Answer::Ended(ended.clone()),
        Some((pid, None)) => match kill_process(*pid, signal) {
            Ok(()) => Answer::Signalled,
            Err(source) => Answer::Error(format!("cannot signal {name}: {source}")),
        },
    }
}

fn state(name: &str) -> Answer {
    match services().get(name) {
        None => Answer::Unknown,
        Some((_, Some(ended))) => Answer::Ended(ended.clone()),
        Some((pid, None)) => Answer::Running(pid.as_raw_nonzero().get()),
    }
}

/// Waits for whatever ends: services, and processes whose parent ended before them.
fn bury() {
    loop {
        // Looks without taking, so that the taking can be done under the lock.
        if waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_err() {
            // No children yet.
            std::thread::sleep(std::time::Duration::from_millis(20));
            continue;
        }
        let mut services = services();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let words = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => continue,
            };
            if let Some((_, ended)) = services.values_mut().find(|(of, ended)| *of == pid && ended.is_none()) {
                *ended = Some(words);
            }
        }
    }
}
