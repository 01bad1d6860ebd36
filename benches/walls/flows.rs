//! What the walls cost a flow: rows with a target, and those that no curve shows.

use crate::Result;
use crate::input::{Kind, Version};
use crate::iptables::Flavour;
use crate::pod::Way;
use crate::rounds::{Rounds, Together};
use crate::scene::Place;
use crate::walls::{By, Load, Style, Walls};
use crate::worker::Work;
use sidewall_benches::Options;
use sidewall_benches::report::Row;

/// Ours at 20,000 peers may cost so much of ours at 10.
const GROWTH: f64 = 1.05;
/// Ours at 20,000 peers may cost so much of no rules.
const OVERHEAD: f64 = 1.25;
/// So much more a stream through ours may cost its busier end.
const BULK: f64 = 1.03;

/// The ways that flows take, by their names in rows.
pub const WAYS: [(Way, &str); 3] = [(Way::Loopback, "loopback"), (Way::Out, "veth, out"), (Way::In, "veth, in")];

/// A row to be measured.
struct Plan {
    name: String,
    target: Option<f64>,
    place: Place,
    ours: Walls,
    peer: Walls,
}

/// Measures every row that is wanted.
pub fn run(options: &Options, together: &mut Together, tell: &mut dyn FnMut(Row)) -> Result<()> {
    for plan in plans(options.quick) {
        if !options.wants(&plan.name) {
            continue;
        }
        if let Some(program) = [plan.ours, plan.peer].into_iter().find_map(Walls::missing) {
            eprintln!("not measured: {} ({program} is not installed)", plan.name);
            continue;
        }
        let rounds = Rounds::measure(options, plan.place, &[plan.ours, plan.peer], together)?;
        tell(Row::rates(plan.name, plan.place.work.unit(), plan.target, &rounds.pairs(0, 1)));
    }
    Ok(())
}

/// Ours, by cgroup, with ContainerNetworkPolicies.
pub const fn ours(load: Load) -> Walls {
    Walls::Ours { by: By::Cgroup, kind: Kind::Container, load }
}

fn plans(quick: bool) -> Vec<Plan> {
    let (many, text) = if quick { (100, "100") } else { (20_000, "20,000") };
    let mut plans = Vec::new();
    for (way, place) in WAYS {
        let mut add = |work: Work, name: &str, target, version, ours, peer| {
            let what = match work {
                Work::Connects => "connect",
                Work::RoundTrips => "round trip",
                Work::Packets => "packets",
                Work::Bulk => "bulk",
                Work::Stream => "throughput",
            };
            let name = format!("{what}, {place}: {name}");
            plans.push(Plan { name, target, place: Place { way, version, work }, ours, peer });
        };
        let v4 = Version::V4;
        let pods = |count| ours(Load::Pods(count));
        // From the network the issue sets no target; the same ones are asked of it all the same.
        let connects = Work::Connects;
        add(connects, &format!("{text} peers / 10 peers"), Some(GROWTH), v4, pods(many), pods(10));
        add(connects, &format!("{text} peers / no rules"), Some(OVERHEAD), v4, pods(many), Walls::None);
        add(connects, &format!("{text} peers, IPv6 / no rules"), None, Version::V6, pods(many), Walls::None);
        add(connects, &format!("{text} CIDR ranges / no rules"), None, v4, ours(Load::Blocks(many)), Walls::None);
        let users = Walls::Ours { by: By::Uid, kind: Kind::Container, load: Load::Pods(many) };
        add(connects, &format!("{text} peers, by UID / no rules"), None, v4, users, Walls::None);
        let policies = |count| ours(Load::Policies(count));
        let (last, last_text) = if quick { (100, "100") } else { (10_000, "10,000") };
        add(connects, &format!("{last_text} policies / 1 policy"), None, v4, policies(last), policies(1));
        add(Work::Stream, "10 policies / no rules", Some(BULK), v4, policies(10), Walls::None);
        add(Work::Bulk, "10 policies / no rules", None, v4, policies(10), Walls::None);
        let iptables = |load| Walls::Iptables { flavour: Flavour::Nft, style: Style::Owner, load };
        add(Work::Stream, "(iptables-nft, 10 peers / no rules)", None, v4, iptables(Load::Pods(10)), Walls::None);
        add(Work::Bulk, "(iptables-nft, 10 peers / no rules)", None, v4, iptables(Load::Pods(10)), Walls::None);
        add(Work::RoundTrips, "10 peers / no rules", None, v4, pods(10), Walls::None);
        add(Work::RoundTrips, "10 peers / iptables-nft", None, v4, pods(10), iptables(Load::Pods(10)));
    }
    plans
}
