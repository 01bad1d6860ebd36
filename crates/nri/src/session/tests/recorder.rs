//! A handler that writes down what it is told, and does as the test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::end::End;
use crate::handler::{Event, Handler, Late, LateCallback, Veto};
use crate::model::{Container, Pod, RuntimeInfo};

/// What to do about containers that start.
#[derive(Debug, Clone, Copy)]
pub(super) enum Do {
    Accept,
    Refuse,
    Panic,
    /// Take so long, then accept.
    Wait(Duration),
    /// Take so long for this container only.
    WaitFor(&'static str, Duration),
}

#[derive(Debug, Default)]
struct Notes {
    said: Vec<String>,
    end: Option<End>,
    late: Option<Late>,
}

#[derive(Debug, Clone)]
pub(super) struct Recorder {
    what: Do,
    notes: Arc<Mutex<Notes>>,
    changed: Arc<Notify>,
}

impl Recorder {
    pub(super) fn new(what: Do) -> Self {
        Self { what, notes: Arc::default(), changed: Arc::default() }
    }

    pub(super) fn when_late(&self, late: Late) {
        self.notes.lock().unwrap().late = Some(late);
    }

    pub(super) fn said(&self) -> Vec<String> {
        self.notes.lock().unwrap().said.clone()
    }

    fn say(&self, line: String) {
        self.notes.lock().unwrap().said.push(line);
        self.changed.notify_waiters();
    }

    pub(super) fn has_ended(&self, end: End) {
        self.notes.lock().unwrap().end = Some(end);
        self.changed.notify_waiters();
    }

    /// Waits for a session's end.
    pub(super) async fn end(&self) -> End {
        self.wait(|notes| notes.end.take()).await
    }

    /// Waits until a line begins so.
    pub(super) async fn until(&self, beginning: &str) {
        self.until_count(beginning, 1).await;
    }

    /// Waits until so many lines begin so.
    pub(super) async fn until_count(&self, beginning: &str, count: usize) {
        let enough = |notes: &mut Notes| {
            (notes.said.iter().filter(|line| line.starts_with(beginning)).count() >= count).then_some(())
        };
        self.wait(enough).await;
    }

    async fn wait<T>(&self, mut condition: impl FnMut(&mut Notes) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = condition(&mut self.notes.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.unwrap_or_else(|_| panic!("still waiting; so far: {:#?}", self.said()))
    }

    async fn decide(&self, event: Event, id: &str) -> Result<(), Veto> {
        self.say(format!("{event} {id}"));
        match self.what {
            Do::Refuse => return Err(Veto::new("no guard")),
            Do::Panic if event == Event::StartContainer => panic!("as the test wants it"),
            Do::Wait(time) => {
                tokio::time::sleep(time).await;
                self.say(format!("done {event} {id}"));
            }
            Do::WaitFor(who, time) if who == id => tokio::time::sleep(time).await,
            Do::Accept | Do::Panic | Do::WaitFor(..) => {}
        }
        Ok(())
    }
}

impl Handler for Recorder {
    fn connected(&self, runtime: &RuntimeInfo) {
        let RuntimeInfo { runtime, version, answer_within, .. } = runtime;
        self.say(format!("connected {runtime} {version}, answer within {answer_within:?}"));
    }

    async fn synchronize(&self, pods: Vec<Pod>, containers: Vec<Container>) -> Result<(), Veto> {
        let pods: Vec<_> = pods.iter().map(|pod| pod.id.as_str()).collect();
        let container = |container: &Container| match &container.cgroups_path {
            Some(path) => format!("{} at {path}", container.id),
            None => container.id.to_string(),
        };
        let containers: Vec<_> = containers.iter().map(container).collect();
        self.say(format!("synchronize {}; {}", pods.join(", "), containers.join(", ")));
        match self.what {
            Do::Refuse if pods == ["refused"] => Err(Veto::new("no guard")),
            Do::Panic if pods == ["refused"] => panic!("as the test wants it"),
            _ => Ok(()),
        }
    }

    async fn run_pod(&self, pod: Pod) -> Result<(), Veto> {
        self.say(format!("RunPod {}", pod.id));
        Ok(())
    }

    async fn start_container(&self, pod: Pod, container: Container) -> Result<(), Veto> {
        assert_eq!(container.pod, pod.id);
        self.decide(Event::StartContainer, container.id.as_str()).await
    }

    async fn container_stopped(&self, _: Pod, container: Container) {
        drop(self.decide(Event::StopContainer, container.id.as_str()).await);
    }

    async fn container_removed(&self, _: Pod, container: Container) {
        drop(self.decide(Event::RemoveContainer, container.id.as_str()).await);
    }

    async fn pod_stopped(&self, pod: Pod) {
        self.say(format!("StopPod {}", pod.id));
    }

    async fn pod_removed(&self, pod: Pod) {
        self.say(format!("RemovePod {}", pod.id));
    }

    fn late(&self, late: &LateCallback) -> Late {
        self.say(format!("late {} {:?} {:?}", late.event, late.id, late.limit));
        self.notes.lock().unwrap().late.unwrap_or(Late::Veto)
    }

    fn ended(&self, end: &End, again_in: Duration) {
        let name = format!("{end:?}");
        let name = match end {
            End::NotThere { .. } => "NotThere",
            _ => &name,
        };
        self.say(format!("ended {name}, again in {again_in:?}"));
    }
}
