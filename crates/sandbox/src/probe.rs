//! Tries a container's probes as the kubelet does: commands in the container's identity, connections from the node's
//! side of the pod's link, so that the pod's walls are in between.

mod http;

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Probe, ProbeAction, Probes};
use crate::pod::{Identity, LivePod};

/// What a container's probes found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Started,
    Ready(bool),
    /// Which probe failed for good, its own grace period, and the last attempt's reason.
    Unhealthy(&'static str, Option<Duration>, String),
}

/// Ends the probing threads of one run of a container when it is dropped.
pub(crate) struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts probing one run of a container. `tell` is called from several threads. Without a startup probe the
/// container has started at once.
pub(crate) fn watch(
    pod: &LivePod,
    container: &str,
    probes: &Probes,
    tell: impl Fn(Finding) + Send + Sync + 'static,
) -> crate::Result<Guard> {
    let stop = Arc::new(AtomicBool::new(false));
    let guard = Guard(stop.clone());
    let watch = Watch { pod: pod.clone(), container: container.to_owned(), stop, tell: Arc::new(tell) };
    let (liveness, readiness) = (probes.liveness.clone(), probes.readiness.clone());
    let after_start = {
        let watch = watch.clone();
        move || {
            (watch.tell)(Finding::Started);
            for result in [
                liveness.map(|p| watch.clone().spawn(move |w| w.until_failure("liveness", &p))),
                readiness.map(|p| watch.clone().spawn(move |w| w.follow_readiness(&p))),
            ] {
                if let Some(Err(error)) = result {
                    (watch.tell)(Finding::Unhealthy("probe", None, error.to_string()));
                }
            }
        }
    };
    match probes.startup.clone() {
        None => after_start(),
        Some(startup) => watch.spawn(move |w| {
            if w.until_success(&startup) {
                after_start();
            }
        })?,
    }
    Ok(guard)
}

#[derive(Clone)]
struct Watch {
    pod: LivePod,
    container: String,
    stop: Arc<AtomicBool>,
    tell: Arc<dyn Fn(Finding) + Send + Sync>,
}

impl Watch {
    fn spawn(self, work: impl FnOnce(&Watch) + Send + 'static) -> crate::Result<()> {
        let thread = thread::Builder::new().name("probe".into()).spawn(move || work(&self));
        thread.map(drop).map_err(crate::Error::Thread)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps in slices, so that an ended container's threads don't linger; `false` when it is over.
    fn pause(&self, length: Duration) -> bool {
        let end = Instant::now() + length;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.stopped() || left.is_zero() {
                return !self.stopped();
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Calls `judge` with each outcome in turn and the number of equal outcomes in a row, until it says stop.
    fn repeat(&self, probe: &Probe, mut judge: impl FnMut(&Result<(), String>, u32) -> bool) {
        let (mut last, mut row) = (None, 0);
        let mut goes_on = self.pause(probe.initial_delay);
        while goes_on {
            let outcome = attempt(&self.pod, &self.container, probe);
            if self.stopped() {
                return;
            }
            row = if last == Some(outcome.is_ok()) { row + 1 } else { 1 };
            last = Some(outcome.is_ok());
            if let Err(reason) = &outcome {
                tracing::debug!(container = self.container, reason, "probe failed");
            }
            goes_on = judge(&outcome, row) && self.pause(probe.period);
        }
    }

    fn until_success(&self, probe: &Probe) -> bool {
        let mut passed = false;
        self.repeat(probe, |outcome, row| match outcome {
            Ok(()) => {
                passed = row >= probe.success_threshold;
                !passed
            }
            Err(reason) => self.unless_failed("startup", probe, reason, row),
        });
        passed
    }

    fn until_failure(&self, which: &'static str, probe: &Probe) {
        self.repeat(probe, |outcome, row| match outcome {
            Ok(()) => true,
            Err(reason) => self.unless_failed(which, probe, reason, row),
        });
    }

    fn unless_failed(&self, which: &'static str, probe: &Probe, reason: &str, row: u32) -> bool {
        let failed = row >= probe.failure_threshold;
        if failed {
            (self.tell)(Finding::Unhealthy(which, probe.grace, reason.to_owned()));
        }
        !failed
    }

    fn follow_readiness(&self, probe: &Probe) {
        self.repeat(probe, |outcome, row| {
            let (ready, threshold) =
                if outcome.is_ok() { (true, probe.success_threshold) } else { (false, probe.failure_threshold) };
            if row == threshold {
                (self.tell)(Finding::Ready(ready));
            }
            true
        });
    }
}

/// One attempt; the error says what went wrong.
pub(crate) fn attempt(pod: &LivePod, container: &str, probe: &Probe) -> Result<(), String> {
    match &probe.action {
        ProbeAction::Exec(argv) => {
            let identity = Identity::Container(container.to_owned());
            let output = pod.exec(&identity, argv, probe.timeout).map_err(|e| e.to_string())?;
            if output.status.success() { Ok(()) } else { Err(format!("{} ended with {}", argv[0], output.status)) }
        }
        ProbeAction::Tcp { host, port } => {
            from_node(pod, || connect(pod, host.as_deref(), *port, Instant::now() + probe.timeout).map(drop))
        }
        ProbeAction::Http { host, port, path, headers } => from_node(pod, || {
            let end = Instant::now() + probe.timeout;
            http::get(path, headers, *port, host.as_deref(), primary(pod), end, || {
                connect(pod, host.as_deref(), *port, end)
            })
        }),
    }
}

/// Runs where the node's end of the link is.
fn from_node<T: Send>(pod: &LivePod, work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    pod.node_netns().run(work).map_err(|e| e.to_string())?
}

fn primary(pod: &LivePod) -> IpAddr {
    pod.info().addresses.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

fn connect(pod: &LivePod, host: Option<&str>, port: u16, end: Instant) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = match host {
        None => vec![SocketAddr::new(primary(pod), port)],
        Some(host) => (host, port).to_socket_addrs().map_err(|e| format!("{host}: {e}"))?.collect(),
    };
    let mut reason = "no address".to_owned();
    for address in addresses {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("{address}: timed out"));
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(e) => reason = format!("{address}: {e}"),
        }
    }
    Err(reason)
}
