//! The probe port: asks the application what a pod's probe or hook asks, and answers with a status and nothing else.
//!
//! The kubelet cannot log in, so this port knows no credentials; therefore it gives nothing else away. Only the paths of
//! the configuration are known ([`Target::path`]), a hook's ends in a word that nobody can guess, and of the application's
//! answer neither headers nor body nor the status itself is passed on: 200 means that the kubelet would have been content,
//! 503 that it would not. A hook that the application did not answer is not answered either, since that alone is a failure
//! to the kubelet.

mod connect;
mod grpc;
mod http_get;
mod location;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ClientConfig;
use sidewall_proxy_config::{Occasion, ProxyConfig, Target};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::metrics::Count;
use crate::phase::Phase;
use crate::side::{Answer, NoAnswer};
use connect::Whereto;
use http_get::HttpAsk;

/// Why the application did not say that it is well. Told to nobody but the debug log.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] std::io::Error),
    /// The answer is not HTTP, or broke off.
    #[error("the answer is broken: {0}")]
    Http(#[source] hyper::Error),
    /// It is redirected in a circle.
    #[error("redirected too often")]
    Redirects,
    /// A redirection leads to what is no address.
    #[error("redirected to what is no address")]
    Location,
    /// The gRPC call failed.
    #[error("the gRPC call failed: {0}")]
    Grpc(#[source] h2::Error),
    /// The gRPC answer is none, or not of the health check.
    #[error("the gRPC answer is not one of the health check")]
    GrpcAnswer,
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

/// What the application said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// What the kubelet takes for well.
    Well,
    /// Anything else.
    Unwell,
    /// Nothing.
    Silent,
}

/// What is asked for one path.
struct Ask {
    occasion: Occasion,
    timeout: Duration,
    way: Way,
    counts: Arc<TargetCounts>,
}

enum Way {
    Http(HttpAsk),
    Tcp(Whereto),
    Grpc(Whereto, String),
}

/// What came of one target's probes.
#[derive(Debug)]
struct TargetCounts {
    container: String,
    occasion: Occasion,
    outcomes: [Count; 3],
}

/// What came of all probes.
#[derive(Debug, Default)]
pub struct ProbeCounts(Vec<Arc<TargetCounts>>);

impl ProbeCounts {
    fn of(&self, target: &Target) -> Option<Arc<TargetCounts>> {
        let same =
            |counts: &&Arc<TargetCounts>| (&counts.container, counts.occasion) == (&target.container, target.occasion);
        self.0.iter().find(same).cloned()
    }

    /// Container, occasion, outcome, and how often.
    pub fn all(&self) -> impl Iterator<Item = (&str, &'static str, &'static str, u64)> {
        self.0.iter().flat_map(|target| {
            ["well", "unwell", "silent"]
                .into_iter()
                .zip(&target.outcomes)
                .map(|(outcome, count)| (target.container.as_str(), target.occasion.name(), outcome, count.get()))
        })
    }
}

type Answers = RefCell<HashMap<(String, IpAddr), watch::Receiver<Option<Verdict>>>>;

/// The probe port's answers.
pub struct Prober {
    // By hash, so that no comparison tells how much of a hook's word was right.
    asks: HashMap<String, Arc<Ask>>,
    counts: Arc<ProbeCounts>,
    phase: watch::Receiver<Phase>,
}

/// The same on the thread that serves it, with the questions that are being asked.
pub struct LocalProber {
    prober: Prober,
    under_way: Rc<Answers>,
}

impl Prober {
    /// From the targets of a validated configuration. Those that were asked before go on with their numbers.
    pub fn new(config: &ProxyConfig, phase: watch::Receiver<Phase>, before: Option<&ProbeCounts>) -> Self {
        let tls = connect::unverified_tls();
        let targets = config.probes.iter().flat_map(|probes| &probes.targets);
        let mut counts = Vec::new();
        let asks = targets
            .filter_map(|target| {
                let way = way(target, config, &tls)?;
                let of_target = before.and_then(|before| before.of(target)).unwrap_or_else(|| {
                    Arc::new(TargetCounts {
                        container: target.container.clone(),
                        occasion: target.occasion,
                        outcomes: Default::default(),
                    })
                });
                counts.push(Arc::clone(&of_target));
                let timeout = Duration::from_secs(target.timeout_seconds.into());
                let ask = Ask { occasion: target.occasion, timeout, way, counts: of_target };
                Some((target.path(), Arc::new(ask)))
            })
            .collect();
        Self { asks, counts: Arc::new(ProbeCounts(counts)), phase }
    }

    /// What came of the probes.
    pub fn counts(&self) -> Arc<ProbeCounts> {
        Arc::clone(&self.counts)
    }

    /// To be served, on the thread that serves.
    pub fn local(self) -> LocalProber {
        LocalProber { prober: self, under_way: Rc::default() }
    }
}

fn way(target: &Target, config: &ProxyConfig, tls: &Arc<ClientConfig>) -> Option<Way> {
    let port = target.port()?;
    // At the pod's own address a listener could answer in the application's stead.
    let listens = config.listeners.iter().any(|listener| listener.port == port);
    let whereto = |host: Option<&str>| Whereto::new(host, port, !listens);
    match (&target.http_get, &target.tcp_socket, &target.grpc) {
        (Some(http), None, None) => Some(Way::Http(HttpAsk::new(http, whereto(http.host.as_deref()), Arc::clone(tls)))),
        (None, Some(tcp), None) => Some(Way::Tcp(whereto(tcp.host.as_deref()))),
        (None, None, Some(grpc)) => Some(Way::Grpc(whereto(None), grpc.service.clone())),
        _ => None,
    }
}

impl Ask {
    /// Asks the application, as somebody who was reached at `local` and calls himself `agent`.
    async fn ask(&self, local: IpAddr, agent: HeaderValue) -> Verdict {
        let asked = async {
            match &self.way {
                Way::Http(http) => http.get(local, &agent).await.map(|status| (200..400).contains(&status.as_u16())),
                Way::Tcp(whereto) => whereto.connect(local).await.map(|_| true),
                Way::Grpc(whereto, service) => grpc::check(whereto, service, local, &agent).await,
            }
        };
        let answer = timeout(self.timeout, asked).await.unwrap_or(Err(ProbeError::Timeout));
        let verdict = match answer {
            Ok(true) => Verdict::Well,
            Ok(false) => Verdict::Unwell,
            Err(error) => {
                let (container, occasion) = (&self.counts.container, self.occasion.name());
                tracing::debug!(%error, container, occasion, "the application did not answer a probe");
                Verdict::Silent
            }
        };
        self.counts.outcomes[verdict as usize].add(1);
        verdict
    }
}

impl Answer for LocalProber {
    async fn answer(&self, request: Request<Incoming>, local: SocketAddr) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let path = request.uri().path();
        let own = matches!(path, "/healthz" | "/readyz");
        let ask = self.prober.asks.get(path);
        if ask.is_none() && !own {
            return Ok(status(StatusCode::NOT_FOUND));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let Some(ask) = ask else {
            let ready = *self.prober.phase.borrow() == Phase::Serving;
            let well = ready || path == "/healthz";
            return Ok(status(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }));
        };
        let agent = user_agent(request.headers().get(header::USER_AGENT));
        let local = local.ip().to_canonical();
        if ask.occasion.is_hook() {
            // Each call of a hook is a call.
            return match ask.ask(local, agent).await {
                Verdict::Well => Ok(status(StatusCode::OK)),
                Verdict::Unwell => Ok(status(StatusCode::SERVICE_UNAVAILABLE)),
                Verdict::Silent => Err(NoAnswer),
            };
        }
        match self.shared(path, ask, local, agent).await {
            Verdict::Well => Ok(status(StatusCode::OK)),
            _ => Ok(status(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }
}

impl LocalProber {
    /// Asks, or waits with whoever has asked the same already: so nobody can have the application asked more often than
    /// it answers.
    async fn shared(&self, path: &str, ask: &Arc<Ask>, local: IpAddr, agent: HeaderValue) -> Verdict {
        let key = (path.to_owned(), local);
        // One that ended without an answer is none to wait for.
        let known = self.under_way.borrow().get(&key).filter(|answer| answer.has_changed().is_ok()).cloned();
        let mut answer = known.unwrap_or_else(|| {
            let (tell, answer) = watch::channel(None);
            self.under_way.borrow_mut().insert(key.clone(), answer.clone());
            let (ask, under_way) = (Arc::clone(ask), Rc::clone(&self.under_way));
            spawn_local(async move {
                let verdict = ask.ask(local, agent).await;
                under_way.borrow_mut().remove(&key);
                tell.send_replace(Some(verdict));
            });
            answer
        });
        answer.wait_for(Option::is_some).await.ok().and_then(|verdict| *verdict).unwrap_or(Verdict::Silent)
    }
}

/// How the kubelet calls itself, which some applications look at: its own name if it is one, since no client's words may
/// pass here.
fn user_agent(given: Option<&HeaderValue>) -> HeaderValue {
    let version = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        let version = text.strip_prefix("kube-probe/").or_else(|| text.strip_prefix("kube-lifecycle/"))?;
        let fits = !version.is_empty() && version.len() <= 16;
        (fits && version.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'+'))).then_some(())
    };
    match given {
        Some(value) if version(value).is_some() => value.clone(),
        _ => HeaderValue::from_static("kube-probe/1"),
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_for_a_target_that_is_still_asked() {
        let config = |targets: &str| -> ProxyConfig {
            let listener = r#"{"port": 80, "forward": {"port": 8080}, "anonymous": true}"#;
            serde_json::from_str(&format!(r#"{{"listeners": [{listener}], "probes": {{"targets": [{targets}]}}}}"#))
                .expect("it reads")
        };
        let target = |container: &str, port: u16| {
            format!(r#"{{"container": "{container}", "occasion": "liveness", "tcpSocket": {{"port": {port}}}}}"#)
        };
        let phase = watch::channel(Phase::Serving).1;
        let before = Prober::new(&config(&target("app", 8080)), phase.clone(), None).counts();
        before.0[0].outcomes[0].add(3);
        let next = config(&format!("{}, {}", target("other", 8080), target("app", 8081)));
        let after = Prober::new(&next, phase, Some(&before)).counts();
        let well: Vec<_> = after
            .all()
            .filter(|(_, _, outcome, _)| *outcome == "well")
            .map(|(app, _, _, count)| (app, count))
            .collect();
        assert_eq!(well, [("other", 0), ("app", 3)]);
    }

    #[test]
    fn only_the_kubelets_own_name_passes() {
        let named = |text: &str| user_agent(Some(&HeaderValue::from_str(text).expect("a value")));
        for own in ["kube-probe/1.33", "kube-probe/1.29+", "kube-lifecycle/1.30"] {
            assert_eq!(named(own), own);
        }
        for other in
            ["curl/8", "kube-probe/", "kube-probe/1.33 <script>", "kube-probe/11111111111111111", "kube-probe/a"]
        {
            assert_eq!(named(other), "kube-probe/1", "{other}");
        }
        assert_eq!(user_agent(None), "kube-probe/1");
    }
}
