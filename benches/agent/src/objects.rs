//! Writing objects of the API server, one at a time, and no faster or slower than it answers.

use crate::Result;
use http::{Method, Request};
use serde_json::{Value, json};
use sidewall_cluster::client::{ClientOptions, client};
use sidewall_cluster::kube::Client;
use sidewall_node_tests::Api;

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
    /// The object of that path goes, at once.
    Delete(String),
}

impl Objects {
    /// As whoever may do anything.
    pub async fn connect(api: &Api) -> Result<Self> {
        Ok(Self { client: client(&ClientOptions { kubeconfig: Some(api.kubeconfig()), context: None }).await? })
    }

    /// Writes, and returns when the API server has answered; with its answer.
    pub async fn write(&self, write: &Write) -> Result<Value> {
        let at_once = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        let (method, path, kind, body) = match write {
            Write::Create(path, object) => (Method::POST, path, "application/json", object),
            Write::Merge(path, patch) => (Method::PATCH, path, "application/merge-patch+json", patch),
            Write::Delete(path) => (Method::DELETE, path, "application/json", &at_once),
        };
        let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, kind);
        let request = request.body(serde_json::to_vec(body)?)?;
        Ok(self.client.request::<Value>(request).await.map_err(|error| format!("{path}: {error}"))?)
    }

    /// A new object.
    pub async fn create(&self, collection: impl Into<String>, object: Value) -> Result<Value> {
        self.write(&Write::Create(collection.into(), object)).await
    }

    /// Fields of an object become others.
    pub async fn merge(&self, path: impl Into<String>, patch: Value) -> Result<Value> {
        self.write(&Write::Merge(path.into(), patch)).await
    }

    /// An object goes.
    pub async fn delete(&self, path: impl Into<String>) -> Result<Value> {
        self.write(&Write::Delete(path.into())).await
    }
}
