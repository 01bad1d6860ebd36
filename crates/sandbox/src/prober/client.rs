//! The prober's client.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sidewall_netns::{Launch, Process};

use super::wire::{Answer, Connect, Outcome, Protocol, Question, Request};
use crate::error::{Error, Result};

/// A running prober. Dropping it kills its process.
pub struct Prober {
    process: Process,
    input: Mutex<Input>,
    waiting: Waiting,
}

struct Input {
    pipe: Option<ChildStdin>,
    next: u64,
}

/// Who waits for which answer; `None` once the process has gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Outcome>>>>>;

/// An answer that is still to come.
pub struct Pending(Receiver<Outcome>);

impl Pending {
    /// Waits for it. Attempts have deadlines, so it comes as long as the prober lives.
    ///
    /// # Errors
    /// [`Error::Prober`] when the process has ended.
    pub fn wait(self) -> Result<Outcome> {
        self.0.recv().map_err(|_| Error::Prober("its process has ended; see its standard error".into()))
    }
}

impl Prober {
    /// Starts the process that `launch` describes, which must call [`super::serve_stdio`]. Make `launch` with
    /// [`LivePod::launch`](crate::LivePod::launch) or [`LivePod::confine`](crate::LivePod::confine) for the identity to
    /// probe from.
    ///
    /// # Errors
    /// [`Error::Kernel`] when it can't be started.
    pub fn start(launch: Launch) -> Result<Prober> {
        // Its standard error is ours: it says there why it ended, if it does.
        let launch = launch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = launch.spawn()?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        if let Some(output) = process.take_stdout() {
            let waiting = waiting.clone();
            let reader = thread::Builder::new().name("prober".into()).spawn(move || {
                for line in BufReader::new(output).lines() {
                    let Some(answer) = line.ok().and_then(|l| serde_json::from_str::<Answer>(&l).ok()) else { break };
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(waiting) = waiting.as_mut() else { break };
                    // Awaiting a descriptor is answered twice.
                    let sender = match answer.outcome {
                        Outcome::Awaiting => waiting.get(&answer.id).cloned(),
                        _ => waiting.remove(&answer.id),
                    };
                    // Who no longer waits does not want it.
                    let _ = sender.map(|s| s.send(answer.outcome));
                }
                // Dropping the senders tells everybody who still waits.
                waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            });
            if let Err(error) = reader {
                let _ = process.kill();
                return Err(Error::Thread(error));
            }
        }
        let pipe = process.take_stdin();
        Ok(Prober { process, input: Mutex::new(Input { pipe, next: 0 }), waiting })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// [`Error::Prober`] when the process has ended.
    pub fn ask(&self, request: Request) -> Result<Pending> {
        let gone = || Error::Prober("its process has ended; see its standard error".into());
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.next += 1;
        let id = input.next;
        let (sender, receiver) = channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(gone()),
        };
        let mut line = serde_json::to_vec(&Question { id, request }).map_err(|e| Error::Prober(e.to_string()))?;
        line.push(b'\n');
        let pipe = input.pipe.as_mut().ok_or_else(gone)?;
        pipe.write_all(&line).map_err(|e| Error::Prober(e.to_string()))?;
        Ok(Pending(receiver))
    }

    /// Tries to reach somebody.
    ///
    /// # Errors
    /// [`Error::Prober`] when the process has ended. That nobody was reached is an outcome, not an error.
    pub fn connect(&self, connect: Connect) -> Result<Outcome> {
        self.ask(Request::Connect(connect))?.wait()
    }

    /// Makes many attempts at the same time; the outcomes are in their order.
    ///
    /// # Errors
    /// As [`Prober::connect`].
    pub fn connect_all(&self, attempts: impl IntoIterator<Item = Connect>) -> Result<Vec<Outcome>> {
        let pending: Result<Vec<Pending>> = attempts.into_iter().map(|c| self.ask(Request::Connect(c))).collect();
        pending?.into_iter().map(Pending::wait).collect()
    }

    /// Listens; the outcome is `Listening`, or says why not.
    ///
    /// # Errors
    /// As [`Prober::connect`].
    pub fn listen(&self, protocol: Protocol, at: SocketAddr) -> Result<Outcome> {
        self.ask(Request::Listen { protocol, at })?.wait()
    }

    /// Sends on a kept connection.
    ///
    /// # Errors
    /// As [`Prober::connect`].
    pub fn send(&self, handle: u64, text: &str) -> Result<Outcome> {
        self.ask(Request::Send { handle, text: text.to_owned() })?.wait()
    }

    /// Receives on a kept connection.
    ///
    /// # Errors
    /// As [`Prober::connect`].
    pub fn receive(&self, handle: u64, deadline_ms: u64) -> Result<Outcome> {
        self.ask(Request::Receive { handle, deadline_ms })?.wait()
    }

    /// Closes a connection or listener.
    ///
    /// # Errors
    /// As [`Prober::connect`].
    pub fn close(&self, handle: u64) -> Result<Outcome> {
        self.ask(Request::Close { handle })?.wait()
    }

    /// Hands a copy of a descriptor to another prober of the same network namespace, and returns that one's handle.
    ///
    /// # Errors
    /// As [`Prober::connect`], and when either end can't do its part.
    pub fn pass_fd(&self, handle: u64, to: &Prober) -> Result<u64> {
        let name = format!("sidewall-prober-{}-{}-{handle}", self.pid(), to.pid());
        let taking = to.ask(Request::TakeFd { name: name.clone(), deadline_ms: 5000 })?;
        let refused = |outcome: Outcome| Error::Prober(format!("a descriptor was not passed: {outcome:?}"));
        match taking.0.recv() {
            Ok(Outcome::Awaiting) => {}
            Ok(other) => return Err(refused(other)),
            Err(_) => return Err(Error::Prober("the receiving process has ended".into())),
        }
        match self.ask(Request::PassFd { handle, name })?.wait()? {
            Outcome::Passed => {}
            other => return Err(refused(other)),
        }
        match taking.wait()? {
            Outcome::Taken { handle } => Ok(handle),
            other => Err(refused(other)),
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if let Ok(input) = self.input.get_mut() {
            input.pipe = None;
        }
        // It would end by itself now; but it may be stopped, or busy.
        let _ = self.process.kill();
    }
}
