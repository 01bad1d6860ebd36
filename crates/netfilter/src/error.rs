//! Why the kernel could not be asked, or refused; each with what to do.

use crate::compose::EncodeError;
use crate::place::Place;
use sidewall_policy::ruleset::Generation;
use std::io;

/// A netlink socket that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] sidewall_netns::Error),
    /// The process may not.
    #[error("netfilter refuses to talk to this process: run it as root, or give it CAP_NET_ADMIN")]
    Denied(#[source] io::Error),
    /// There is no netfilter in this kernel.
    #[error(
        "this kernel has no netfilter over netlink: load the module nfnetlink, or build the kernel with CONFIG_NETFILTER_NETLINK"
    )]
    NoNetfilter(#[source] io::Error),
    /// What is to be sent at once is more than the socket may send.
    #[error(
        "{bytes} bytes cannot be sent to netfilter at once: run this with CAP_NET_ADMIN in the first user namespace, or raise the sysctl net.core.wmem_max"
    )]
    TooLarge {
        /// How much it is.
        bytes: usize,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("netfilter's netlink socket: {doing}: {source}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a question.
    #[error("netfilter refused to {doing}: {source}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// What the kernel holds changed under every attempt to read it.
    #[error(
        "netfilter's tables changed {attempts} times while they were read: another program is rewriting them without a pause; try again later"
    )]
    Restless {
        /// How often it was tried.
        attempts: u32,
    },
    /// The log group has a reader already.
    #[error("another program reads the log group {group} of this network namespace: end it first")]
    GroupTaken {
        /// The group.
        group: u16,
    },
    /// No answer came.
    #[error("netfilter did not answer a request to {doing}")]
    Silent {
        /// What was being done.
        doing: &'static str,
    },
}

impl NetlinkError {
    /// Sorts a failed system call by what can be done about it.
    pub(crate) fn socket(doing: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Denied(source),
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => Self::NoNetfilter(source),
            _ => Self::Socket { doing, source },
        }
    }

    pub(crate) fn refused(doing: &'static str, code: i32) -> Self {
        let source = io::Error::from_raw_os_error(code);
        match code {
            libc::EPERM => Self::Denied(source),
            _ => Self::Refused { doing, source },
        }
    }

    /// Whether the socket had no room for something that the kernel had to say.
    pub(crate) fn is_overrun(&self) -> bool {
        self.code() == Some(libc::ENOBUFS)
    }

    /// The kernel's error number, where it gave one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Denied(source)
            | Self::NoNetfilter(source)
            | Self::TooLarge { source, .. }
            | Self::Socket { source, .. }
            | Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A ruleset that was not loaded. What was in force before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The ruleset is none that netfilter can hold.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The socket failed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The process may not, or another program owns the table.
    #[error(
        "{place}: not permitted: run this as root with CAP_NET_ADMIN; if it has that, another program that still runs owns the table: end it first"
    )]
    Denied {
        /// Where.
        place: Place,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks something that the ruleset uses.
    #[error("{place}: this kernel has no support for it ({source}{}): load the module or build the kernel with it; `Features::probe` tells what is there", said(.detail))]
    Unsupported {
        /// Where.
        place: Place,
        /// The kernel's own words, where it has some.
        detail: Option<String>,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A chain's device is not there.
    #[error("{place}: its device is not in this network namespace: was it renamed or taken away?")]
    NoDevice {
        /// The chain.
        place: Place,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a part of the ruleset.
    #[error("{place}: the kernel refused it: {source}{}", said(.detail))]
    Refused {
        /// Where.
        place: Place,
        /// The kernel's own words, where it has some.
        detail: Option<String>,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the batch as a whole.
    #[error("the kernel refused the tables as a whole: {source}{}", said(.detail))]
    RefusedWhole {
        /// The kernel's own words, where it has some.
        detail: Option<String>,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A change takes something away, or may, without a new generation: live flows that the old rules let pass would go on.
    #[error(
        "{place}: this takes away what live flows may rest on, so the ruleset must have another generation than {generation}; give it the next one"
    )]
    SameGeneration {
        /// Something that differs; the table where more than parts do.
        place: Place,
        /// The generation of both rulesets.
        generation: Generation,
    },
    /// Something else kept the kernel busy through every attempt.
    #[error(
        "the kernel could not take the tables in {attempts} attempts: {source}: it lacks memory or is busy; try again later"
    )]
    Busy {
        /// How often it was tried.
        attempts: u32,
        /// The kernel's last error.
        #[source]
        source: io::Error,
    },
}

fn said(detail: &Option<String>) -> String {
    detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}
