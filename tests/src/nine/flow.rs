//! One flow of a volley: what it is to be, beginning it, and hearing what became of it.

use crate::lab::{Outcome, is_refusal};
use crate::network_policy::{End, Probe};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};
use sidewall_flow::Protocol;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

// ICMP, RFC 792, and ICMPv6, RFC 4443.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST6: u8 = 128;
const ECHO_REPLY6: u8 = 129;

/// A flow to be tried.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Who opens it.
    pub from: End,
    /// Who is to answer it.
    pub to: End,
    /// What it is.
    pub probe: Probe,
    /// It is an ICMP echo request in the probe's family, and nothing else of the probe counts.
    pub echo: bool,
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to, probe, echo } = self;
        write!(f, "{} to {} on ", from.name, to.name)?;
        if *echo { write!(f, "ICMP over {}", if probe.v6 { "IPv6" } else { "IPv4" }) } else { probe.fmt(f) }
    }
}

/// A flow on its way.
pub struct Tried<'a> {
    /// What it is to be.
    pub plan: &'a Planned,
    /// The client's socket.
    pub socket: OwnedFd,
    /// What became of it, once that is known.
    pub outcome: Option<Outcome>,
}

/// Of which pod, protocol and family a socket is. Everybody but the nine is in one place; no protocol is ICMP.
pub type Kind<'a> = (Option<&'a str>, Option<Protocol>, bool);

/// Of which kind a flow's socket must be.
pub fn kind_of(plan: &Planned) -> Kind<'_> {
    let pod = plan.from.is_walled().then_some(plan.from.name.as_str());
    (pod, (!plan.echo).then_some(plan.probe.protocol), plan.probe.v6)
}

/// Begins a flow; says what became of it where that is known at once.
///
/// # Errors
/// What is neither a way for a flow to go on nor a refusal.
pub fn open(plan: &Planned, socket: &OwnedFd) -> io::Result<Option<Outcome>> {
    let address = |end: &End| end.address(plan.probe.v6).ok_or_else(|| io::Error::other("it has no such address"));
    let stream = !plan.echo && plan.probe.protocol != Protocol::Udp;
    let port = if plan.echo { 0 } else { plan.probe.port };
    let (from, to) = (address(&plan.from)?, SocketAddr::new(address(&plan.to)?, port));
    if stream {
        // Such an end leaves nothing behind when it is closed.
        sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
    }
    if !plan.from.is_walled() {
        rustix::net::bind(socket, &SocketAddr::new(from, 0))?;
    }
    let mut begun = match rustix::net::connect(socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error),
    };
    if !stream && begun.is_ok() {
        // The kernel fills in the identifier and the checksum of an echo request.
        let request = [if plan.probe.v6 { ECHO_REQUEST6 } else { ECHO_REQUEST }, 0, 0, 0, 0, 0, 0, 1];
        begun = rustix::net::send(socket, &request, SendFlags::NOSIGNAL).map(drop);
    }
    match begun {
        Ok(()) => Ok(None),
        Err(error) if is_refusal(&error.into()) => Ok(Some(Outcome::Denied)),
        Err(error) => Err(error.into()),
    }
}

/// What has become of a flow by now.
///
/// # Errors
/// Where somebody else answered, or with something else.
pub fn heard(flow: &Tried<'_>, greeters: &BTreeMap<IpAddr, u8>) -> Result<Option<Outcome>, String> {
    let mut said = [0u8; 16];
    let plan = flow.plan;
    match rustix::net::recv(&flow.socket, &mut said[..], RecvFlags::DONTWAIT) {
        Ok((length, _)) if plan.echo => {
            let reply = if plan.probe.v6 { ECHO_REPLY6 } else { ECHO_REPLY };
            if length > 0 && said[0] == reply {
                Ok(Some(Outcome::Passed))
            } else {
                Err(format!("{plan}: no reply came back"))
            }
        }
        Ok((length, _)) => {
            let expected = plan.to.address(plan.probe.v6).and_then(|address| greeters.get(&address));
            if length == 1 && expected == Some(&said[0]) {
                Ok(Some(Outcome::Passed))
            } else {
                Err(format!("{plan}: greeted with {:?} rather than {expected:?}", &said[..length]))
            }
        }
        Err(Errno::AGAIN | Errno::NOTCONN) => Ok(None),
        Err(error) if is_refusal(&error.into()) => Ok(Some(Outcome::Denied)),
        Err(error) => Err(format!("{plan}: {error}")),
    }
}
