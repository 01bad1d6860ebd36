//! One kind's news: a list, then a watch from where the list ended, for as long as anybody listens.
//!
//! Whatever goes wrong is reported and tried again after a while; nothing that goes wrong makes an object disappear.

mod guard;
#[cfg(test)]
mod tests;

use crate::item::{Event, Watched};
use crate::kind::{Kind, Reading};
use crate::pause::Pause;
use crate::request::{ask, late};
use crate::trouble::{Cause, Failure};
use crate::watch::{Reporter, Timing};
use futures::{FutureExt, Stream, StreamExt};
use guard::{Definition, Standing};
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;

use serde::Deserialize;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::Sender;

/// One kind's news.
pub(crate) struct Feed<T> {
    pub client: Client,
    pub kind: Kind,
    pub reading: Reading,
    /// The node whose pods are told in more detail.
    pub node: Option<Arc<str>>,
    pub timing: Timing,
    pub to: Sender<Event>,
    pub reporter: Reporter,
    /// Which of the kind's paths is served, by its number.
    pub path: usize,
    /// Whether it has ever been seen to be served.
    pub served: bool,
    pub of: PhantomData<fn() -> T>,
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(crate) struct Page<T> {
    #[serde(default)]
    pub metadata: PageMeta,
    // Absent or null where there is nothing.
    #[serde(default = "Option::default")]
    pub items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PageMeta {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

/// Why a feed stops what it is doing.
enum Stop {
    /// Nobody listens any more.
    Over,
    /// Something went wrong. It goes on from where it was.
    Failed(Failure),
    /// Something went wrong that may have cost an event: everything has to be listed again.
    Lost(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure.cause {
            // What was not understood may have been an event; what was not served is another thing when it comes back.
            Cause::Expired | Cause::Unintelligible | Cause::Absent => Self::Lost(failure),
            _ => Self::Failed(failure),
        }
    }
}

impl<T: Watched> Feed<T> {
    /// Tells the kind's news until nobody listens any more.
    pub async fn run(mut self) {
        let mut pause = Pause::new(self.timing.first_pause, self.timing.longest_pause);
        let mut from: Option<String> = None;
        loop {
            let stop = match self.turn(&mut from, &mut pause).await {
                Ok(()) => continue,
                Err(stop) => stop,
            };
            let failure = match stop {
                Stop::Over => return,
                Stop::Failed(failure) => failure,
                Stop::Lost(failure) => {
                    from = None;
                    failure
                }
            };
            tracing::debug!(kind = %self.kind, cause = failure.cause.as_str(), "{failure}");
            let wait = pause.next(failure.wait);
            self.reporter.trouble(self.kind, &failure);
            tokio::select! {
                () = self.to.closed() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A list, where one is needed, and one watch.
    async fn turn(&mut self, from: &mut Option<String>, pause: &mut Pause) -> Result<(), Stop> {
        let start = match from.clone() {
            Some(version) => version,
            None => {
                let Some(version) = self.list().await? else {
                    // Not served, and it need not be: it is asked for again now and then.
                    self.reporter.fresh(self.kind);
                    let wait = pause.next(None).max(self.timing.longest_pause / 2);
                    tokio::select! {
                        () = self.to.closed() => return Err(Stop::Over),
                        () = tokio::time::sleep(wait) => return Ok(()),
                    }
                };
                from.insert(version).clone()
            }
        };
        let began = Instant::now();
        let params = WatchParams::default().timeout(self.timing.watch_seconds);
        let request = Request::new(self.path()).watch(&params, &start);
        let request = request.map_err(|error| Failure::new(Cause::Unintelligible, error.to_string()))?;
        let answer = tokio::time::timeout(self.timing.request, self.client.request_events::<T>(request)).await;
        let events = answer.map_err(|_| late(self.timing.request))?.map_err(|e| Failure::of(self.kind, &e))?;
        self.reporter.fresh(self.kind);
        let heard = self.follow(pin!(events), from).await?;
        if heard || began.elapsed() >= self.timing.first_pause {
            pause.reset();
            Ok(())
        } else {
            // Otherwise a server that ends every watch at once would be asked without end.
            Err(Failure::new(Cause::Failing, "the API server ended a watch at once").into())
        }
    }

    /// Tells a watch's events until it ends. Says whether there were any.
    async fn follow(
        &self,
        mut events: impl Stream<Item = Result<WatchEvent<T>, kube::Error>> + Unpin,
        from: &mut Option<String>,
    ) -> Result<bool, Stop> {
        let mut heard = false;
        let mut held = None;
        loop {
            let next = match held.take() {
                Some(next) => next,
                None => {
                    let next = tokio::select! {
                        () = self.to.closed() => return Err(Stop::Over),
                        next = tokio::time::timeout(self.timing.idle, events.next()) => next,
                    };
                    // The API server sends a bookmark every minute. Without anything the connection may have died unnoticed.
                    let Ok(next) = next else { return Ok(true) };
                    next
                }
            };
            let Some(next) = next else { return Ok(heard) };
            match next.map_err(|error| Failure::of(self.kind, &error))? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = version_of(&object)?;
                    self.put(object).await?;
                    *from = Some(version);
                }
                WatchEvent::Deleted(object) => {
                    let mut gone = vec![object];
                    // Deletions come in crowds; what else has come with them is looked at afterwards.
                    while gone.len() < 256 && held.is_none() {
                        match events.next().now_or_never() {
                            Some(Some(Ok(WatchEvent::Deleted(object)))) => gone.push(object),
                            Some(other) => held = Some(other),
                            None => break,
                        }
                    }
                    self.believe().await?;
                    for object in gone {
                        let version = version_of(&object)?;
                        self.tell(Event::Gone(self.kind, object.named())).await?;
                        *from = Some(version);
                    }
                }
                WatchEvent::Bookmark(mark) => *from = Some(mark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(Failure::of_status(&status).into()),
            }
            heard = true;
        }
    }

    /// Lists everything. Gives the version from which to watch; none where the kind is not served and need not be.
    async fn list(&mut self) -> Result<Option<String>, Stop> {
        let mut params = ListParams::default().limit(self.timing.page);
        let first = loop {
            match self.page(&params).await {
                Ok(page) => break page,
                Err(failure) if failure.cause == Cause::Absent => {
                    self.path += 1;
                    if self.path < self.kind.paths().len() {
                        continue;
                    }
                    self.path = 0;
                    // What was served before is missed: it is not the same as never having been there.
                    if self.reading == Reading::IfServed && !self.served && self.absent().await? {
                        self.tell(Event::Absent(self.kind)).await?;
                        self.reporter.listed(self.kind);
                        return Ok(None);
                    }
                    return Err(failure.into());
                }
                Err(failure) => return Err(failure.into()),
            }
        };
        self.served = true;
        self.tell(Event::Begin(self.kind)).await?;
        let mut page = first;
        let version = loop {
            for object in page.items.into_iter().flatten() {
                self.put(object).await?;
            }
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => break page.metadata.resource_version,
            }
            page = self.page(&params).await?;
        };
        if version.is_empty() {
            return Err(Failure::new(Cause::Unintelligible, "a list without a resourceVersion can't be watched").into());
        }
        self.believe().await?;
        self.tell(Event::Listed(self.kind)).await?;
        self.reporter.listed(self.kind);
        Ok(Some(version))
    }

    async fn page(&self, params: &ListParams) -> Result<Page<T>, Failure> {
        let page = ask(&self.client, Request::new(self.path()).list(params), self.timing.request).await;
        page.map_err(|failure: Failure| failure.about(self.kind))
    }

    /// Whether what seems to have gone has gone, or only the kind is about to.
    async fn believe(&self) -> Result<(), Stop> {
        let Some(name) = self.kind.definition() else { return Ok(()) };
        let trouble = |why| Stop::Lost(Failure::new(Cause::Ending, why));
        match Definition(name).ask(&self.client, self.timing.request).await {
            Standing::Stands => Ok(()),
            Standing::Ends => Err(trouble(format!(
                "the CustomResourceDefinition {name} is being deleted, and its objects with it: those known last stay in \
                 force; install it again, and delete the objects that shall go"
            ))),
            Standing::Unknown(why) => Err(trouble(format!(
                "objects seem to be gone, and whether only the CustomResourceDefinition {name} is being deleted can't be \
                 found out ({why}): those known last stay in force; grant get on it"
            ))),
        }
    }

    /// Whether a kind that is not served is not there at all.
    async fn absent(&self) -> Result<bool, Stop> {
        let Some(name) = self.kind.definition() else { return Ok(true) };
        match Definition(name).ask(&self.client, self.timing.request).await {
            Standing::Ends => Ok(true),
            Standing::Stands => Ok(false),
            Standing::Unknown(why) => Err(Failure::new(
                Cause::Ending,
                format!("not served, and whether {name} is installed can't be found out ({why}); grant get on it"),
            )
            .into()),
        }
    }

    async fn put(&self, object: T) -> Result<(), Stop> {
        let name = object.named();
        let item = object.item(self.kind, self.node.as_deref());
        self.tell(Event::Put(self.kind, name, item)).await
    }

    async fn tell(&self, event: Event) -> Result<(), Stop> {
        self.to.send(event).await.map_err(|_| Stop::Over)
    }

    fn path(&self) -> &'static str {
        self.kind.paths()[self.path]
    }
}

fn version_of<T: Watched>(object: &T) -> Result<String, Failure> {
    let version = object.metadata().version.filter(|version| !version.is_empty());
    let missing = || Failure::new(Cause::Unintelligible, "an event without a resourceVersion");
    version.map(str::to_owned).ok_or_else(missing)
}
