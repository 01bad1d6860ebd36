//! What the walls cost a connection.

use crate::Result;
use crate::input::{Peers, Version};
use crate::iptables::Flavour;
use crate::pod::{By, Scene, Walls, Way};
use crate::worker::Timing;
use sidewall_benches::Options;
use sidewall_benches::report::{Row, Sample};

const CONNECTS: &str = "connects per CPU second";
const ROUND_TRIPS: &str = "round trips per CPU second";
/// How many connections a measurement makes.
const COUNT: u32 = 1500;
/// How many round trips a measurement makes.
const TRIPS: u32 = 6000;
/// How often both sides of a row are made anew: where the kernel happens to put things must not decide.
const SCENES: u32 = 3;
/// Ours at 20,000 peers may cost so much of ours at 10.
const GROWTH: f64 = 1.05;
/// Ours at 20,000 peers may cost so much of no rules.
const OVERHEAD: f64 = 1.25;

/// What is done over and over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Connects,
    RoundTrips,
}

/// A row to be measured.
struct Plan {
    name: String,
    target: Option<f64>,
    work: Work,
    way: Way,
    version: Version,
    ours: Walls,
    peer: Walls,
}

/// Measures every row that is wanted.
pub fn run(options: &Options, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let mut together = Together::default();
    for plan in plans() {
        if !options.wants(&plan.name) {
            continue;
        }
        let missing = [plan.ours, plan.peer].into_iter().find_map(|walls| match walls {
            Walls::Iptables { flavour, .. } if !flavour.exists() => Some(flavour.name()),
            _ => None,
        });
        if let Some(program) = missing {
            eprintln!("not measured: {} ({program} is not installed)", plan.name);
            continue;
        }
        tell(measure(&plan, options.pairs, &mut together)?);
    }
    together.tell();
    Ok(())
}

fn plans() -> Vec<Plan> {
    let ours = |count| Walls::Ours { by: By::Cgroup, peers: Peers::Pods, count };
    let mut plans = Vec::new();
    for (way, place) in [(Way::Loopback, "loopback"), (Way::Out, "veth, out"), (Way::In, "veth, in")] {
        let mut add = |name: &str, target, version, ours, peer| {
            let name = format!("connect, {place}: {name}");
            plans.push(Plan { name, target, work: Work::Connects, way, version, ours, peer });
        };
        let v4 = Version::V4;
        // From the network the issue sets no target; the same ones are asked of it all the same.
        add("20,000 peers / 10 peers", Some(GROWTH), v4, ours(20_000), ours(10));
        add("20,000 peers / no rules", Some(OVERHEAD), v4, ours(20_000), Walls::None);
        add("1,000 peers / no rules", None, v4, ours(1_000), Walls::None);
        add("10 peers / no rules", None, v4, ours(10), Walls::None);
        add("20,000 peers, IPv6 / no rules", None, Version::V6, ours(20_000), Walls::None);
        let blocks = Walls::Ours { by: By::Cgroup, peers: Peers::Blocks, count: 20_000 };
        add("20,000 CIDR ranges in 79 rules / no rules", None, v4, blocks, Walls::None);
        let users = Walls::Ours { by: By::Uid, peers: Peers::Pods, count: 20_000 };
        add("20,000 peers, by UID / no rules", None, v4, users, Walls::None);
        for flavour in Flavour::ALL {
            for (count, text) in [(10, "10"), (1_000, "1,000"), (20_000, "20,000")] {
                let theirs = Walls::Iptables { flavour, count };
                add(&format!("{text} peers / {}", flavour.name()), None, v4, ours(count), theirs);
            }
            for (count, text) in [(10, "10"), (1_000, "1,000"), (20_000, "20,000")] {
                let theirs = Walls::Iptables { flavour, count };
                add(&format!("({}, {text} peers / no rules)", flavour.name()), None, v4, theirs, Walls::None);
            }
        }
    }
    for (way, place) in [(Way::Loopback, "loopback"), (Way::Out, "veth, out")] {
        let iptables = Walls::Iptables { flavour: Flavour::Nft, count: 10 };
        for (name, peer) in [("no rules", Walls::None), ("iptables-nft", iptables)] {
            plans.push(Plan {
                name: format!("round trip, {place}: 10 peers / {name}"),
                target: None,
                work: Work::RoundTrips,
                way,
                version: Version::V4,
                ours: ours(10),
                peer,
            });
        }
    }
    plans
}

/// Real time and processor time of everything measured: where they differ, work was done elsewhere or others ran.
#[derive(Default)]
struct Together {
    cpu: f64,
    wall: f64,
}

impl Together {
    fn tell(&self) {
        if self.wall > 0.0 {
            let part = self.cpu / self.wall * 100.0;
            println!("The measured processes had their processor for {part:.1} % of the time that they took.");
        }
    }
}

fn measure(plan: &Plan, pairs: u32, together: &mut Together) -> Result<Row> {
    let mut samples: Vec<(Sample, Sample)> = Vec::new();
    for scene in 0..SCENES {
        let ours = Scene::new(plan.ours, plan.way, plan.version)?;
        let peer = Scene::new(plan.peer, plan.way, plan.version)?;
        let mut once = |scene: &Scene| -> Result<Sample> {
            let Timing { sample, wall } = match plan.work {
                Work::Connects => scene.worker().connects(scene.to(), COUNT)?,
                Work::RoundTrips => scene.worker().round_trips(scene.to()[0], TRIPS)?,
            };
            together.cpu += sample.seconds;
            together.wall += wall;
            Ok(sample)
        };
        // The first of each fills caches.
        once(&ours)?;
        once(&peer)?;
        for pair in (scene..pairs).step_by(SCENES as usize) {
            // Who is first takes turns.
            samples.push(if pair % 2 == 0 {
                let ours = once(&ours)?;
                (ours, once(&peer)?)
            } else {
                let peer = once(&peer)?;
                (once(&ours)?, peer)
            });
        }
    }
    let unit = if plan.work == Work::Connects { CONNECTS } else { ROUND_TRIPS };
    Ok(Row::rates(plan.name.clone(), unit, plan.target, &samples))
}
