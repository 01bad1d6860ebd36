//! A program that tries what it is told from its first instruction on, and answers who tries it; and what it wrote down.
//!
//! The same program, `sidewall-prober`, is both sides. Each attempt is a connection or a datagram of its own, from a port of
//! its own, and says who makes it, what for and when; whoever receives it writes that down. So it is known of each packet that
//! passed when it was sent, whatever the sender thinks came of it. All times are of the machine's monotonic clock, which every
//! container shares with the test.

mod report;
mod run;

pub use report::{Got, Report, Tried, begun, prober};
pub use run::main;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, output};
use crate::error::{BedError, Result};
use crate::image::Image;
use crate::parts;

/// The folder inside a cell in which every prober writes down what it saw.
pub const REPORTS: &str = "/run/probe";
/// The image with the program.
pub const IMAGE: &str = "localhost/prober:1";
/// The program in the image.
pub const PROGRAM: &str = "/bin/sidewall-prober";

/// What a prober does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Who it is; without white space or slashes.
    pub name: String,
    /// Ports on which it answers, TCP and UDP, IPv4 and IPv6.
    #[serde(default)]
    pub listen: Vec<u16>,
    /// What it tries, each by a thread of its own.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// How long it tries as often as it can, in milliseconds.
    #[serde(default)]
    pub burst: u64,
    /// What comes then.
    #[serde(default)]
    pub then: Then,
}

/// Something that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What it is called; without white space.
    pub name: String,
    /// With what.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
    /// Whether it is tried until it is reached. Else it is tried during the burst only, unless the prober goes on.
    #[serde(default)]
    pub wanted: bool,
}

/// With what something is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// What comes after the burst, and after everything wanted was reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It answers, and tries nothing.
    #[default]
    Rest,
    /// It ends.
    End,
    /// It goes on to try everything, with this pause in milliseconds.
    GoOn(u64),
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came through, and an answer back.
    Reached,
    /// Somebody refused it: the system's error number, or zero where the answer was another or none.
    Refused(i32),
    /// Nothing came back in time.
    Silence,
}

impl Outcome {
    fn word(self) -> String {
        match self {
            Outcome::Reached => "reached".into(),
            Outcome::Refused(errno) => format!("refused:{errno}"),
            Outcome::Silence => "silence".into(),
        }
    }

    fn read(word: &str) -> Outcome {
        match word {
            "reached" => Outcome::Reached,
            "silence" => Outcome::Silence,
            refused => Outcome::Refused(refused.split_once(':').and_then(|(_, errno)| errno.parse().ok()).unwrap_or(0)),
        }
    }
}

impl Target {
    /// Something that is tried during the burst.
    pub fn new(name: &str, protocol: Protocol, address: impl Into<SocketAddr>) -> Target {
        Target { name: name.into(), protocol, address: address.into(), wanted: false }
    }

    /// Something that is tried until it is reached.
    pub fn wanted(name: &str, protocol: Protocol, address: impl Into<SocketAddr>) -> Target {
        Target { wanted: true, ..Target::new(name, protocol, address) }
    }

    /// Both protocols to one address: `NAME-tcp` and `NAME-udp`.
    pub fn both(name: &str, address: impl Into<SocketAddr>, wanted: bool) -> [Target; 2] {
        let address = address.into();
        [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)].map(|(suffix, protocol)| Target {
            name: format!("{name}-{suffix}"),
            protocol,
            address,
            wanted,
        })
    }
}

impl Plan {
    /// A plan without a burst.
    pub fn new(name: &str, listen: &[u16], targets: Vec<Target>, then: Then) -> Plan {
        Plan { name: name.into(), listen: listen.to_vec(), targets, burst: 0, then }
    }

    /// The plan as the program's only argument.
    pub fn argument(&self) -> String {
        // A plan is text, numbers and addresses, all of which JSON can say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The command of a container that does it.
    pub fn command(&self) -> Vec<String> {
        vec![PROGRAM.into(), self.argument()]
    }
}

/// Now, in nanoseconds of the machine's monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + nanoseconds.unwrap_or_default()
}

/// The image with the program and the libraries that it needs.
///
/// # Errors
/// When the program is not built, or `ldd` is missing.
pub fn image() -> Result<Image> {
    let program = parts::built("sidewall-prober")?;
    let mut image = Image::new(IMAGE).program(PROGRAM, &program);
    for line in output(Command::new(parts::system("ldd")?).arg(&program))?.lines() {
        // `libc.so.6 => /lib/libc.so.6 (0x…)`, and `/lib64/ld-linux-x86-64.so.2 (0x…)`; what is no path is the kernel's.
        let library = line.split_ascii_whitespace().find(|word| word.starts_with('/'));
        if let Some(library) = library {
            image = image.program(library, fs::canonicalize(library).map_err(BedError::file("find", library))?);
        }
    }
    Ok(image)
}

/// Makes the folder of reports in a cell.
///
/// # Errors
/// [`BedError::File`].
pub fn prepare(cell: &Cell) -> Result<()> {
    let folder = cell.path(REPORTS);
    fs::create_dir_all(&folder).map_err(BedError::file("make", &folder))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).map_err(BedError::file("open", &folder))
}

/// Starts a prober as a service of a cell, in its network.
///
/// # Errors
/// When it is not built, or can't be started.
pub fn start(cell: &Cell, plan: &Plan) -> Result<()> {
    prepare(cell)?;
    cell.start(&plan.name, &[parts::built("sidewall-prober")?.display().to_string(), plan.argument()], &[])
}

/// What the probers of a cell have written down so far.
///
/// # Errors
/// [`BedError::File`].
pub fn report(cell: &Cell) -> Result<Report> {
    Report::read(&cell.path(Path::new(REPORTS)))
}
