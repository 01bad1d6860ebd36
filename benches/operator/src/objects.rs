//! Writing objects of the API server, many at a time.

use crate::Result;
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use serde_json::Value;
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::kube::Client;
use sidewall_node_tests::Api;

/// How many writes are on their way at once.
const AT_ONCE: usize = 16;

/// A way to the API server.
#[derive(Clone)]
pub struct Objects {
    client: Client,
}

/// One write.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new object, in the collection of that path.
    Create(String, Value),
    /// Fields of the object of that path become others (RFC 7396).
    Merge(String, Value),
}

impl Objects {
    /// As whoever may do anything.
    pub async fn connect(api: &Api) -> Result<Self> {
        Ok(Self { client: client(&ClientOptions { kubeconfig: Some(api.kubeconfig()), context: None }).await? })
    }

    /// Writes, and returns when the API server has answered; with its answer.
    pub async fn write(&self, write: Write) -> Result<Value> {
        let (method, path, kind, body) = match write {
            Write::Create(path, object) => (Method::POST, path, "application/json", object),
            Write::Merge(path, patch) => (Method::PATCH, path, "application/merge-patch+json", patch),
        };
        let request = Request::builder().method(method).uri(&path).header(http::header::CONTENT_TYPE, kind);
        let request = request.body(serde_json::to_vec(&body)?)?;
        Ok(self.client.request::<Value>(request).await.map_err(|error| format!("{path}: {error}"))?)
    }

    /// Writes all, in no order; `keep` is what of each answer is wanted.
    pub async fn all<T>(
        &self,
        writes: impl Iterator<Item = Write> + Send,
        keep: impl Fn(&Value) -> T + Copy + Send,
    ) -> Result<Vec<T>> {
        let written = stream::iter(writes).map(|write| async move { Result::Ok(keep(&self.write(write).await?)) });
        written.buffered(AT_ONCE).try_collect().await
    }
}
