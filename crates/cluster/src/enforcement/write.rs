//! The task that writes.

use super::{WriteHealth, WriteTiming};
use crate::pause::Pause;
use crate::request::{LONGEST, ask};
use crate::trouble::{Cause, Failure, Trouble};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use serde_json::{Value, json};
use sidewall_api::NodeEnforcementStatus;
use sidewall_api::names::API_VERSION;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Where the objects are.
pub(crate) const PATH: &str = "/apis/sidewall.dev/v1alpha1/nodeenforcements";

/// The field manager of agents.
const MANAGER: &str = "sidewall-agent";

pub(super) async fn run(
    client: Client,
    node: String,
    timing: WriteTiming,
    mut newest: watch::Receiver<Option<NodeEnforcementStatus>>,
    health: watch::Sender<WriteHealth>,
) {
    let mut pause = Pause::new(timing.interval, timing.longest_pause);
    let mut writer = Writer { client, node, made: false };
    let mut due = Instant::now() + timing.heartbeat;
    loop {
        // The first time, and after that what is new or what has not been said for long.
        if let Ok(Err(_)) = timeout_at(due, newest.changed()).await {
            return;
        }
        let Some(status) = newest.borrow_and_update().clone() else {
            due = Instant::now() + timing.heartbeat;
            continue;
        };
        let began = Instant::now();
        match writer.write(status).await {
            Ok(()) => {
                pause.reset();
                health.send_modify(|health| {
                    health.written = Some(SystemTime::now());
                    health.writes += 1;
                    health.trouble = None;
                });
                due = began + timing.heartbeat;
                sleep_until(began + timing.interval).await;
            }
            Err(failure) => {
                health.send_modify(|health| {
                    let since = health.trouble.as_ref().map_or_else(SystemTime::now, |trouble| trouble.since);
                    if health.trouble.as_ref().is_none_or(|trouble| trouble.cause != failure.cause) {
                        tracing::warn!(cause = failure.cause.as_str(), "NodeEnforcement is not written: {failure}");
                    }
                    health.trouble = Some(Trouble { since, cause: failure.cause, message: failure.message.clone() });
                });
                sleep_until(began + pause.next(failure.wait)).await;
                // What is newest then is written, whether it is new or not.
                due = Instant::now();
            }
        }
    }
}

struct Writer {
    client: Client,
    node: String,
    /// Whether the object is there, as far as is known.
    made: bool,
}

impl Writer {
    async fn write(&mut self, mut status: NodeEnforcementStatus) -> Result<(), Failure> {
        if !self.made {
            self.make().await?;
            self.made = true;
        }
        status.updated = now();
        let body = json!({
            "apiVersion": API_VERSION,
            "kind": "NodeEnforcement",
            "metadata": {"name": self.node},
            "status": status,
        });
        let patch = Request::new(PATH).patch_subresource(
            "status",
            &self.node,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(body),
        );
        match ask::<Value>(&self.client, patch, LONGEST).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                // Somebody deleted it, or it went with a Node of the same name that was there before.
                if failure.cause == Cause::Absent {
                    self.made = false;
                }
                Err(self.advised(failure))
            }
        }
    }

    /// Makes the object, owned by the Node.
    async fn make(&self) -> Result<(), Failure> {
        let get = Request::new("/api/v1/nodes").get_metadata(&self.node, &GetParams::default());
        let node: Value = ask(&self.client, get, LONGEST).await.map_err(|failure: Failure| Failure {
            message: format!("the Node {} can't be read: {}; grant get on nodes", self.node, failure.message),
            ..failure
        })?;
        let uid = node.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        let body = json!({
            "apiVersion": API_VERSION,
            "kind": "NodeEnforcement",
            "metadata": {
                "name": self.node,
                "ownerReferences": [{
                    "apiVersion": <Node as k8s_openapi::Resource>::API_VERSION,
                    "kind": <Node as k8s_openapi::Resource>::KIND,
                    "name": self.node,
                    "uid": uid,
                }],
            },
            "spec": {"nodeName": self.node},
        });
        let patch = Request::new(PATH).patch(&self.node, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body));
        ask::<Value>(&self.client, patch, LONGEST).await.map_err(|failure| self.advised(failure))?;
        Ok(())
    }

    fn advised(&self, failure: Failure) -> Failure {
        let advice = match failure.cause {
            Cause::Forbidden => "; grant create and patch on nodeenforcements and patch on nodeenforcements/status",
            Cause::Absent => "; install the CustomResourceDefinitions of Sidewall",
            _ => return failure,
        };
        Failure { message: format!("{}{advice}", failure.message), ..failure }
    }
}

/// The time, to the second.
fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
