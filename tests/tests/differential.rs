//! The evaluator is the kernel: random pods and policies, the compiled rules in a real namespace, flows with real
//! sockets, and every verdict compared with the evaluator's.
//!
//! The pods have further networks, each a namespace of its own, and every kind of policy: on containers, at the pod's edge,
//! on those networks. Front proxies capture traffic that aims at the application; it is the redirection in the pod's own rules
//! that leads it to them.
//!
//! Rules come by a load or by a change of those of the pod before, and follow small changes of the world while flows are
//! tried: pods come, go and move, policies lose rules, containers start again in other cgroups.
//!
//! `SIDEWALL_SEED` repeats a run, `SIDEWALL_FLOWS` sets the number of flows, `SIDEWALL_LONG=1` makes them 1,000,000. What
//! disagrees is made as small as it can be, by real attempts, before it is printed.

#[path = "differential/changes.rs"]
mod changes;

use changes::Changed;
use sidewall_flow::{Action, Protocol};
use sidewall_netfilter::{Because, Standing, Way as Entry};
use sidewall_policy::evaluate::{End, Flow};
use sidewall_policy::model::Identities;
use sidewall_policy::testing::{Case, Draw, Ground, Link};
use sidewall_policy::{Compiled, compile, evaluate, resolve};
use sidewall_tests::lab::{self, By, Lab, Outcome, Trial};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// How many flows all identities try together, where nothing else is said.
const FLOWS: usize = 20_000;
/// The same, for a long run.
const LONG: usize = 1_000_000;
/// The seed, where nothing else is said.
const SEED: u64 = 20_261_122;
/// How many flows are tried between two changes of a drawn pod's world, and how many rounds of them each pod has.
const SHAPE: (usize, usize) = (12, 2);
/// The same in a run of more than [`FLOWS`] flows.
const LONG_SHAPE: (usize, usize) = (16, 6);
/// How many attempts making a case smaller may take.
const SHRINKS: usize = 400;

#[test]
fn by_cgroup() {
    agree(By::Cgroup);
}

#[test]
fn by_uid() {
    agree(By::Uid);
}

#[test]
fn by_gid() {
    agree(By::Gid);
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

fn agree(by: By) {
    let seed = number("SIDEWALL_SEED").unwrap_or(SEED);
    let all = match number("SIDEWALL_FLOWS") {
        Some(flows) => flows as usize,
        None if std::env::var_os("SIDEWALL_LONG").is_some_and(|long| long == "1") => LONG,
        None => FLOWS,
    };
    let flows = all.div_ceil(By::ALL.len());
    println!("{by:?}: {flows} flows, seed {seed}: SIDEWALL_SEED={seed} SIDEWALL_FLOWS={all} repeats them");
    let (flows_of_round, rounds) = if all > FLOWS { LONG_SHAPE } else { SHAPE };
    let maker = Path::new(env!("CARGO_BIN_EXE_sidewall-party"));
    let mut lab = Lab::new(maker).with_links(maker);
    let ground = ground();
    let mut draw = Draw::new(seed ^ (by as u64) << 32);
    let (mut tried, mut passed, mut cases, mut attached, mut captured) = (0, 0, 0, 0, 0);
    let mut entries = Entries::default();
    let mut standing: Option<Compiled> = None;
    while tried < flows {
        let mut case = draw_case(&mut draw, &ground, &lab, by);
        cases += 1;
        let mut history = String::new();
        for round in 0..rounds {
            let before = standing.take().filter(|_| round > 0 || draw.chance(50));
            if round > 0 {
                let changed = changes::change(&mut draw, &mut case, smaller_cases);
                if let Changed::Restarted(id) = changed {
                    lab.restart(maker, id);
                    case.subject.identities = identities(&case, &lab, by);
                }
                history.push_str(&format!("\n{changed:?}"));
            }
            let now = match before {
                Some(before) => {
                    let (now, changed) = lab.follow(&resolve(&case.world, &case.subject), &before);
                    verify(&mut lab, &now);
                    entries.count(&changed.way);
                    history.push_str(&format!("\nthe rules were changed ({:?}) from\n{}", changed.way, before.ruleset));
                    now
                }
                None => {
                    let now = load(&mut lab, &case);
                    verify(&mut lab, &now);
                    now
                }
            };
            standing = Some(now);
            for flow in case.flows(&mut draw, flows_of_round) {
                let (flow, way) = (flow, Way::draw(&mut draw));
                attached += usize::from(link_of(&case, &flow).is_some());
                match attempt(&mut lab, &case, &flow, way) {
                    Ok(None) => {}
                    Ok(Some(_)) => {
                        let (case, disagreement) = smallest(&mut lab, case, &flow, way);
                        panic!(
                            "seed {seed}, {by:?}, flow {tried}: {disagreement}\n{}{history}",
                            describe(&case, &flow, way)
                        );
                    }
                    Err(error) => {
                        panic!("seed {seed}, {by:?}, flow {tried}: {error}\n{}{history}", describe(&case, &flow, way))
                    }
                }
                tried += 1;
                let passes = evaluated(&case, &flow) == Outcome::Passed;
                passed += usize::from(passes);
                captured += usize::from(passes && resolve(&case.world, &case.subject).captures(&flow).is_some());
            }
        }
    }
    println!(
        "{by:?}: {tried} flows of {cases} pods agree, {passed} of them passed, {attached} were on further networks, {captured} passed to a proxy that captures them; {entries:?}"
    );
    // A test in which everything is denied would show nothing.
    assert!(passed > tried / 10 && passed < tried * 9 / 10, "{passed} of {tried} flows passed");
    assert!(cases < 100 || captured > 0, "no captured flow passed");
    // Nor would one in which every change is a load.
    assert!(cases < 20 || entries.amended > cases / 10, "{cases} pods, {entries:?}");
}

/// How often changed rules came into force which way.
#[derive(Debug, Default)]
struct Entries {
    nothing: usize,
    elements: usize,
    amended: usize,
    loaded: usize,
}

impl Entries {
    fn count(&mut self, way: &Entry) {
        match way {
            Entry::Nothing => self.nothing += 1,
            Entry::Amended { chains, .. } => {
                self.amended += 1;
                self.elements += usize::from(*chains == 0);
            }
            Entry::Loaded(Because::Shape | Because::RulesAndElements) => self.loaded += 1,
            Entry::Loaded(because) => panic!("nobody but the test touches the tables, and yet: {because:?}"),
        }
    }
}

/// Addresses that the lab's network has, or has all of.
fn ground() -> Ground {
    Ground {
        own: vec![lab::POD4, lab::POD6],
        interface: Some(lab::DEVICE.to_owned()),
        this_node: vec![lab::NODE4, lab::NODE6],
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        network_policies: true,
        attachments: lab::LINKS
            .iter()
            .zip(NETWORKS)
            .zip(1..)
            .map(|((link, network), n)| further(link, network, n))
            .collect(),
        ..Ground::default()
    }
}

/// The networks behind the lab's links.
const NETWORKS: [&str; 3] = ["shop/link", "ops/wide", "shop/stray"];

fn further(link: &lab::Link, network: &str, number: u8) -> Link {
    let hosts = (1..=6).flat_map(|host| {
        let v4 = Ipv4Addr::new(10, 9, number, host);
        let v6 = Ipv6Addr::new(0xfd09, number.into(), 0, 0, 0, 0, 0, host.into());
        [IpAddr::V4(v4), IpAddr::V6(v6)]
    });
    Link { network: network.to_owned(), device: link.device.to_owned(), own: link.pod.to_vec(), hosts: hosts.collect() }
}

/// The lab's link that a flow takes.
fn link_of(case: &Case, flow: &Flow) -> Option<usize> {
    [flow.sender, flow.receiver].into_iter().find_map(|end| match end {
        End::Attached(attachment, _) => {
            let device = &case.link(attachment).expect("a drawn end is on a drawn link").device;
            lab::LINKS.iter().position(|link| link.device == device)
        }
        End::Local(_) | End::Remote(_) => None,
    })
}

fn draw_case(draw: &mut Draw, ground: &Ground, lab: &Lab, by: By) -> Case {
    let mut case = Case::draw(draw, ground);
    case.subject.identities = identities(&case, lab, by);
    case
}

/// How the kernel tells a case's containers apart in the lab.
fn identities(case: &Case, lab: &Lab, by: By) -> Identities {
    lab.identities(by, u8::try_from(case.subject.containers.len()).expect("few containers"))
}

/// How a flow is tried where the evaluator does not distinguish.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Over IPv6.
    v6: bool,
    /// Within the pod, to its own address rather than to a loopback address.
    own_address: bool,
}

impl Way {
    fn draw(draw: &mut Draw) -> Self {
        Self { v6: draw.chance(50), own_address: draw.chance(50) }
    }
}

fn load(lab: &mut Lab, case: &Case) -> Compiled {
    let generation = lab.next_generation();
    let compiled = compile(&resolve(&case.world, &case.subject), generation);
    lab.load(&compiled.ruleset);
    compiled
}

fn verify(lab: &mut Lab, compiled: &Compiled) {
    let standing = lab.kernel.verify(&compiled.ruleset).expect("the rules can be read back");
    assert_eq!(standing, Standing::AsLoaded, "{}", compiled.ruleset);
}

fn evaluated(case: &Case, flow: &Flow) -> Outcome {
    match evaluate(&resolve(&case.world, &case.subject), flow).action {
        Action::Allow => Outcome::Passed,
        Action::Deny => Outcome::Denied,
    }
}

/// Tries a flow under the loaded rules; gives what they said where the evaluator says the other.
fn attempt(lab: &mut Lab, case: &Case, flow: &Flow, way: Way) -> Result<Option<Outcome>, String> {
    let observed = lab.attempt(&trial(case, flow, way))?;
    Ok((observed != evaluated(case, flow)).then_some(observed))
}

fn trial(case: &Case, flow: &Flow, way: Way) -> Trial {
    let link = link_of(case, flow);
    let addresses = link.map_or([lab::POD4, lab::POD6], |link| lab::LINKS[link].pod);
    let own = |v6: bool| addresses[usize::from(v6)];
    let loopback = |v6: bool| match (way.own_address, v6) {
        (true, v6) => own(v6),
        (false, true) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        (false, false) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let at = resolve(&case.world, &case.subject).answered_at(flow);
    let (sender, receiver, to, source) = match (flow.sender, flow.receiver) {
        (End::Local(sender), End::Local(receiver)) => (Some(sender), Some(receiver), loopback(way.v6), None),
        (End::Local(sender), End::Remote(address)) => (Some(sender), None, address, None),
        (End::Remote(address), End::Local(receiver)) => (None, Some(receiver), own(address.is_ipv6()), Some(address)),
        // The pod's routes go by the address that it sends from.
        (End::Local(sender), End::Attached(_, address)) => (Some(sender), None, address, Some(own(address.is_ipv6()))),
        (End::Attached(_, address), End::Local(receiver)) => {
            (None, Some(receiver), own(address.is_ipv6()), Some(address))
        }
        (End::Remote(_) | End::Attached(..), End::Remote(_) | End::Attached(..)) => {
            unreachable!("every drawn flow has an end in the pod")
        }
    };
    Trial { sender, receiver, protocol: flow.protocol, to: SocketAddr::new(to, flow.port), at, source, link }
}

/// Takes away what the disagreement does not need.
fn smallest(lab: &mut Lab, mut case: Case, flow: &Flow, way: Way) -> (Case, String) {
    let mut said = String::new();
    let mut left = SHRINKS;
    let mut disagrees = |lab: &mut Lab, case: &Case| {
        load(lab, case);
        match attempt(lab, case, flow, way) {
            Ok(Some(observed)) => {
                said = format!("the evaluator says {:?}, the kernel {observed:?}", evaluated(case, flow));
                true
            }
            _ => false,
        }
    };
    if !disagrees(lab, &case) {
        return (case, "the kernel and the evaluator disagreed, but do not any more when tried alone".to_owned());
    }
    loop {
        let Some(smaller) = smaller_cases(&case).into_iter().find(|smaller| {
            left = left.saturating_sub(1);
            left > 0 && disagrees(lab, smaller)
        }) else {
            return (case, said);
        };
        case = smaller;
    }
}

/// Every case with one thing less.
fn smaller_cases(case: &Case) -> Vec<Case> {
    fn without<T>(cases: &mut Vec<Case>, case: &Case, list: impl Fn(&mut Case) -> &mut Vec<T>) {
        let length = list(&mut case.clone()).len();
        for index in 0..length {
            let mut smaller = case.clone();
            list(&mut smaller).remove(index);
            cases.push(smaller);
        }
    }
    let mut cases = Vec::new();
    without(&mut cases, case, |case| &mut case.world.policies);
    without(&mut cases, case, |case| &mut case.world.network_policies);
    without(&mut cases, case, |case| &mut case.world.multi_network_policies);
    without(&mut cases, case, |case| &mut case.world.proxies);
    without(&mut cases, case, |case| &mut case.world.unreadable);
    without(&mut cases, case, |case| &mut case.world.services);
    without(&mut cases, case, |case| &mut case.world.pods);
    for policy in 0..case.world.policies.len() {
        let spec = &case.world.policies[policy].spec;
        for rule in 0..spec.ingress.as_ref().map_or(0, Vec::len) {
            let mut smaller = case.clone();
            smaller.world.policies[policy].spec.ingress.as_mut().expect("it has rules").remove(rule);
            cases.push(smaller);
        }
        for rule in 0..spec.egress.as_ref().map_or(0, Vec::len) {
            let mut smaller = case.clone();
            smaller.world.policies[policy].spec.egress.as_mut().expect("it has rules").remove(rule);
            cases.push(smaller);
        }
    }
    for policy in 0..case.clone().edge_specs().len() {
        without(&mut cases, case, |case| &mut case.edge_specs().swap_remove(policy).ingress);
        without(&mut cases, case, |case| &mut case.edge_specs().swap_remove(policy).egress);
    }
    for id in case.subject.containers.keys() {
        if !case.subject.containers[id].ports.is_empty() {
            let mut smaller = case.clone();
            smaller.subject.containers.get_mut(id).expect("it is there").ports.clear();
            cases.push(smaller);
        }
    }
    cases
}

fn describe(case: &Case, flow: &Flow, way: Way) -> String {
    let pod = resolve(&case.world, &case.subject);
    format!(
        "{flow:?}\n{way:?}\n{:?}\n{:#?}\n{:#?}\n{}",
        evaluate(&pod, flow),
        case.world,
        case.subject,
        compile(&pod, sidewall_policy::Generation::FIRST).ruleset
    )
}
