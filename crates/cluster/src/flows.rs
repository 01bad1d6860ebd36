//! The way from a person to the flow logs of a cluster's agents: where they are, a token to show them, and a connection.
//!
//! **No credentials of the person leave for the agent.** Who got the token with which somebody asks the API server could do
//! everything in his name; and who logs in with a certificate has none. So the API server is asked for another one, of a
//! service account, which lives for ten minutes, is good for nothing but flow logs ([`AUDIENCE`]), and may see what that
//! account may see. Whoever may create tokens of an account reads flows as that account; the API server's audit log says who
//! did.

use crate::feed::Page;
use crate::request::{LONGEST, ask};
use crate::review::Token;
use crate::trouble::{Cause, Failure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{ListParams, PostParams};
use kube::core::Request;
use sidewall_policy::index::Named;
use std::collections::BTreeMap;
#[cfg(feature = "forward")]
use std::fmt;
use std::time::Duration;

/// What a token must be meant for, so that agents show flows to its bearer.
pub const AUDIENCE: &str = "sidewall.dev/flows";
/// The TCP port of a node's loopback device at which its agent offers flows.
pub const PORT: u16 = 9553;
/// The namespace in which agents run, unless they were installed elsewhere.
pub const AGENTS: &str = "sidewall-system";
/// The service account that is shown to agents, unless another is named.
pub const READER: &str = "sidewall-flows";
/// How long a token lives: the shortest that the API server gives.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// The label of agents' pods.
const LABEL: &str = "app.kubernetes.io/name=sidewall-agent";
/// The most pods of one page.
const PAGE: u32 = 500;

/// Why flows can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowsError {
    /// The agents can't be listed.
    #[error("the agents in namespace {namespace} can't be listed: {message}")]
    Agents {
        /// Where they should be.
        namespace: String,
        /// Why not, and what can be done.
        message: String,
    },
    /// There is no token to show.
    #[error("no token of service account {account} can be had: {message}")]
    Token {
        /// Whose.
        account: Named,
        /// Why not, and what can be done.
        message: String,
    },
    /// The agent can't be reached.
    #[error("the agent {pod} can't be reached: {message}")]
    Forward {
        /// Its pod.
        pod: Named,
        /// Why not, and what can be done.
        message: String,
    },
}

/// The agents' pods by the node on which they run, those that are ready first. Nodes without a running agent are left out.
///
/// # Errors
///
/// [`FlowsError::Agents`].
pub async fn agents(client: &Client, namespace: &str) -> Result<BTreeMap<String, Named>, FlowsError> {
    let failed = |Failure { cause, message, .. }| {
        let advice = match cause {
            Cause::Forbidden => "; grant list on pods there",
            _ => "",
        };
        FlowsError::Agents { namespace: namespace.to_owned(), message: format!("{message}{advice}") }
    };
    let mut found: BTreeMap<String, (bool, Named)> = BTreeMap::new();
    let mut params = ListParams::default().labels(LABEL).limit(PAGE);
    loop {
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/pods")).list(&params);
        let page: Page<Pod> = ask(client, request, LONGEST).await.map_err(failed)?;
        for pod in page.items.into_iter().flatten() {
            if let Some((node, ready, name)) = running(pod, namespace)
                && found.get(&node).is_none_or(|(other, _)| ready && !other)
            {
                found.insert(node, (ready, name));
            }
        }
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => return Ok(found.into_iter().map(|(node, (_, name))| (node, name)).collect()),
        }
    }
}

/// A pod's node, whether it is ready, and its name: where it runs.
fn running(pod: Pod, namespace: &str) -> Option<(String, bool, Named)> {
    let status = pod.status?;
    if status.phase.as_deref() != Some("Running") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ready =
        status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some((pod.spec?.node_name?, ready, Named::new(namespace, &pod.metadata.name?)))
}

/// A token of a service account for agents' flow logs. It lives for [`LIFETIME`].
///
/// # Errors
///
/// [`FlowsError::Token`].
pub async fn token(client: &Client, account: &Named) -> Result<Token, FlowsError> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(LIFETIME.as_secs() as i64),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let failed = |Failure { cause, message, .. }| {
        let Named { namespace, name } = account;
        let advice = match cause {
            Cause::Forbidden => format!(
                "; grant create on serviceaccounts/token of {name} in {namespace}, or name an account of yours with --service-account"
            ),
            Cause::Absent => format!(
                "; make it: `kubectl -n {namespace} create serviceaccount {name}`, and let it see the namespace's flows: `kubectl -n \
                 {namespace} create rolebinding {name} --clusterrole=sidewall-view --serviceaccount={namespace}:{name}`"
            ),
            _ => String::new(),
        };
        FlowsError::Token { account: account.clone(), message: format!("{message}{advice}") }
    };
    let body =
        serde_json::to_vec(&request).map_err(|error| failed(Failure::new(Cause::Unintelligible, error.to_string())))?;
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", account.namespace, account.name);
    let post = Request::new(path).create(&PostParams::default(), body);
    let answer: TokenRequest = ask(client, post, LONGEST).await.map_err(failed)?;
    let status = answer.status.filter(|status| !status.token.is_empty());
    let none = || failed(Failure::new(Cause::Unintelligible, "the answer has no token"));
    status.map(|status| Token::new(status.token)).ok_or_else(none)
}

/// A connection to an agent's port, through the API server and the node's kubelet.
#[cfg(feature = "forward")]
pub struct Forward {
    /// The connection.
    pub stream: tokio::io::DuplexStream,
    /// What the node says if the port can't be reached; it may be said after the stream has been used.
    pub problem: std::pin::Pin<Box<dyn Future<Output = Option<String>> + Send>>,
}

#[cfg(feature = "forward")]
impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").finish_non_exhaustive()
    }
}

/// Connects to an agent's port as `kubectl port-forward` does, without a port on this machine.
///
/// # Errors
///
/// [`FlowsError::Forward`].
#[cfg(feature = "forward")]
pub async fn forward(client: &Client, pod: &Named) -> Result<Forward, FlowsError> {
    let failed = |Failure { cause, message, .. }| {
        let advice = match cause {
            // Over a WebSocket it is asked for as a reading, and by newer API servers as a writing too.
            Cause::Forbidden => format!("; grant get and create on pods/portforward in {}", pod.namespace),
            _ => String::new(),
        };
        FlowsError::Forward { pod: pod.clone(), message: format!("{message}{advice}") }
    };
    let pods: kube::Api<Pod> = kube::Api::namespaced(client.clone(), &pod.namespace);
    let ports = [PORT];
    let forwarding = tokio::time::timeout(LONGEST, pods.portforward(&pod.name, &ports)).await;
    let late = |_| failed(crate::request::late(LONGEST));
    let mut forwarder = forwarding.map_err(late)?.map_err(|error| failed(Failure::plain(&error)))?;
    let (stream, problem) = (forwarder.take_stream(PORT), forwarder.take_error(PORT));
    match (stream, problem) {
        (Some(stream), Some(problem)) => Ok(Forward { stream, problem: Box::pin(problem) }),
        _ => Err(failed(Failure::new(Cause::Unintelligible, "nothing was forwarded"))),
    }
}

#[cfg(test)]
mod tests;
