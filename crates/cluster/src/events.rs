//! Kubernetes Events: what the owner of a pod or of a policy should know.
//!
//! [`EventWriter::tell`] never waits. The same thing said again is counted and not written again within ten minutes; an
//! Event's name follows from what it says, so that this holds across restarts. Of one object and of all together only so many
//! are written in a time; what is left out is counted.

mod limit;

use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
pub use limit::Limits;
use limit::{Decision, Limiter};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The most notices that wait to be written.
const QUEUE: usize = 256;

/// The longest note, in octets, as the API server has it (`noteLengthLimit`).
const NOTE_MAX: usize = 1024;

/// How often a write is tried.
const TRIES: u32 = 4;

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// What it is about.
    pub regarding: Regarding,
    /// One word for it, in PascalCase: `NotEnforceable`.
    pub reason: String,
    /// One word for what was tried: `Enforce`.
    pub action: String,
    /// A sentence for people: what is wrong, and what to do.
    pub note: String,
    /// Whether something is wrong.
    pub warning: bool,
}

/// An object that a notice is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Regarding {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty where it belongs to none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
}

impl Regarding {
    /// A pod.
    pub fn pod(namespace: impl Into<String>, name: impl Into<String>, uid: impl Into<String>) -> Self {
        Self {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }
}

/// What became of notices.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    repeated: AtomicU64,
    suppressed: AtomicU64,
    failed: AtomicU64,
}

/// Numbers of notices by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Written, as a new Event or as one more of an old one.
    pub written: u64,
    /// Said before a short while ago, and only counted.
    pub repeated: u64,
    /// Left out because there were too many.
    pub suppressed: u64,
    /// Lost, because the API server did not take them.
    pub failed: u64,
}

/// Writes Events until it is dropped.
#[derive(Debug)]
pub struct EventWriter {
    to: mpsc::Sender<Notice>,
    counts: Arc<Counts>,
    task: AbortHandle,
}

impl EventWriter {
    /// Begins to write. `controller` is what reports, as `sidewall.dev/agent`, and `instance` which of it: the node's name.
    /// Must be called inside a Tokio runtime.
    pub fn start(client: &Client, controller: &str, instance: &str, limits: Limits) -> Self {
        let (to, notices) = mpsc::channel(QUEUE);
        let counts = Arc::<Counts>::default();
        let writer = Writer {
            client: client.clone(),
            controller: controller.to_owned(),
            instance: instance.chars().take(128).collect(),
            counts: Arc::clone(&counts),
            limiter: Limiter::new(limits, Instant::now()),
        };
        let task = tokio::spawn(writer.run(notices)).abort_handle();
        Self { to, counts, task }
    }

    /// Says something. What finds no place in the queue is counted as suppressed.
    pub fn tell(&self, notice: Notice) {
        if self.to.try_send(notice).is_err() {
            self.counts.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of what was said.
    pub fn counts(&self) -> EventCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { written, repeated, suppressed, failed } = &*self.counts;
        EventCounts { written: of(written), repeated: of(repeated), suppressed: of(suppressed), failed: of(failed) }
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Writer {
    client: Client,
    controller: String,
    instance: String,
    counts: Arc<Counts>,
    limiter: Limiter,
}

impl Writer {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            let name = name(&notice, &self.instance);
            let counter = match self.limiter.decide(Instant::now(), &name, &notice.regarding) {
                Decision::Hold => &self.counts.repeated,
                Decision::Drop => &self.counts.suppressed,
                Decision::Write { count } => match self.write(&notice, &name, count).await {
                    Ok(()) => &self.counts.written,
                    Err(failure) => {
                        tracing::debug!(cause = failure.cause.as_str(), "an Event is not written: {failure}");
                        self.limiter.forget(&name);
                        &self.counts.failed
                    }
                },
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn write(&self, notice: &Notice, name: &str, count: i32) -> Result<(), Failure> {
        let mut pause = crate::pause::Pause::new(Duration::from_secs(1), Duration::from_secs(10));
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.once(notice, name, count).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let passing = matches!(failure.cause, Cause::Unreachable | Cause::Failing);
            if !passing || tries >= TRIES {
                return Err(failure);
            }
            tokio::time::sleep(pause.next(failure.wait)).await;
        }
    }

    async fn once(&self, notice: &Notice, name: &str, count: i32) -> Result<(), Failure> {
        let namespace = match notice.regarding.namespace.as_str() {
            // Events about objects of no namespace are kept there.
            "" => "default",
            namespace => namespace,
        };
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let now = MicroTime(Timestamp::now());
        if count < 2 {
            let event = self.event(notice, name, namespace, now.clone());
            let body =
                serde_json::to_vec(&event).map_err(|error| Failure::new(Cause::Unintelligible, error.to_string()))?;
            let created = ask::<Value>(&self.client, Request::new(&path).create(&PostParams::default(), body), LONGEST);
            match created.await {
                // An earlier run of this program has said it.
                Err(failure) if failure.exists => {}
                other => return other.map(drop),
            }
        }
        let series = EventSeries { count: count.max(2), last_observed_time: now.clone() };
        let patch = Request::new(&path).patch(name, &PatchParams::default(), &Patch::Merge(json!({"series": series})));
        match ask::<Value>(&self.client, patch, LONGEST).await {
            // The API server forgets Events after a while.
            Err(failure) if failure.cause == Cause::Absent && count >= 2 => {
                let event = self.event(notice, name, namespace, now);
                let body = serde_json::to_vec(&event)
                    .map_err(|error| Failure::new(Cause::Unintelligible, error.to_string()))?;
                ask::<Value>(&self.client, Request::new(&path).create(&PostParams::default(), body), LONGEST)
                    .await
                    .map(drop)
            }
            other => other.map(drop),
        }
    }

    fn event(&self, notice: &Notice, name: &str, namespace: &str, now: MicroTime) -> Event {
        let Regarding { api_version, kind, namespace: of, name: object, uid } = &notice.regarding;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(now),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(cut(&notice.action, 128)),
            reason: Some(cut(&notice.reason, 128)),
            note: Some(cut(&notice.note, NOTE_MAX)),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            regarding: Some(ObjectReference {
                api_version: some(api_version),
                kind: some(kind),
                namespace: some(of),
                name: some(object),
                uid: some(uid),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// An Event's name: its object's, and a number that follows from what is said by whom.
fn name(notice: &Notice, instance: &str) -> String {
    // FNV-1a, because the number has to be the same in every run and every version of this program.
    let Regarding { api_version, kind, namespace, name, uid } = &notice.regarding;
    let said = [instance, api_version, kind, namespace, name, uid, &notice.reason, &notice.action, &notice.note];
    let octets = said.into_iter().flat_map(|part| part.bytes().chain([0xff]));
    let number = octets
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3));
    let object: String = name.chars().take(200).collect();
    format!("{}.{number:016x}", object.trim_end_matches(['.', '-']))
}

/// Cut to so many octets, at a character's end.
fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
