//! The floor: the same server with nothing behind it, as a program of its own. It says yes to everything.

use crate::Result;
use serde::Deserialize;
use sidewall_operator::admission::webhook::{self, Answers, NoAnswer};
use sidewall_operator::certificates::Store;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where it listens.
pub const PORT: u16 = 9600;
/// Whose certificate it shows.
pub const HOST: &str = "floor.example";

/// What it is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Its certificate, PEM
    certificate: PathBuf,
    /// Its key, PEM
    key: PathBuf,
}

/// Certificates for it: whom to believe, what it shows, and the key.
pub fn certificates() -> Result<[String; 3]> {
    let store = Store::new(&[HOST.to_owned()], SystemTime::now())?;
    let (certificate, key) = store.serving();
    Ok([store.authorities(), certificate.to_owned(), key.to_owned()])
}

struct Yes;

#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
struct Asked {
    uid: String,
}

impl Answers for Yes {
    async fn answer(&self, _: &str, body: &[u8]) -> std::result::Result<Vec<u8>, NoAnswer> {
        let review: Review =
            serde_json::from_slice(body).map_err(|error| NoAnswer::Unintelligible(error.to_string()))?;
        let answer = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": review.request.uid, "allowed": true},
        });
        Ok(answer.to_string().into_bytes())
    }
}

/// Serves until it is ended.
pub fn serve(arguments: &Arguments) -> Result<()> {
    let tls = webhook::config(&fs::read_to_string(&arguments.certificate)?, &fs::read_to_string(&arguments.key)?)?;
    // As many threads as the operator has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).await?;
        let (_keep, tls) = watch::channel(tls);
        webhook::serve(listener, tls, Arc::new(Yes), std::future::pending()).await;
        Ok(())
    })
}
