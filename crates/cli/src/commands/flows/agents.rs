//! The agents of a cluster's nodes, or the one of this node: who they are, and how they are asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::FutureExt;
use sidewall_cluster::flows::{self, LIFETIME};
use sidewall_cluster::kube;
use sidewall_flowstream::{Client, ClientError, Events, Follow, Token};
use sidewall_policy::index::Named;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::error::Error;

/// How long before its end a token is not used any more.
const EARLY: Duration = Duration::from_secs(120);
/// How long the node's own word for a failure is waited for.
const WORD: Duration = Duration::from_millis(500);

/// The agents that can be asked.
pub enum Agents {
    /// The one of this node.
    Here(PathBuf),
    /// Those of a cluster.
    Cluster(Box<Elsewhere>),
}

/// A cluster's agents.
pub struct Elsewhere {
    client: kube::Client,
    /// Where agents run.
    namespace: String,
    /// Who is shown to them.
    account: Named,
    /// The token that was made last, and when.
    token: Mutex<Option<(Token, Instant)>>,
}

impl Agents {
    /// Of a cluster.
    pub fn cluster(client: kube::Client, namespace: &str, account: Named) -> Self {
        let namespace = namespace.to_owned();
        Self::Cluster(Box::new(Elsewhere { client, namespace, account, token: Mutex::new(None) }))
    }

    /// The agents' pods by node.
    ///
    /// # Errors
    /// They can't be listed.
    pub async fn by_node(&self) -> Result<BTreeMap<String, Named>, Error> {
        match self {
            Self::Here(_) => Ok(BTreeMap::new()),
            Self::Cluster(cluster) => Ok(flows::agents(&cluster.client, &cluster.namespace).await?),
        }
    }

    /// Asks the agent of a node; a pod's name may have changed since the last time.
    ///
    /// # Errors
    /// It can't be reached, or refuses.
    pub async fn ask(&self, node: &str, follow: &Follow) -> Result<Events, Error> {
        match self {
            Self::Here(socket) => Ok(Client::unix(socket).await?.follow(follow, None).await?),
            Self::Cluster(cluster) => cluster.ask(node, follow).await,
        }
    }

    /// Whether another token may help where this one was refused: it may have come to its end.
    pub async fn renews(&self) -> bool {
        let Self::Cluster(cluster) = self else { return false };
        let mut token = cluster.token.lock().await;
        let old = token.as_ref().is_some_and(|(_, made)| made.elapsed() > EARLY);
        if old {
            *token = None;
        }
        old
    }
}

impl Elsewhere {
    async fn ask(&self, node: &str, follow: &Follow) -> Result<Events, Error> {
        let Self { client, namespace, .. } = self;
        let none = || Error::NoAgent { nodes: vec![node.to_owned()], namespace: namespace.clone() };
        let pod = flows::agents(client, namespace).await?.remove(node).ok_or_else(none)?;
        let token = self.token().await?;
        let connection = flows::forward(client, &pod).await?;
        let asked = async {
            let agent = Client::over(connection.stream).await?;
            agent.follow(follow, token.as_ref()).await
        };
        let mut problem = connection.problem.fuse();
        // The node says why nobody answers at the port, while the connection may just stay silent.
        let message = tokio::select! {
            biased;
            Some(message) = &mut problem => message,
            events = asked => match events {
                Err(error @ (ClientError::NotConnected(_) | ClientError::Lost(_))) => {
                    match timeout(WORD, &mut problem).await {
                        Ok(Some(message)) => message,
                        _ => return Err(error.into()),
                    }
                }
                events => return Ok(events?),
            },
        };
        Err(flows::FlowsError::Forward { pod, message: message.trim().to_owned() }.into())
    }

    async fn token(&self) -> Result<Option<Token>, Error> {
        let Self { client, account, token, .. } = self;
        let mut token = token.lock().await;
        if let Some((token, made)) = &*token
            && made.elapsed() + EARLY < LIFETIME
        {
            return Ok(Some(token.clone()));
        }
        let made = flows::token(client, account).await?;
        let made = Token::new(made.reveal());
        *token = made.clone().map(|token| (token, Instant::now()));
        Ok(made)
    }
}
