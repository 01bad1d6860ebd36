//! One node's flows: what its agent has kept, then what comes, for as long as it can be had.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sidewall_flow::Record;
use sidewall_flowstream::{ClientError, Event, Events, Follow};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::commands::flows::agents::Agents;
use crate::error::Error;

/// How many records are remembered, so that none is shown twice where an agent is asked again.
const REMEMBERED: usize = 256;
/// The most records that are taken to have been kept.
const KEPT_MAX: u64 = 1 << 16;
/// Records of a node come nearly in the order of their times: those of different pods may overtake one another.
const OVERTAKES: Duration = Duration::from_secs(1);
/// How long to wait before an agent is asked again, at first and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// How often in a row an agent is asked again without an answer: for two minutes or so.
const TRIES: u32 = 12;

/// What there is to be shown.
pub enum News {
    /// All that the agent has kept. It comes once, and first.
    Kept(Vec<Record>),
    /// Something that came.
    Record(Record),
    /// Something that whoever reads should know.
    Trouble {
        /// Of which node.
        node: String,
        /// What.
        what: String,
    },
    /// Nothing more comes of this node, though it should.
    Ended {
        /// Which.
        node: String,
        /// Why.
        error: Error,
    },
}

/// Follows one node's flows.
pub struct Follower {
    node: String,
    agents: Arc<Agents>,
    follow: Follow,
    news: mpsc::Sender<News>,
    /// Whether what is kept has been shown, so that the rest may come.
    go: watch::Receiver<bool>,
    recent: VecDeque<Record>,
    newer: bool,
}

/// How a stream ended.
enum End {
    /// Nobody wants more.
    Unwanted,
    /// All has been told.
    Good,
    /// It broke off.
    Broken(Error),
}

impl Follower {
    /// A follower that has not begun.
    pub fn new(
        node: String,
        agents: Arc<Agents>,
        follow: Follow,
        news: mpsc::Sender<News>,
        go: watch::Receiver<bool>,
    ) -> Self {
        Self { node, agents, follow, news, go, recent: VecDeque::new(), newer: false }
    }

    /// Tells what there is until nobody wants more, or nothing more can be had.
    pub async fn run(mut self) {
        let mut tries = 0;
        let mut begun = false;
        loop {
            let end = match self.agents.ask(&self.node, &self.follow).await {
                Ok(events) => {
                    tries = 0;
                    self.tell(events, &mut begun).await
                }
                Err(error) => End::Broken(error),
            };
            let error = match end {
                End::Unwanted => return,
                End::Good if !self.follow.follow => return,
                End::Good => Error::FlowStream(ClientError::Lost("the agent has ended".to_owned())),
                End::Broken(error) => error,
            };
            let again = begun && self.follow.follow && self.passes(&error).await;
            if !again || tries >= TRIES {
                let node = self.node.clone();
                let _ = self.news.send(News::Ended { node, error }).await;
                return;
            }
            if !matches!(error, Error::FlowStream(ClientError::Nameless(_))) {
                if tries == 0 {
                    self.trouble(format!("{error}; asking again")).await;
                }
                sleep((PAUSE * 2_u32.saturating_pow(tries)).min(LONGEST)).await;
            }
            tries += 1;
        }
    }

    /// Whether it is worth asking again.
    async fn passes(&self, error: &Error) -> bool {
        match error {
            Error::FlowStream(ClientError::Nameless(_)) => self.agents.renews().await,
            Error::FlowStream(
                ClientError::NotAllowed(_) | ClientError::NotUnderstood(_) | ClientError::NoSuchCall(_),
            ) => false,
            _ => true,
        }
    }

    async fn tell(&mut self, mut events: Events, begun: &mut bool) -> End {
        let again = *begun;
        let (mut kept, mut left) = (Vec::new(), None);
        loop {
            if left == Some(0) && !*begun {
                *begun = true;
                if self.news.send(News::Kept(std::mem::take(&mut kept))).await.is_err() {
                    return End::Unwanted;
                }
                if self.follow.follow && self.go.wait_for(|go| *go).await.is_err() {
                    return End::Unwanted;
                }
            }
            match events.next().await {
                None => return End::Good,
                Some(Err(error)) => return End::Broken(error.into()),
                Some(Ok(Event::Begun { kept })) => left = Some(kept.min(KEPT_MAX)),
                Some(Ok(Event::Newer { field })) => {
                    left = left.map(|left| left.saturating_sub(1));
                    if !std::mem::replace(&mut self.newer, true) {
                        self.trouble(format!("the agent is newer than this program, which can't show all ({field})"))
                            .await;
                    }
                }
                Some(Ok(Event::Record(record))) => {
                    left = left.map(|left| left.saturating_sub(1));
                    if again && self.recent.contains(&record) {
                        continue;
                    }
                    self.remember(&record);
                    if !*begun {
                        kept.push(record);
                    } else if self.news.send(News::Record(record)).await.is_err() {
                        return End::Unwanted;
                    }
                }
            }
        }
    }

    /// Where the agent is asked again, it is for what came since.
    fn remember(&mut self, record: &Record) {
        self.follow.since = self.follow.since.max(Some(record.time().before(OVERTAKES)));
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(record.clone());
    }

    async fn trouble(&self, what: String) {
        let node = self.node.clone();
        // Whoever does not hear it has gone.
        let _ = self.news.send(News::Trouble { node, what }).await;
    }
}
