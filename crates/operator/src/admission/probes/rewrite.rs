//! The probes and hooks of containers, one after the other.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sidewall_proxy_config::Occasion;

use super::original::{Original, Originals};
use super::{Asked, HookSecret, OCCASIONS, TIMEOUT_MAX, asked, fields, is_loopback};
use crate::admission::edits::Edits;
use crate::admission::identity::Place;
use crate::admission::refusal::Refusal;

/// What holds for all containers of a pod.
pub(crate) struct Rewriting<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The SidecarProxy's name.
    pub proxy: &'a str,
    /// The probe port.
    pub port: u16,
    /// The probe port of an earlier call, which may have been of another version of the operator or of the SidecarProxy.
    pub former: Option<u16>,
    /// The ports that are on 127.0.0.1 only.
    pub hidden: &'a BTreeSet<u16>,
    /// The listeners that ask for credentials.
    pub asking: &'a BTreeSet<u16>,
    /// How long a hook may take, in seconds: the pod's grace period.
    pub grace: u32,
    /// Of what the words in hooks' paths are made.
    pub secret: &'a HookSecret,
}

impl Rewriting<'_> {
    /// Rewrites what is asked of one container; gives what it asked before, of which `known` are from an earlier call.
    pub fn container(
        &self,
        place: &Place<'_>,
        known: &Originals,
        edits: &mut Edits,
        warnings: &mut Vec<String>,
    ) -> Result<std::collections::BTreeMap<Occasion, Original>, Refusal> {
        let known = known.get(&place.container.name);
        let mut originals = std::collections::BTreeMap::new();
        for occasion in OCCASIONS {
            let known = known.and_then(|known| known.get(&occasion));
            if let Some(original) = self.occasion(place, occasion, known, edits, warnings)? {
                originals.insert(occasion, original);
            }
        }
        Ok(originals)
    }

    fn occasion(
        &self,
        place: &Place<'_>,
        occasion: Occasion,
        known: Option<&Original>,
        edits: &mut Edits,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Original>, Refusal> {
        let name = &place.container.name;
        // Its word is made anew, whatever an annotation says.
        let known = known.map(|known| Original { key: self.key(name, occasion), ..known.clone() });
        let Some((asked, timeout)) = asked(place.container, occasion) else { return Ok(known) };
        let said = format!("{}.{}.{}", place.path(), fields(occasion).join("."), asked.field());
        let Some(port) = asked.port(place.container) else {
            warnings.push(format!("{said}.port is no port of container {name:?}: the probe will fail"));
            return Ok(known);
        };
        if asked.host().is_none() && (port == self.port || Some(port) == self.former) {
            let ours = self.ours(name, occasion, &asked, known);
            let original = ours.ok_or_else(|| Refusal::Orphan { container: name.clone(), field: said, port })?;
            if port != self.port {
                let index = place.index.to_string();
                let start = ["spec", place.list.field(), &index];
                let at = start.into_iter().chain(fields(occasion).iter().copied()).chain(["httpGet", "port"]);
                edits.set(&at.collect::<Vec<_>>(), json!(self.port))?;
            }
            return Ok(Some(original));
        }
        match asked.host() {
            // What is asked of somebody else is not ours to ask.
            Some(host) if !is_loopback(host) => return Ok(known),
            Some(host) => warnings.push(format!(
                "{said}.host is {host:?}, which is the node's for the kubelet: the probe is led through the proxy, for which it \
                 is the pod's"
            )),
            None if self.hidden.contains(&port) => {}
            None => {
                if self.asking.contains(&port) {
                    warnings.push(format!(
                        "{said} aims at port {port}, where the proxy asks for credentials: the probe will get 401; let it aim \
                         at the application's port"
                    ));
                }
                return Ok(known);
            }
        }
        let least_and_most = |seconds: i64| u32::try_from(seconds.clamp(1, i64::from(TIMEOUT_MAX))).unwrap_or(1);
        let timeout_seconds = if occasion.is_hook() {
            self.grace.clamp(1, TIMEOUT_MAX)
        } else {
            least_and_most(timeout.unwrap_or(1).into())
        };
        let index = place.index.to_string();
        let at: Vec<&str> =
            ["spec", place.list.field(), &index].into_iter().chain(fields(occasion).iter().copied()).collect();
        let handler: Vec<&str> = at.iter().copied().chain([asked.field()]).collect();
        let words = edits.get(&handler).cloned().unwrap_or(Value::Null);
        let mut original = Original {
            port,
            timeout_seconds,
            key: self.key(name, occasion),
            http_get: None,
            tcp_socket: None,
            grpc: None,
        };
        match asked {
            Asked::Http(_) => original.http_get = Some(words),
            Asked::Tcp { .. } => original.tcp_socket = Some(words),
            Asked::Grpc { .. } => original.grpc = Some(words),
        }
        let target = original.target(name, occasion).map_err(|error| Refusal::Probe {
            container: name.clone(),
            field: said.clone(),
            reason: error.to_string(),
        })?;
        if !matches!(asked, Asked::Http(_)) {
            edits.remove(&handler)?;
        }
        let http_get: Vec<&str> = at.iter().copied().chain(["httpGet"]).collect();
        // With the API server's defaults, so that a second call finds it as it was left.
        edits.set(&http_get, json!({"path": target.path(), "port": self.port, "scheme": "HTTP"}))?;
        Ok(Some(original))
    }

    /// What aims at the probe port already: ours, if it is where we would have led it and we know what it asked.
    fn ours(&self, name: &str, occasion: Occasion, asked: &Asked<'_>, known: Option<Original>) -> Option<Original> {
        let path = match asked {
            Asked::Http(http) => http.path.as_deref().unwrap_or_default(),
            _ => "",
        };
        known.filter(|known| known.target(name, occasion).is_ok_and(|target| target.path() == path))
    }

    fn key(&self, container: &str, occasion: Occasion) -> Option<sidewall_proxy_config::HookKey> {
        occasion.is_hook().then(|| self.secret.key(self.namespace, self.proxy, container, occasion))
    }
}
