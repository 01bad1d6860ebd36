//! Runs a prepared pod: one thread follows the lifecycle and acts; a thread for each process waits for its end.
//! Plain threads, because a pod has a handful of processes and each thread does one blocking thing.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde::Serialize;
use sidewall_netns::{Cgroups, Process};

use crate::error::{Error, Result};
use crate::lifecycle::{Action, Event, Lifecycle, Phase, Slot, State};
use crate::logs::{Log, Stream};
use crate::plan::{Kind, PodPlan};
use crate::pod::{Identity, LivePod};
use crate::probe::{self, Finding};
use crate::sandbox::{Prepared, Resources};
use crate::state::{PodState, Store};

/// What a container that could not be started counts as having ended with, as container runtimes have it.
const START_ERROR: i32 = 128;

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// What it does now.
    pub state: ContainerState,
    /// Whether its startup probe has passed.
    pub started: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// How many times it was started again.
    pub restarts: u32,
    /// What its last run ended with: the exit code, or 128 and the signal's number.
    pub last_exit: Option<i32>,
    /// The latest trouble: why it could not be started, which probe failed.
    pub message: Option<String>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ContainerState {
    /// Its turn has not come.
    Waiting,
    /// It waits before it starts again.
    CrashLoopBackOff,
    /// It runs.
    Running {
        /// Its first process.
        pid: u32,
    },
    /// It was asked to end and has not yet.
    Terminating,
    /// It has ended and does not start again, unless the restart policy says so.
    Terminated,
}

/// How a pod is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodStatus {
    /// Where it is in its course.
    pub phase: Phase,
    /// Whether all its containers (init containers apart) are ready.
    pub ready: bool,
    /// Whether nothing of it runs any more, and nothing will.
    pub finished: bool,
    /// Its containers, in the plan's order.
    pub containers: Vec<ContainerStatus>,
}

impl PodStatus {
    /// Finds a container.
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|c| c.name == name)
    }
}

/// A running pod. Dropping it kills and removes the pod at once; [`Running::stop`] does it in good order.
pub struct Running {
    pod: LivePod,
    grace: Duration,
    board: Arc<Board>,
    events: Sender<Message>,
    supervisor: Option<thread::JoinHandle<()>>,
    resources: Option<Resources>,
}

enum Message {
    Lifecycle(Event),
    /// From one run of a container; an earlier run's threads may still have something to say.
    OfRun {
        container: usize,
        run: u64,
        what: OfRun,
    },
}

enum OfRun {
    Exited(i32),
    Probe(Finding),
}

/// Where the supervisor shows the status.
struct Board {
    status: Mutex<PodStatus>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, PodStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    pub(crate) fn start(prepared: Prepared) -> Result<Running> {
        let Prepared { plan, pod, state, resources, options } = prepared;
        let dir = Store::new(&options.state_root).dir(&plan.namespace, &plan.name);
        let log_dir = options.log_dir.clone().unwrap_or_else(|| dir.join("logs"));
        std::fs::create_dir_all(&log_dir).map_err(|e| Error::file("create", &log_dir, e))?;
        let logs: Result<Vec<Log>> =
            plan.containers.iter().map(|c| Log::open(&log_dir, &c.name, options.log_sink.clone())).collect();
        let kinds = plan.containers.iter().map(|c| (c.kind, c.probes.readiness.is_some()));
        let lifecycle = Lifecycle::new(kinds, plan.restart_policy, plan.grace, options.back_off);
        let (events, inbox) = channel();
        let mut supervisor = Supervisor {
            runs: plan.containers.iter().map(|_| Run::default()).collect(),
            grace: plan.grace,
            plan,
            pod: pod.clone(),
            logs: logs?,
            readers: Vec::new(),
            lifecycle,
            events: events.clone(),
            state,
            dir,
            next_run: 0,
        };
        let grace = supervisor.grace;
        let board = Arc::new(Board { status: Mutex::new(supervisor.status()), changed: Condvar::new() });
        let shown = board.clone();
        let thread = thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || supervisor.run(&inbox, &shown))
            .map_err(Error::Thread)?;
        Ok(Running { pod, grace, board, events, supervisor: Some(thread), resources })
    }

    /// The pod.
    pub fn pod(&self) -> &LivePod {
        &self.pod
    }

    /// How it is now.
    pub fn status(&self) -> PodStatus {
        self.board.lock().clone()
    }

    /// Waits until `met` holds of the status, at most for `limit`. Returns the last status, and whether it was met.
    pub fn wait_until(&self, limit: Duration, met: impl Fn(&PodStatus) -> bool) -> (PodStatus, bool) {
        let board = self.board.lock();
        let result = self.board.changed.wait_timeout_while(board, limit, |status| !met(status));
        let (status, _) = result.unwrap_or_else(PoisonError::into_inner);
        (status.clone(), met(&status))
    }

    /// Waits until the pod has come to its end by itself or was asked to.
    pub fn wait(&self) -> PodStatus {
        let board = self.board.lock();
        let result = self.board.changed.wait_while(board, |status| !status.finished);
        result.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the pod to end: SIGTERM, and SIGKILL after `grace` (the manifest's, unless given). Does not wait.
    pub fn terminate(&self, grace: Option<Duration>) {
        // A supervisor that has ended has nothing left to end.
        let _ = self.events.send(Message::Lifecycle(Event::Stop(grace.unwrap_or(self.grace))));
    }

    /// Ends the pod in good order within its grace period, and removes everything of it.
    ///
    /// # Errors
    /// [`Error::Teardown`] with what could not be removed.
    pub fn stop(mut self) -> Result<PodStatus> {
        self.terminate(None);
        let status = self.wait();
        self.join();
        match self.resources.take() {
            Some(resources) => resources.remove().map(|()| status),
            None => Ok(status),
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.supervisor.take() {
            // A panic in the supervisor has been printed; what it left is removed all the same.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            self.terminate(Some(Duration::ZERO));
            self.join();
        }
        // `resources` follows, and takes down the rest.
    }
}

struct Supervisor {
    plan: PodPlan,
    grace: Duration,
    pod: LivePod,
    logs: Vec<Log>,
    readers: Vec<thread::JoinHandle<()>>,
    lifecycle: Lifecycle,
    runs: Vec<Run>,
    events: Sender<Message>,
    state: PodState,
    dir: std::path::PathBuf,
    next_run: u64,
}

/// The present run of a container.
#[derive(Default)]
struct Run {
    id: u64,
    process: Option<Arc<Mutex<Process>>>,
    probes: Option<probe::Guard>,
    message: Option<String>,
}

impl Supervisor {
    fn run(&mut self, inbox: &Receiver<Message>, board: &Board) {
        let mut actions = self.lifecycle.begin();
        loop {
            // Acting can bring forth further actions: a container that can't be started has ended.
            while !actions.is_empty() {
                actions = actions.into_iter().flat_map(|action| self.act(action)).collect();
            }
            let finished = self.lifecycle.finished();
            if finished {
                // The last lines before the news of the end. Nothing holds the pipes any more, so this is soon.
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
            }
            self.show(board);
            if finished {
                return;
            }
            let received = match self.lifecycle.next_deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            actions = match received {
                Ok(message) => self.receive(message),
                // Time has passed. (Disconnected can't be: this thread has a sender itself.)
                Err(_) => Vec::new(),
            };
            actions.extend(self.lifecycle.tick(Instant::now()));
        }
    }

    fn receive(&mut self, message: Message) -> Vec<Action> {
        let event = match message {
            Message::Lifecycle(event) => event,
            Message::OfRun { container, run, .. } if self.runs[container].id != run => return Vec::new(),
            Message::OfRun { container, what: OfRun::Exited(code), .. } => {
                self.clear(container);
                Event::Exited(container, code)
            }
            Message::OfRun { container, what: OfRun::Probe(finding), .. } => match finding {
                Finding::Started => Event::Started(container),
                Finding::Ready(ready) => Event::Ready(container, ready),
                Finding::Unhealthy(which, grace, reason) => {
                    let name = &self.plan.containers[container].name;
                    tracing::info!(container = name, probe = which, reason, "unhealthy");
                    self.runs[container].message = Some(format!("{which} probe failed: {reason}"));
                    Event::Unhealthy(container, grace.unwrap_or(self.grace))
                }
            },
        };
        self.lifecycle.handle(event, Instant::now())
    }

    /// After a container's first process has ended: probing ends, and what it left in the background is killed, as the
    /// end of a container's pid namespace would.
    fn clear(&mut self, container: usize) {
        let run = &mut self.runs[container];
        run.process = None;
        run.probes = None;
        self.kill_cgroup(container);
    }

    fn kill_cgroup(&self, container: usize) {
        let path = &self.pod.info().containers[container].cgroup.path;
        if let Err(error) = Cgroups::find().and_then(|c| c.open(path)).and_then(|c| c.kill()) {
            tracing::error!(%error, "killing a container");
        }
    }

    fn act(&mut self, action: Action) -> Vec<Action> {
        match action {
            Action::Start(i) => match self.start(i) {
                Ok(()) => Vec::new(),
                Err(error) => {
                    tracing::warn!(container = self.plan.containers[i].name, %error, "can't start");
                    self.clear(i);
                    self.runs[i].message = Some(error.to_string());
                    self.lifecycle.handle(Event::Exited(i, START_ERROR), Instant::now())
                }
            },
            Action::Term(i) => {
                if let Some(process) = &self.runs[i].process {
                    let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(error) = process.signal(Signal::SIGTERM) {
                        tracing::error!(%error, "SIGTERM");
                    }
                }
                Vec::new()
            }
            Action::Kill(i) => {
                self.kill_cgroup(i);
                Vec::new()
            }
        }
    }

    fn start(&mut self, i: usize) -> Result<()> {
        let container = &self.plan.containers[i];
        self.readers.retain(|r| !r.is_finished());
        self.next_run += 1;
        let run = self.next_run;
        self.runs[i].id = run;
        let identity = Identity::Container(container.name.clone());
        let argv = self.pod.command(&container.name).map(|c| c.argv.clone()).unwrap_or_default();
        let launch = self.pod.launch(&identity, &argv)?.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = launch.spawn()?;
        tracing::debug!(container = container.name, pid = process.pid(), "started");
        let streams = (process.take_stdout(), process.take_stderr());
        let process = Arc::new(Mutex::new(process));
        self.runs[i].process = Some(process.clone());
        if let Some(stdout) = streams.0 {
            let reader = self.logs[i].follow(Stream::Stdout, stdout)?;
            self.readers.push(reader);
        }
        if let Some(stderr) = streams.1 {
            let reader = self.logs[i].follow(Stream::Stderr, stderr)?;
            self.readers.push(reader);
        }
        let tell = {
            let events = self.events.clone();
            // When the supervisor has ended, nobody needs to know.
            move |what| drop(events.send(Message::OfRun { container: i, run, what }))
        };
        let exited = tell.clone();
        let thread = thread::Builder::new().name("wait".into()).spawn(move || exited(OfRun::Exited(wait(&process))));
        thread.map_err(Error::Thread)?;
        let found = move |finding| tell(OfRun::Probe(finding));
        self.runs[i].probes = Some(probe::watch(&self.pod, &container.name, &container.probes, found)?);
        Ok(())
    }

    fn show(&mut self, board: &Board) {
        let status = self.status();
        let processes: BTreeMap<String, u32> =
            status.containers.iter().zip(&self.runs).filter_map(|(c, run)| Some((c.name.clone(), pid(run)?))).collect();
        if processes != self.state.processes {
            self.state.processes = processes;
            if let Err(error) = Store::write(&self.dir, &self.state) {
                tracing::warn!(%error, "writing the pod's state");
            }
        }
        let mut shown = board.lock();
        if *shown != status {
            *shown = status;
            board.changed.notify_all();
        }
    }

    fn status(&self) -> PodStatus {
        let slots = self.lifecycle.slots();
        let containers: Vec<ContainerStatus> = self
            .plan
            .containers
            .iter()
            .zip(slots)
            .zip(&self.runs)
            .map(|((plan, slot), run)| ContainerStatus {
                name: plan.name.clone(),
                kind: plan.kind,
                state: shown_state(slot, run),
                started: slot.started,
                ready: slot.ready,
                restarts: slot.restarts,
                last_exit: slot.last_exit,
                message: run.message.clone(),
            })
            .collect();
        PodStatus {
            phase: self.lifecycle.phase(),
            ready: slots.iter().all(|s| s.kind == Kind::Init || s.ready),
            finished: self.lifecycle.finished(),
            containers,
        }
    }
}

fn shown_state(slot: &Slot, run: &Run) -> ContainerState {
    match slot.state {
        State::Waiting => ContainerState::Waiting,
        State::BackOff { .. } => ContainerState::CrashLoopBackOff,
        State::Running => pid(run).map_or(ContainerState::Waiting, |pid| ContainerState::Running { pid }),
        State::Ending { .. } => ContainerState::Terminating,
        State::Ended => ContainerState::Terminated,
    }
}

fn pid(run: &Run) -> Option<u32> {
    run.process.as_ref().map(|p| p.lock().unwrap_or_else(PoisonError::into_inner).pid())
}

/// Waits for the end without reaping, so that the id stays the process's own for whoever signals it; then reaps.
fn wait(process: &Mutex<Process>) -> i32 {
    let lock = || process.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = Pid::from_raw(lock().pid() as i32);
    // ECHILD: reaped already, by a signal that looked first. EINTR: the loop below sees for itself.
    while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
    lock().wait().map_or(START_ERROR, code)
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
