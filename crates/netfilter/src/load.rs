//! Sending a batch and understanding what the kernel says about it.

use crate::abi;
use crate::encode::Batch;
use crate::error::{LoadError, NetlinkError};
use crate::netlink::{Answer, Netlink, Room, answer};
use crate::place::{Part, Place};
use crate::wire::messages;
use sidewall_policy::ruleset::Family;
use std::io;
use std::thread;
use std::time::Duration;

/// How often a batch is sent before a busy kernel is believed.
const ATTEMPTS: u32 = 6;
/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// `ERESTART`, which the kernel does not mean for us but lets through.
const ERESTART: i32 = 85;

/// What became of a batch that the kernel did not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// It is in force.
    Done,
    /// It was guarded, and somebody else has changed the tables: nothing was done.
    Moved,
}

/// Sends a batch; the kernel takes all of it or nothing.
pub(crate) fn commit(netlink: &mut Netlink, batch: &Batch) -> Result<Outcome, LoadError> {
    if batch.is_empty() {
        return Ok(Outcome::Done);
    }
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let Err(answer) = send_once(netlink, batch)? else {
            return Ok(Outcome::Done);
        };
        if answer.code == ERESTART && batch.is_guarded() {
            return Ok(Outcome::Moved);
        }
        if !is_passing(answer.code) {
            return Err(refusal(batch, answer));
        }
        if attempt == ATTEMPTS {
            return Err(LoadError::Busy { attempts: attempt, source: io::Error::from_raw_os_error(answer.code) });
        }
        thread::sleep(pause);
        pause *= 2;
        attempt += 1;
    }
}

fn send_once(netlink: &mut Netlink, batch: &Batch) -> Result<Result<(), Answer>, LoadError> {
    netlink.drain();
    match netlink.send(batch.bytes()) {
        Ok(()) => {}
        // The socket's own memory ran out before the kernel looked at anything.
        Err(error) => {
            return match error.code() {
                Some(code) if is_passing(code) => Ok(Err(Answer { sequence: 0, code, detail: None })),
                _ => Err(error.into()),
            };
        }
    }
    let mut committed = false;
    let mut failed: Option<Answer> = None;
    // Everything that the kernel has to say is queued by now. The first error is the cause; later ones are often only
    // its consequences.
    let mut room = Room::new();
    loop {
        let datagram = match netlink.receive(&mut room) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => break,
            // There was no room for every error; the first is there.
            Err(error) if error.is_overrun() => continue,
            Err(error) => return Err(error.into()),
        };
        for message in messages(datagram) {
            if message.kind != abi::NLMSG_ERROR || !batch.has(message.sequence) {
                continue;
            }
            match answer(&message) {
                Some(answer) if answer.code != 0 => {
                    failed.get_or_insert(answer);
                }
                Some(answer) if answer.sequence == batch.last() => committed = true,
                _ => {}
            }
        }
    }
    match failed {
        Some(answer) => Ok(Err(answer)),
        None if committed => Ok(Ok(())),
        None => Err(NetlinkError::Silent { doing: "replace the tables" }.into()),
    }
}

/// Whether the same batch may pass a moment later.
fn is_passing(code: i32) -> bool {
    // Not EBUSY: what is referred to stays so, whoever waits.
    matches!(code, libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM | ERESTART)
}

fn refusal(batch: &Batch, answer: Answer) -> LoadError {
    let Answer { sequence, code, detail } = answer;
    let source = io::Error::from_raw_os_error(code);
    let Some(place) = batch.place(sequence).cloned() else {
        return match code {
            libc::EPERM => NetlinkError::Denied(source).into(),
            _ => LoadError::RefusedWhole { detail, source },
        };
    };
    match code {
        libc::EPERM => LoadError::Denied { place, source },
        libc::ENOENT if place.family == Family::Netdev && matches!(place.part, Part::Chain(_)) => {
            LoadError::NoDevice { place, source }
        }
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => {
            LoadError::Unsupported { place, detail, source }
        }
        // An expression or chain type that the kernel does not know has no other number.
        libc::ENOENT if is_rule_or_chain(&place) => LoadError::Unsupported { place, detail, source },
        _ => LoadError::Refused { place, detail, source },
    }
}

fn is_rule_or_chain(place: &Place) -> bool {
    matches!(place.part, Part::Rule { .. } | Part::Chain(_))
}
