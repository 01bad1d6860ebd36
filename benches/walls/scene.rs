//! A place where traffic can be made: a pod, its network, rules, and a process with both ends of every flow.

use crate::Result;
use crate::input::{self, CLOSED, PORTS, Version};
use crate::pod::{Groups, NODE4, NODE6, OTHER_USER, POD4, POD6, PodNet, USER, Way};
use crate::walls::{By, Rules, Walls};
use crate::worker::{Timing, Work, Worker};
use sidewall_benches::report::Sample;
use sidewall_netns::Launch;
use std::net::SocketAddr;

/// How often the first flow is tried.
const ATTEMPTS: usize = 10;

/// Where traffic is made, and of which sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its way.
    pub way: Way,
    /// IPv4 or IPv6.
    pub version: Version,
    /// What is done.
    pub work: Work,
}

/// A place where traffic can be made.
pub struct Scene {
    worker: Worker,
    to: Vec<SocketAddr>,
    work: Work,
    count: u32,
    _pod: PodNet,
}

impl Scene {
    /// Makes a pod and its network, puts rules up, and makes sure that they stand: the last peer is reached, a stranger
    /// is not. Then finds how much work takes so many seconds of processor time.
    ///
    /// # Errors
    /// When something of this fails, or the rules let through what they should not.
    pub fn new(walls: Walls, rules: &Rules, groups: &Groups, place: Place, seconds: f64) -> Result<Self> {
        let Place { way, version, work } = place;
        let transport = work.transport();
        let last = input::peer(version, walls.last());
        let net = PodNet::new(if way == Way::In { Some(last) } else { None })?;
        rules.put_up(&net.pod)?;
        let client = |launch: Launch| launch.cgroup(&groups.client).identity(USER, USER);
        let (address, worker) = match way {
            Way::Loopback => (version.loopback(), Worker::start(|launch| client(launch).netns(&net.pod))?),
            Way::Out => (last, Worker::start(|launch| client(launch).netns(&net.pod))?),
            // An accepted socket's user is its acceptor's.
            Way::In => {
                let pod = if version == Version::V4 { POD4 } else { POD6 };
                (pod, Worker::start(|launch| launch.netns(&net.network).identity(USER, USER))?)
            }
        };
        let to: Vec<SocketAddr> = PORTS.iter().map(|port| SocketAddr::new(address, *port)).collect();
        let outside = Worker::start(|launch| launch.netns(&net.network))?;
        let mut servers = match (way, walls.by()) {
            (Way::Out, _) => outside.listen(transport, &to)?,
            // Under users, an accepted socket is its acceptor's: only one and the same container can be both ends here.
            (_, By::Uid) => Worker::start(|launch| client(launch).netns(&net.pod))?.listen(transport, &to)?,
            (_, By::Cgroup) => {
                let server =
                    |launch: Launch| launch.cgroup(&groups.server).identity(OTHER_USER, OTHER_USER).netns(&net.pod);
                Worker::start(server)?.listen(transport, &to)?
            }
        };
        let stranger = SocketAddr::new(input::stranger(version), CLOSED);
        if way != Way::In {
            servers.extend(outside.listen(transport, &[stranger])?);
        }
        worker.give(&servers)?;
        let mut scene = Self { worker, to, work, count: 0, _pod: net };
        scene.check(walls, place, stranger)?;
        scene.calibrate(seconds)?;
        Ok(scene)
    }

    fn check(&self, walls: Walls, Place { way, version, work }: Place, stranger: SocketAddr) -> Result<()> {
        let transport = work.transport();
        // A new veth pair loses what is sent before the kernel has noticed that it is up.
        let mut reached = false;
        for _ in 0..ATTEMPTS {
            reached = reached || self.worker.reaches(transport, None, self.to[0])?;
        }
        if !reached {
            return Err(format!("{walls:?} let nothing through over {way:?}").into());
        }
        // From the network the node is the stranger: it is no peer of any policy. Without rules he must get through, else
        // this would show nothing.
        let (from, to) = match way {
            Way::In => (Some(if version == Version::V4 { NODE4 } else { NODE6 }), self.to[0]),
            Way::Out | Way::Loopback => (None, stranger),
        };
        let expected = walls == Walls::None;
        if self.worker.reaches(transport, from, to)? != expected {
            let what = if expected { "stopped" } else { "let through" };
            return Err(format!("{walls:?} {what} a stranger: from {from:?} to {to}, {transport:?}").into());
        }
        Ok(())
    }

    fn calibrate(&mut self, seconds: f64) -> Result<()> {
        let (first, most) = self.work.counts();
        // The first fills caches.
        self.worker.measure(self.work, &self.to, first)?;
        let Sample { count, seconds: took } = self.worker.measure(self.work, &self.to, first)?.sample;
        // Between the first count and the most: a number below 2^32.
        self.count = ((seconds * count / took) as u32).clamp(first.div_ceil(2), most).next_multiple_of(4);
        Ok(())
    }

    /// Does the work once more.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn measure(&self) -> Result<Timing> {
        self.worker.measure(self.work, &self.to, self.count)
    }
}
