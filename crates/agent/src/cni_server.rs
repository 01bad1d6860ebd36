//! Answers the CNI plugin.

use crate::found::{Found, Message, Place};
use crate::memory;
use crate::metrics::{Asked, Metrics};
use sidewall_cni::result::Attached;
use sidewall_cni::serve::{Listening, answer};
use sidewall_cni::wire::{Answer, Ask, Attachment, Reason};
use sidewall_netfilter::Features;
use sidewall_netns::NetNs;
use sidewall_policy::index::Named;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The most questions at once. A kubelet starts some tens of pods at once at the most.
const CONNECTIONS: usize = 64;

/// The device that runtimes give the pod network's.
const POD_NETWORK_DEVICE: &str = "eth0";

/// What an answer needs.
#[derive(Clone, Debug)]
pub struct Server {
    /// The brain.
    pub to: mpsc::UnboundedSender<Message>,
    /// What the kernel can do.
    pub features: Features,
    /// How long a question may take from its beginning to its end.
    pub within: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// Answers until it is dropped.
    ///
    /// # Errors
    /// Where the listener can't be used.
    pub async fn run(self, listening: &Listening) -> std::io::Result<()> {
        let listener = listening.listener().try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
            let connection = match listener.accept().await {
                Ok((connection, _)) => connection.into_std()?,
                Err(error) => {
                    tracing::warn!("the CNI plugin can't be listened to: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let server = self.clone();
            tokio::task::spawn_blocking(move || {
                let answered = answer(&connection, Instant::now() + server.within, |ask, descriptor| {
                    server.judge(ask, descriptor)
                });
                if let Err(error) = answered {
                    tracing::warn!("the CNI plugin's question came to nothing: {error}");
                }
                drop(place);
            });
        }
    }

    fn judge(&self, ask: Ask, descriptor: Option<OwnedFd>) -> Answer {
        let what = match &ask {
            Ask::Add(_) => "add",
            Ask::Check(_) => "check",
            Ask::Del(_) => "del",
            Ask::Gc(_) => "gc",
            Ask::Status => "status",
        };
        let answer = match ask {
            Ask::Add(attachment) | Ask::Check(attachment) => self.attach(&attachment, descriptor),
            Ask::Del(detachment) => self.note(Message::Detach(detachment)),
            Ask::Gc(valid) => self.note(Message::Gc(valid)),
            Ask::Status => self.ask(Message::Status),
        };
        let told = match &answer {
            Answer::Guarded => "guarded",
            Answer::Free(_) => "free",
            Answer::Noted => "noted",
            Answer::Ready => "ready",
            Answer::Refused(refusal) => match refusal.reason {
                Reason::NotReady => "not-ready",
                Reason::Failed => "failed",
                Reason::Version | Reason::NotUnderstood => "not-understood",
            },
        };
        self.metrics.cni.get_or_create(&Asked { ask: what, answer: told }).inc();
        answer
    }

    fn attach(&self, attachment: &Attachment, descriptor: Option<OwnedFd>) -> Answer {
        match self.look(attachment, descriptor) {
            Ok(found) => self.ask(|reply| Message::Attach(found, reply)),
            Err(message) => Answer::refused(Reason::Failed, message),
        }
    }

    /// Looks at the pod's namespace before the brain is asked.
    fn look(&self, attachment: &Attachment, descriptor: Option<OwnedFd>) -> Result<Found, String> {
        let descriptor = descriptor.ok_or("the plugin sent no network namespace")?;
        let netns = NetNs::from_fd(descriptor).map_err(|error| error.to_string())?;
        let attached = Attached::read(&attachment.previous).map_err(|error| format!("prevResult: {error}"))?;
        let id = attachment.container.as_str().parse().map_err(|error| format!("CNI_CONTAINERID: {error}"))?;
        let place = Place::open(netns, self.features)
            .map_err(|error| format!("Sidewall's agent can't look at the pod's network namespace: {error}"))?;
        let interface = attachment.interface.as_str();
        let own = interface == POD_NETWORK_DEVICE;
        let device = memory::Device {
            network: (!own).then(|| attachment.network.as_str().to_owned()),
            addresses: attached.addresses_of(interface),
        };
        let uid = attachment.pod.uid.as_ref().and_then(|uid| uid.as_str().to_owned().try_into().ok());
        Ok(Found {
            id,
            pod: Named::new(attachment.pod.namespace.as_str(), attachment.pod.name.as_str()),
            uid,
            handler: None,
            made: BTreeMap::from([(interface.to_owned(), device)]),
            reported: Vec::new(),
            place,
        })
    }

    fn note(&self, message: Message) -> Answer {
        // Without a brain the agent is ending, and DEL must not fail for that.
        let _ = self.to.send(message);
        Answer::Noted
    }

    /// Asks the brain, which answers before the plugin's own deadline.
    fn ask(&self, message: impl FnOnce(oneshot::Sender<Answer>) -> Message) -> Answer {
        let (reply, answer) = oneshot::channel();
        let sent = self.to.send(message(reply)).is_ok();
        let answer = if sent { answer.blocking_recv().ok() } else { None };
        answer.unwrap_or_else(|| Answer::refused(Reason::NotReady, "Sidewall's agent is ending".to_owned()))
    }
}
