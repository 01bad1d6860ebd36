//! The API server as somebody with `kubectl` sees it.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cell::output;
use crate::certificates::Pair;
use crate::error::{BedError, Result};
use crate::parts;
use crate::until::until;

/// How one shows who one is.
#[derive(Debug)]
pub enum Credentials {
    /// A client certificate.
    Certificate(Pair),
    /// A bearer token; in a `Debug` print it would be read, so it has a type of its own.
    Token(Token),
}

/// A bearer token.
pub struct Token(pub String);

/// Never shows the token.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A kubeconfig file for one server and one user, as JSON (which is YAML).
pub fn kubeconfig(server: &str, authority: &str, credentials: &Credentials) -> String {
    let user = match credentials {
        Credentials::Certificate(pair) => {
            json!({"client-certificate-data": base64(&pair.certificate), "client-key-data": base64(&pair.key)})
        }
        Credentials::Token(Token(token)) => json!({"token": token}),
    };
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bed",
        "clusters": [{"name": "bed", "cluster": {"server": server, "certificate-authority-data": base64(authority)}}],
        "users": [{"name": "bed", "user": user}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
    })
    .to_string()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Objects as one document, for [`Api::apply`] and [`Api::delete`].
pub fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// One user's way to the API server, from this host.
#[derive(Debug)]
pub struct Api {
    kubectl: PathBuf,
    folder: TempDir,
}

impl Api {
    /// For the kubeconfig file with that content. It is kept in a folder that only we can read and that goes with this value.
    ///
    /// # Errors
    /// Without `kubectl`, or when the file can't be written.
    pub fn new(kubeconfig: &str) -> Result<Api> {
        let folder = tempfile::tempdir().map_err(BedError::file("make", std::env::temp_dir()))?;
        let api = Api { kubectl: parts::kubernetes("kubectl")?, folder };
        std::fs::write(api.kubeconfig(), kubeconfig).map_err(BedError::file("write", api.kubeconfig()))?;
        Ok(api)
    }

    /// The kubeconfig file, for other programs on this host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Runs `kubectl` and returns what it printed.
    ///
    /// # Errors
    /// [`BedError::Failed`] with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(arguments).stdin(Stdio::null()))
    }

    /// `kubectl apply` of YAML documents.
    ///
    /// # Errors
    /// [`BedError::Failed`] with what the API server said.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.with_input(&["apply", "-f", "-"], yaml)
    }

    /// `kubectl delete` of YAML documents, waiting until they are gone.
    ///
    /// # Errors
    /// [`BedError::Failed`].
    pub fn delete(&self, yaml: &str) -> Result<String> {
        self.with_input(&["delete", "--ignore-not-found", "-f", "-"], yaml)
    }

    /// Runs `kubectl` with that standard input.
    ///
    /// # Errors
    /// [`BedError::Failed`] with what it said.
    pub fn with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut file = tempfile::tempfile_in(self.folder.path()).map_err(BedError::file("make", self.folder.path()))?;
        let written = file.write_all(input.as_bytes()).and_then(|()| std::io::Seek::rewind(&mut file));
        written.map_err(BedError::file("write", self.folder.path()))?;
        output(self.command(arguments).stdin(file))
    }

    /// What `kubectl get … -o json` prints.
    ///
    /// # Errors
    /// [`BedError::Failed`], [`BedError::Json`].
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let all: Vec<&str> = ["get", "-o", "json"].into_iter().chain(arguments.iter().copied()).collect();
        let text = self.kubectl(&all)?;
        serde_json::from_str(&text)
            .map_err(|source| BedError::Json { what: format!("kubectl {}", all.join(" ")), source })
    }

    /// Waits until a pod is ready and returns it.
    ///
    /// # Errors
    /// [`BedError::Late`] with its status, its events and the end of its containers' logs.
    pub fn ready(&self, namespace: &str, pod: &str, limit: Duration) -> Result<Value> {
        let waited = self.kubectl(&[
            "-n",
            namespace,
            "wait",
            "--for=condition=Ready",
            &format!("--timeout={}s", limit.as_secs().max(1)),
            "pod",
            pod,
        ]);
        match waited {
            Ok(_) => self.get(&["-n", namespace, "pod", pod]),
            Err(error) => Err(BedError::Late {
                what: format!("pod {namespace}/{pod}"),
                limit,
                last: format!("{error}\n{}", self.story(namespace, pod)),
            }),
        }
    }

    /// A pod's IPv4 and IPv6 address; at least one, the pod's first before the others.
    ///
    /// # Errors
    /// When there is no such pod, or it has none.
    pub fn addresses(&self, namespace: &str, pod: &str) -> Result<Vec<IpAddr>> {
        let object = self.get(&["-n", namespace, "pod", pod])?;
        let addresses = object["status"]["podIPs"].as_array().into_iter().flatten();
        let addresses: Vec<IpAddr> = addresses.filter_map(|address| address["ip"].as_str()?.parse().ok()).collect();
        if addresses.is_empty() {
            let status = object["status"].to_string();
            return Err(BedError::NoAddress { namespace: namespace.into(), pod: pod.into(), status });
        }
        Ok(addresses)
    }

    /// Waits until `look` says yes to what `kubectl get` prints.
    ///
    /// # Errors
    /// [`BedError::Late`] with what was seen last.
    pub fn until(&self, what: &str, limit: Duration, get: &[&str], look: impl Fn(&Value) -> bool) -> Result<Value> {
        until(what, limit, || {
            Ok(match self.get(get) {
                Ok(value) if look(&value) => Ok(value),
                Ok(value) => Err(value.to_string()),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    /// Runs a command in a container and returns what it printed.
    ///
    /// # Errors
    /// [`BedError::Failed`] with what it said, also when the command failed.
    pub fn exec(&self, namespace: &str, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let start = ["-n", namespace, "exec", pod, "-c", container, "--"];
        self.kubectl(&start.into_iter().chain(command.iter().copied()).collect::<Vec<_>>())
    }

    /// What is known of a pod, for a person: status, events, logs.
    pub fn story(&self, namespace: &str, pod: &str) -> String {
        let ask = |arguments: &[&str]| self.kubectl(arguments).unwrap_or_else(|error| error.to_string());
        let described = ask(&["-n", namespace, "describe", "pod", pod]);
        let logs = ask(&["-n", namespace, "logs", "--all-containers", "--prefix", "--tail=30", pod]);
        format!("{described}\n{logs}")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .env_clear()
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.folder.path())
            .current_dir(Path::new("/"));
        command.args(["--request-timeout=30s"]).args(arguments);
        command
    }
}
