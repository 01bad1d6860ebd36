//! What a probe or hook asked before it was led through the proxy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{GRPCAction, HTTPGetAction, TCPSocketAction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sidewall_proxy_config::{Grpc, HookKey, HttpGet, HttpHeader, Occasion, Scheme, Target, TcpSocket};

use crate::admission::refusal::Refusal;
use crate::names::ANNOTATION_PROBES;

/// Of each container, what it was asked on which occasion.
pub type Originals = BTreeMap<String, BTreeMap<Occasion, Original>>;

/// What was asked once: the pod's own words, and what they meant there.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Original {
    /// The port, as a number even where the pod named it.
    pub port: u16,
    /// How long the application may take, in seconds.
    pub timeout_seconds: u32,
    /// The word at the end of a hook's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<HookKey>,
    /// `httpGet`, word for word. Exactly one of the three is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<Value>,
    /// `tcpSocket`, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<Value>,
    /// `grpc`, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Value>,
}

// By hand: headers of probes may carry credentials.
impl std::fmt::Debug for Original {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Original").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why an original cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadOriginal {
    /// None, or more than one.
    #[error("of httpGet, tcpSocket and grpc exactly one must be there")]
    OneWay,
    /// Not of the type that it has in a pod. The cause is not quoted, since it could quote a header.
    #[error("{field} is none of a pod's")]
    Shape {
        /// The field.
        field: &'static str,
    },
    /// No scheme of HTTP.
    #[error("httpGet.scheme is neither HTTP nor HTTPS")]
    Scheme,
}

impl Original {
    /// What the proxy is to ask.
    pub(crate) fn target(&self, container: &str, occasion: Occasion) -> Result<Target, BadOriginal> {
        let (http_get, tcp_socket, grpc) = match (&self.http_get, &self.tcp_socket, &self.grpc) {
            (Some(http), None, None) => (Some(self.http(http)?), None, None),
            (None, Some(tcp), None) => {
                let tcp: TCPSocketAction = read(tcp, "tcpSocket")?;
                (None, Some(TcpSocket { port: self.port, host: named(tcp.host) }), None)
            }
            (None, None, Some(grpc)) => {
                let grpc: GRPCAction = read(grpc, "grpc")?;
                (None, None, Some(Grpc { port: self.port, service: grpc.service.unwrap_or_default() }))
            }
            _ => return Err(BadOriginal::OneWay),
        };
        Ok(Target {
            container: container.to_owned(),
            occasion,
            key: self.key.clone(),
            timeout_seconds: self.timeout_seconds,
            http_get,
            tcp_socket,
            grpc,
        })
    }

    fn http(&self, http: &Value) -> Result<HttpGet, BadOriginal> {
        let http: HTTPGetAction = read(http, "httpGet")?;
        let scheme = match http.scheme.as_deref() {
            None | Some("" | "HTTP") => Scheme::Http,
            Some("HTTPS") => Scheme::Https,
            Some(_) => return Err(BadOriginal::Scheme),
        };
        let path = http.path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let headers = http.http_headers.into_iter().flatten();
        let http_headers = headers.map(|header| HttpHeader { name: header.name, value: header.value }).collect();
        Ok(HttpGet { port: self.port, path, scheme, host: named(http.host), http_headers })
    }
}

fn named(host: Option<String>) -> Option<String> {
    host.filter(|host| !host.is_empty())
}

fn read<T: DeserializeOwned>(value: &Value, field: &'static str) -> Result<T, BadOriginal> {
    T::deserialize(value).map_err(|_| BadOriginal::Shape { field })
}

/// Reads the annotation of a pod; nothing where there is none.
///
/// # Errors
///
/// It is not what this program writes.
pub fn read_originals(annotations: &BTreeMap<String, String>) -> Result<Originals, Refusal> {
    let Some(text) = annotations.get(ANNOTATION_PROBES) else { return Ok(Originals::new()) };
    let forged = |reason: String| Refusal::Forged { key: ANNOTATION_PROBES, reason };
    if text.len() > super::ORIGINALS_MAX {
        return Err(forged(format!("it is longer than {} bytes", super::ORIGINALS_MAX)));
    }
    let originals: Originals = serde_json::from_str(text)
        .map_err(|error| forged(format!("line {}, column {}", error.line(), error.column())))?;
    for (container, asked) in &originals {
        for (occasion, original) in asked {
            original
                .target(container, *occasion)
                .map_err(|error| forged(format!("{} of {container:?}: {error}", occasion.name())))?;
        }
    }
    Ok(originals)
}
