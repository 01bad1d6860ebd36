//! The flows of the node's pods: read from the kernel's log, offered to who may see them.

use crate::config::Listen;
use sidewall_cluster::flows::AUDIENCE;
use sidewall_cluster::kube::Client;
use sidewall_cluster::review::{self, ReviewError};
use sidewall_daemon::pages::until_free;
use sidewall_flowlog::{FollowError, Followed, Gatherer, Hub, Keep};
use sidewall_flowstream::{Admission, Admitted, Everything, Limits, Listener, Refusal, Server, Token};
use sidewall_netfilter::nflog::LogReader;
use sidewall_netns::NetNs;
use sidewall_policy::ResolvedPod;
use sidewall_policy::record::{Names, Recorder};
use sidewall_policy::ruleset::Statement;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// How many records are kept for who asks later, on the node and of each pod: some megabytes at the most.
const KEEP: Keep = Keep { records: 2048, of_a_pod: 128 };

/// Reads the flows of all pods of the node. Shared by all who load rules.
#[derive(Debug)]
pub struct Flows {
    gatherer: Gatherer,
    names: Mutex<Arc<Names>>,
}

impl Flows {
    /// Begins to read into a hub that is made for it.
    ///
    /// # Errors
    /// [`FollowError`] where there is no thread or no descriptor for it.
    pub fn start() -> Result<(Self, Hub), FollowError> {
        let hub = Hub::keeping(KEEP);
        Ok((Self { gatherer: Gatherer::start(hub.clone())?, names: Mutex::default() }, hub))
    }

    /// Addresses have these names from now on.
    pub fn set_names(&self, names: Arc<Names>) {
        self.gatherer.set_names(&names);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Follows a pod's log by the rules that are in force there. Blocks, for a fraction of a millisecond.
    ///
    /// # Errors
    /// In words: somebody else reads it, or it can't be opened.
    pub fn follow(
        &self,
        netns: &NetNs,
        followed: Option<Followed>,
        resolved: Arc<ResolvedPod>,
    ) -> Result<Followed, String> {
        let names = Arc::clone(&self.names.lock().unwrap_or_else(PoisonError::into_inner));
        let recorder = Recorder::new(resolved, names);
        match followed.filter(|followed| !followed.is_broken()) {
            Some(followed) => {
                followed.update(recorder);
                Ok(followed)
            }
            None => {
                let reader = LogReader::open(netns, Statement::LOG_GROUP).map_err(|error| error.to_string())?;
                self.gatherer.follow(reader, netns, recorder).map_err(|error| error.to_string())
            }
        }
    }
}

/// Lets in whom the API server lets see flows.
#[derive(Clone)]
struct Reviewed(Client);

impl std::fmt::Debug for Reviewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reviewed")
    }
}

impl Admission for Reviewed {
    async fn admit(&self, token: Option<&Token>, namespace: Option<&str>) -> Result<Admitted, Refusal> {
        let token = token.ok_or(Refusal::NoToken)?;
        let asked = review::user(&self.0, review::Token::new(token.reveal()), &[AUDIENCE.to_owned()]).await;
        let user = asked.map_err(refusal)?;
        match review::may_see_flows(&self.0, &user, namespace).await.map_err(refusal)? {
            true => Ok(Admitted { who: user.name }),
            false => Err(Refusal::NotAllowed { who: user.name }),
        }
    }
}

fn refusal(error: ReviewError) -> Refusal {
    match error {
        ReviewError::Nobody => Refusal::Nobody,
        error => Refusal::Unanswered { why: error.to_string() },
    }
}

/// Offers the flows: to root on the node, and on loopback to whom the API server lets see them.
pub fn serve(hub: &Hub, client: &Client, socket: &Path, listen: &Listen, tasks: &mut JoinSet<()>) {
    match Listener::unix(socket) {
        Ok(listener) => {
            let server = Server::new(hub.clone(), Everything, Limits::default());
            tasks.spawn(listener.serve(server, std::future::pending()));
        }
        Err(error) => tracing::error!("root can't be offered the flows: {error}"),
    }
    if let Some(address) = listen.flows {
        let server = Server::new(hub.clone(), Reviewed(client.clone()), Limits::default());
        tasks.spawn(async move {
            let listener = until_free(|| Listener::loopback(address), &address.to_string()).await;
            listener.serve(server, std::future::pending()).await;
        });
    }
}
