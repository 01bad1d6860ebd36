//! The course of a pod, as Kubernetes orders it: what to start, end and wait for after each event. Pure: no process,
//! no clock of its own.
//!
//! Init containers run one after another to completion. A sidecar counts as done once it has started (its startup
//! probe has passed, if it has one). Then all app containers start. Ended containers start again as the restart policy
//! says, at once the first time, then after a delay that doubles. At the end app containers get SIGTERM first, then
//! the sidecars one by one in reverse order; what is left after the grace period is killed.

use std::time::{Duration, Instant};

use crate::plan::{Kind, RestartPolicy};

/// How long to wait before a container that keeps ending starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The delay before the second restart (the first is immediate).
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// After a run this long the count begins afresh.
    pub reset: Duration,
}

impl Default for BackOff {
    /// Kubernetes' numbers.
    fn default() -> Self {
        BackOff { initial: Duration::from_secs(10), max: Duration::from_secs(300), reset: Duration::from_secs(600) }
    }
}

/// Where a pod is in its course (`status.phase`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// Init containers are running, or app containers have not all started.
    Pending,
    /// Its containers are running or starting again.
    Running,
    /// All app containers ended well, for good.
    Succeeded,
    /// All app containers ended for good, one of them badly; or an init container did.
    Failed,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A container's process ended. The code is the exit code, or 128 and the signal's number.
    Exited(usize, i32),
    /// Its startup probe passed, or it runs and has none.
    Started(usize),
    /// Its readiness changed.
    Ready(usize, bool),
    /// A liveness or startup probe failed for good; the grace period for its end.
    Unhealthy(usize, Duration),
    /// The pod is to end.
    Stop(Duration),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    Term(usize),
    Kill(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    BackOff {
        until: Instant,
    },
    Running,
    /// Asked to end; killed when the time comes. `None`: it was killed.
    Ending {
        kill_at: Option<Instant>,
    },
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub kind: Kind,
    pub state: State,
    pub started: bool,
    pub ready: bool,
    pub restarts: u32,
    pub last_exit: Option<i32>,
    has_readiness: bool,
    /// Init: has ended well. Sidecar: has started once.
    passed: bool,
    delay: Option<(Duration, Instant)>,
}

impl Slot {
    pub fn runs(&self) -> bool {
        matches!(self.state, State::Running | State::Ending { .. })
    }
}

/// The pod's course so far.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    policy: RestartPolicy,
    back_off: BackOff,
    grace: Duration,
    slots: Vec<Slot>,
    /// Set once the end has begun: when what is left is killed.
    stopping: Option<Instant>,
    init_failed: bool,
}

impl Lifecycle {
    /// For each container its kind and whether it has a readiness probe, in the plan's order.
    pub fn new(
        containers: impl IntoIterator<Item = (Kind, bool)>,
        policy: RestartPolicy,
        grace: Duration,
        back_off: BackOff,
    ) -> Lifecycle {
        let slot = |(kind, has_readiness)| Slot {
            kind,
            state: State::Waiting,
            started: false,
            ready: false,
            restarts: 0,
            last_exit: None,
            has_readiness,
            passed: false,
            delay: None,
        };
        let slots = containers.into_iter().map(slot).collect();
        Lifecycle { policy, back_off, grace, slots, stopping: None, init_failed: false }
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether the pod has come to its end: nothing runs, and nothing will.
    pub fn finished(&self) -> bool {
        self.stopping.is_some() && !self.slots.iter().any(Slot::runs)
    }

    /// The first actions.
    pub fn begin(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.advance(&mut actions);
        actions
    }

    /// What follows from an event.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Exited(i, code) => self.exited(i, code, now, &mut actions),
            Event::Started(i) if self.slots[i].state == State::Running => {
                let slot = &mut self.slots[i];
                slot.started = true;
                slot.ready |= !slot.has_readiness;
                slot.passed |= slot.kind == Kind::Sidecar;
                self.advance(&mut actions);
            }
            Event::Ready(i, ready) => {
                let slot = &mut self.slots[i];
                slot.ready = ready && slot.started;
            }
            Event::Unhealthy(i, grace) if self.slots[i].state == State::Running => {
                self.term(i, now + grace, &mut actions);
            }
            Event::Started(_) | Event::Unhealthy(..) => {}
            Event::Stop(grace) => self.stop(grace, now, &mut actions),
        }
        actions
    }

    /// What the passing of time brings.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let over = self.stopping.is_some_and(|d| d <= now);
        for i in 0..self.slots.len() {
            match self.slots[i].state {
                State::BackOff { until } if until <= now && self.stopping.is_none() => {
                    self.slots[i].restarts += 1;
                    self.start(i, &mut actions);
                }
                State::Ending { kill_at: Some(at) } if at <= now || over => self.kill(i, &mut actions),
                State::Running if over => self.kill(i, &mut actions),
                _ => {}
            }
        }
        actions
    }

    /// When to call [`Lifecycle::tick`] next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let own = self.slots.iter().filter_map(|slot| match slot.state {
            State::BackOff { until } => Some(until),
            State::Ending { kill_at } => kill_at,
            _ => None,
        });
        let running = self.slots.iter().any(|s| matches!(s.state, State::Running | State::Ending { kill_at: Some(_) }));
        own.chain(self.stopping.filter(|_| running)).min()
    }

    /// `status.phase`.
    pub fn phase(&self) -> Phase {
        if self.init_failed {
            return Phase::Failed;
        }
        let apps = || self.slots.iter().filter(|s| s.kind == Kind::App);
        if self.finished() {
            // Also when it was stopped by request before it had begun.
            return if apps().all(|s| s.last_exit == Some(0)) { Phase::Succeeded } else { Phase::Failed };
        }
        if apps().all(|s| s.state != State::Waiting) { Phase::Running } else { Phase::Pending }
    }

    fn exited(&mut self, i: usize, code: i32, now: Instant, actions: &mut Vec<Action>) {
        let slot = &mut self.slots[i];
        slot.state = State::Ended;
        slot.started = false;
        slot.ready = false;
        slot.last_exit = Some(code);
        if self.stopping.is_some() {
            return self.stop_next(now, actions);
        }
        match slot.kind {
            Kind::Init if code == 0 => {
                slot.passed = true;
                self.advance(actions);
            }
            Kind::Init if self.policy == RestartPolicy::Never => {
                self.init_failed = true;
                self.stop(self.grace, now, actions);
            }
            Kind::Init | Kind::Sidecar => self.again(i, now, actions),
            Kind::App => {
                let again = match self.policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::OnFailure => code != 0,
                    RestartPolicy::Never => false,
                };
                if again {
                    self.again(i, now, actions);
                } else if self.slots.iter().all(|s| s.kind != Kind::App || s.state == State::Ended) {
                    // The work is done; sidecars don't keep a pod alive.
                    self.stop(self.grace, now, actions);
                }
            }
        }
    }

    /// Starts again: at once the first time, then after a doubling delay. As in the kubelet, the count is forgotten
    /// when the container has not ended for the `reset` time.
    fn again(&mut self, i: usize, now: Instant, actions: &mut Vec<Action>) {
        let back_off = self.back_off;
        let slot = &mut self.slots[i];
        match slot.delay.filter(|(_, since)| now.duration_since(*since) <= back_off.reset) {
            None => {
                slot.delay = Some((back_off.initial, now));
                slot.restarts += 1;
                self.start(i, actions);
            }
            Some((delay, _)) => {
                let until = now + delay;
                slot.delay = Some(((delay * 2).min(back_off.max), until));
                slot.state = State::BackOff { until };
            }
        }
    }

    /// Starts what is next in order.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.stopping.is_some() {
            return;
        }
        let next = self.slots.iter().position(|s| s.kind != Kind::App && !s.passed);
        match next {
            Some(i) if self.slots[i].state == State::Waiting => self.start(i, actions),
            Some(_) => {}
            None => {
                for i in 0..self.slots.len() {
                    if self.slots[i].kind == Kind::App && self.slots[i].state == State::Waiting {
                        self.start(i, actions);
                    }
                }
            }
        }
    }

    fn start(&mut self, i: usize, actions: &mut Vec<Action>) {
        self.slots[i].state = State::Running;
        actions.push(Action::Start(i));
    }

    fn term(&mut self, i: usize, kill_at: Instant, actions: &mut Vec<Action>) {
        self.slots[i].state = State::Ending { kill_at: Some(kill_at) };
        self.slots[i].ready = false;
        actions.push(Action::Term(i));
    }

    fn kill(&mut self, i: usize, actions: &mut Vec<Action>) {
        self.slots[i].state = State::Ending { kill_at: None };
        self.slots[i].ready = false;
        actions.push(Action::Kill(i));
    }

    /// Begins the end. A second request can only shorten the time that is left.
    fn stop(&mut self, grace: Duration, now: Instant, actions: &mut Vec<Action>) {
        let wanted = now + grace;
        let deadline = self.stopping.map_or(wanted, |d| d.min(wanted));
        self.stopping = Some(deadline);
        for slot in &mut self.slots {
            if let State::BackOff { .. } = slot.state {
                slot.state = State::Ended;
            }
        }
        self.stop_next(now, actions);
        actions.extend(self.tick(now));
    }

    /// All but sidecars at once; when none is left, the last sidecar that runs.
    fn stop_next(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let deadline = self.stopping.unwrap_or(now);
        for i in 0..self.slots.len() {
            if self.slots[i].kind != Kind::Sidecar && self.slots[i].state == State::Running {
                self.term(i, deadline, actions);
            }
        }
        if self.slots.iter().any(|s| s.kind != Kind::Sidecar && s.runs()) {
            return;
        }
        let last = self.slots.iter().rposition(|s| s.kind == Kind::Sidecar && s.runs());
        if let Some(i) = last.filter(|i| self.slots[*i].state == State::Running) {
            self.term(i, deadline, actions);
        }
    }
}

#[cfg(test)]
mod tests;
