//! A client of the API server, from a kubeconfig or from inside a cluster.

use crate::USER_AGENT;
use http::HeaderValue;
use http::header::USER_AGENT as USER_AGENT_HEADER;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest that a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest silence on any connection. Watches are given up on much earlier; this ends what nobody waits for any more.
const SILENCE: Duration = Duration::from_secs(300);

/// Which cluster, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// A kubeconfig. Without it: the files that `KUBECONFIG` names, else `~/.kube/config`, else the service account of the
    /// pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, if not its current one.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A kubeconfig that was named can't be used.
    #[error("the kubeconfig {} can't be used: {source}; check it with `kubectl --kubeconfig {} config view`", path.display(), path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// A context was named, and the usual kubeconfig can't be used.
    #[error(
        "the context {context:?} can't be used: {source}; `kubectl config get-contexts` shows those that there are"
    )]
    Context {
        /// The context.
        context: String,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "no cluster is configured: no kubeconfig ({kubeconfig}), and no service account of a pod ({in_cluster}); name a \
         file with --kubeconfig or KUBECONFIG, or run in a pod whose service account's token is mounted"
    )]
    Nothing {
        /// Why no kubeconfig.
        kubeconfig: String,
        /// Why no service account.
        in_cluster: String,
    },
    /// The pod's service account can't be used.
    #[error("the pod's service account can't be used: {0}; is automountServiceAccountToken set?")]
    InCluster(#[source] kube::config::InClusterError),
    /// What is configured makes no client: a certificate that can't be read, a proxy of an unknown sort.
    #[error("what the kubeconfig or service account says makes no client: {0}")]
    Unusable(String),
}

/// Makes a client. It makes no connection yet.
///
/// # Errors
///
/// What is missing or wrong in the configuration.
pub async fn client(options: &ClientOptions) -> Result<Client, ClientError> {
    of_config(config(options).await?)
}

/// Makes a client from the service account of the pod that this runs in, and from nothing else.
///
/// # Errors
///
/// What is missing.
pub fn in_cluster() -> Result<Client, ClientError> {
    of_config(Config::incluster().map_err(ClientError::InCluster)?)
}

/// Makes a client of a configuration that the caller made, with our limits and our name.
///
/// # Errors
///
/// What is wrong with it.
pub fn of_config(mut config: Config) -> Result<Client, ClientError> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(CONNECT);
    config.reset_reader_on_write = true;
    // Whoever asks decides whether to ask again, and says meanwhile that there is trouble.
    config.default_retry = false;
    config.headers.retain(|(name, _)| name != USER_AGENT_HEADER);
    config.headers.push((USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT)));
    Client::try_from(config).map_err(|error| ClientError::Unusable(error.to_string()))
}

async fn config(options: &ClientOptions) -> Result<Config, ClientError> {
    let choice = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &options.kubeconfig {
        return of_file(path, &choice).await;
    }
    let source = match Config::from_kubeconfig(&choice).await {
        Ok(config) => return Ok(config),
        Err(source) => source,
    };
    if let Some(context) = &options.context {
        return Err(ClientError::Context { context: context.clone(), source });
    }
    // A kubeconfig that was named by the environment is meant: its faults are not passed over.
    if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        return Err(ClientError::Kubeconfig { path: path.into(), source });
    }
    Config::incluster()
        .map_err(|error| ClientError::Nothing { kubeconfig: source.to_string(), in_cluster: error.to_string() })
}

async fn of_file(path: &Path, choice: &KubeConfigOptions) -> Result<Config, ClientError> {
    let fault = |source| ClientError::Kubeconfig { path: path.to_owned(), source };
    let file = Kubeconfig::read_from(path).map_err(fault)?;
    Config::from_custom_kubeconfig(file, choice).await.map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let path = PathBuf::from("/nowhere/kubeconfig");
        let options = ClientOptions { kubeconfig: Some(path), context: None };
        let error = client(&options).await.err().unwrap().to_string();
        assert!(error.contains("/nowhere/kubeconfig") && error.contains("kubectl --kubeconfig"), "{error}");
    }

    #[tokio::test]
    async fn secrets_of_a_kubeconfig_that_is_wrong_are_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {cluster: c, user: u}\n\
                    users:\n- name: u\n  user: {token: hush-hush-token}\n";
        std::fs::write(&path, text).unwrap();
        let options = ClientOptions { kubeconfig: Some(path.clone()), context: None };
        let error = client(&options).await.err().unwrap();
        assert!(error.to_string().contains("cluster"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hush-hush"), "{error:?}");
        // A context that is not there.
        let options = ClientOptions { kubeconfig: Some(path), context: Some("b".to_owned()) };
        let error = client(&options).await.err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hush-hush"), "{error:?}");
    }
}
