//! Attempts, made for real by processes in the identity of who tries.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sidewall_netfilter::Kernel;
use sidewall_policy::ResolvedPod;
use sidewall_sandbox::prober::{Connect, Outcome, Prober, Protocol};
use sidewall_sandbox::{Identity, LivePod};

use super::FRONT;
use super::lines::{Sender, Target};
use super::listeners::{COLLECTOR, ELSEWHERE, PORT};
use crate::error::Error;
use crate::probing::{DEADLINE, race, unused_user};
use crate::programs::launch_own;

/// What the application answers.
pub const HELLO: &str = "Hello World!";
/// A denial counter of the rules went up, and there was no connection.
pub const DENIED: &str = "denied";
/// The kernel refused, and no rule did: nobody listens there.
pub const NOBODY: &str = "nobody listens";
/// Nothing came, and no rule is why.
pub const SILENCE: &str = "no answer";

/// The application's ports.
const APPLICATION: u16 = 8080;
const METRICS: u16 = 8081;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the application may take to listen.
const LISTENS: Duration = Duration::from_secs(20);

/// Tries things in a pod.
pub struct Tries<'a> {
    pod: &'a LivePod,
    resolved: &'a ResolvedPod,
    published: SocketAddr,
    kernel: Kernel,
    probers: BTreeMap<Sender, Prober>,
}

impl<'a> Tries<'a> {
    /// For a pod whose front proxy is published there.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn new(pod: &'a LivePod, resolved: &'a ResolvedPod, published: SocketAddr) -> Result<Self, Error> {
        Ok(Self { pod, resolved, published, kernel: Kernel::open(pod.netns())?, probers: BTreeMap::new() })
    }

    /// Waits until the application listens: it always reaches itself.
    ///
    /// # Errors
    /// [`Error::Probe`] when it does not.
    pub fn wait_for_application(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        while self.attempt(Sender::Container("app"), Target::Application)? != HELLO {
            if begun.elapsed() > LISTENS {
                return Err(Error::Probe("the application".to_owned(), "it does not answer itself".to_owned()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Tries something, and says what came of it in a word or two.
    ///
    /// # Errors
    /// A probe could not be started, or ended.
    pub fn attempt(&mut self, sender: Sender, target: Target) -> Result<String, Error> {
        self.start(sender)?;
        let to = self.address(sender, target);
        let Self { kernel, probers, .. } = self;
        let prober = probers.get(&sender).ok_or_else(|| gone(sender))?;
        let connect = Connect {
            protocol: Protocol::Tcp,
            to,
            from: None,
            deadline_ms: race::millis(DEADLINE),
            await_name: false,
            keep: true,
        };
        let came = race::run(prober, connect, false, || race::denials(kernel))?;
        Ok(match (came.outcome, came.denied.is_empty()) {
            (Some(Outcome::Connected { handle: Some(handle), .. }), _) => {
                let seen = converse(prober, handle, to, target);
                prober.close(handle)?;
                seen?
            }
            (_, false) => DENIED.to_owned(),
            (Some(Outcome::Refused), true) => NOBODY.to_owned(),
            _ => SILENCE.to_owned(),
        })
    }

    fn address(&self, sender: Sender, target: Target) -> SocketAddr {
        // From outside the pod is at its address, from inside at 127.0.0.1.
        let pod = match sender {
            Sender::Host => self.pod.info().addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        match target {
            Target::Published(_) => self.published,
            Target::Application => SocketAddr::new(pod, APPLICATION),
            Target::Metrics => SocketAddr::new(pod, METRICS),
            Target::Front => SocketAddr::new(pod, FRONT),
            Target::Collector => SocketAddr::from((COLLECTOR, PORT)),
            Target::Elsewhere => SocketAddr::from((ELSEWHERE, PORT)),
        }
    }

    fn start(&mut self, sender: Sender) -> Result<(), Error> {
        if self.probers.contains_key(&sender) {
            return Ok(());
        }
        let launch = launch_own(["internal", "prober", "demo"])?;
        let user = |name: &str| self.pod.info().container(name).map(|container| container.uid);
        let launch = match sender {
            Sender::Host => launch.netns(self.pod.node_netns()).privileged().die_with_parent(),
            Sender::Container(name) => {
                // The names of the example and of the pod that runs are the same, or there is nothing to show.
                let name = self.resolved.container(name).map_or("", |_| name);
                self.pod.confine(&Identity::Container(name.to_owned()), launch)?
            }
            Sender::Unknown => self.pod.confine(&Identity::Unknown { uid: unused_user(self.pod) }, launch)?,
            Sender::Disguised => {
                let identity = Identity::ContainerAs { container: "log-shipper".to_owned(), uid: user("app")? };
                self.pod.confine(&identity, launch)?
            }
        };
        self.probers.insert(sender, Prober::start(launch)?);
        Ok(())
    }
}

fn gone(sender: Sender) -> Error {
    Error::Probe(format!("{sender:?}"), "it did not start".to_owned())
}

/// Says what has to be said on a connection, and what came back.
fn converse(prober: &Prober, handle: u64, to: SocketAddr, target: Target) -> Result<String, Error> {
    let credentials = match target {
        Target::Collector | Target::Elsewhere => {
            return Ok(if read(prober, handle)?.is_empty() { SILENCE } else { "reached" }.to_owned());
        }
        Target::Published(Some(credentials)) => format!("Authorization: Basic {}\r\n", STANDARD.encode(credentials)),
        _ => String::new(),
    };
    let path = if target == Target::Metrics { "/metrics" } else { "/" };
    prober.send(handle, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{credentials}Connection: close\r\n\r\n"))?;
    let response = read(prober, handle)?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split_whitespace().nth(1).unwrap_or(SILENCE);
    Ok(if status == "200" && body.trim_end() == HELLO { HELLO } else { status }.to_owned())
}

/// Everything that comes, to the end.
fn read(prober: &Prober, handle: u64) -> Result<String, Error> {
    let mut all = String::new();
    let begun = Instant::now();
    while begun.elapsed() < ANSWER {
        match prober.receive(handle, race::millis(ANSWER))? {
            Outcome::Received { text } if !text.is_empty() => all.push_str(&text),
            _ => break,
        }
    }
    Ok(all)
}
