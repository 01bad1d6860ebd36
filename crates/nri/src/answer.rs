//! A callback and its time.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::ask::Status;
use crate::handler::{Event, Late, LateCallback, Veto};
use crate::ttrpc::code;

/// What is to be sent back, and on which stream.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) stream: u32,
    pub(crate) event: Event,
    pub(crate) decision: Result<(), Veto>,
}

impl Reply {
    /// The decision as ttrpc has it. Every answer that we give is a message without fields.
    pub(crate) fn answer(&self) -> Result<Vec<u8>, Status> {
        match &self.decision {
            Ok(()) => Ok(Vec::new()),
            Err(veto) => Err((code::FAILED_PRECONDITION, format!("sidewall: {veto}"))),
        }
    }
}

/// How to answer one request.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) stream: u32,
    pub(crate) event: Event,
    pub(crate) id: Option<String>,
    /// How long the callback had when it began.
    pub(crate) limit: Duration,
    pub(crate) until: Instant,
    pub(crate) replies: mpsc::Sender<Reply>,
}

impl Answering {
    /// Runs a callback that can refuse.
    pub(crate) async fn decide(
        self,
        callback: impl Future<Output = Result<(), Veto>>,
        late: impl FnOnce(&LateCallback) -> Late,
    ) {
        let mut callback = Box::pin(callback);
        match timeout_at(self.until, &mut callback).await {
            Ok(decision) => self.reply(decision).await,
            Err(_) => {
                let told = LateCallback { event: self.event, id: self.id.clone(), limit: self.limit };
                match late(&told) {
                    Late::Accept => {
                        self.reply(Ok(())).await;
                        // Its opinion comes too late; its work does not.
                        drop(callback.await);
                    }
                    Late::Veto => {
                        drop(callback);
                        let reason =
                            format!("{} took longer than {:?}; it will be tried again", self.event, self.limit);
                        self.reply(Err(Veto::new(reason))).await;
                    }
                }
            }
        }
    }

    /// Runs a callback that is told after the fact.
    pub(crate) async fn tell(self, callback: impl Future<Output = ()>) {
        let mut callback = Box::pin(callback);
        let done = timeout_at(self.until, &mut callback).await.is_ok();
        self.reply(Ok(())).await;
        if !done {
            callback.await;
        }
    }

    async fn reply(&self, decision: Result<(), Veto>) {
        // Nobody hears it where the session has ended; then nobody waits for it either.
        let _ = self.replies.send(Reply { stream: self.stream, event: self.event, decision }).await;
    }
}
