//! A split pod is the pod: random pods and policies, their containers in one namespace and in two, flows with real sockets, and
//! the verdict of the kernel, of the evaluator for the parts, and of the evaluator for the pod that is not split.
//!
//! `SIDEWALL_SEED` repeats a run, `SIDEWALL_FLOWS` sets the number of flows of each identity.

use sidewall_flow::{Action, ContainerId, Party, Protocol};
use sidewall_policy::evaluate::{End, Flow};
use sidewall_policy::testing::{Case, Draw, Ground};
use sidewall_policy::{evaluate, resolve};
use sidewall_sandbox::SegmentKind;
use sidewall_tests::lab::{self, By, Outcome};
use sidewall_tests::split::{LOCALHOST, SplitLab};
use std::net::{Ipv6Addr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const SEED: u64 = 20_261_122;
/// Flows of each identity.
const FLOWS: usize = 600;
/// Flows of each drawn pod.
const ROUND: usize = 16;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?}")))
}

#[test]
fn by_cgroup() {
    agree(By::Cgroup, SegmentKind::Bridge);
}

#[test]
fn by_cgroup_over_macvlan() {
    agree(By::Cgroup, SegmentKind::Macvlan);
}

#[test]
fn by_uid() {
    agree(By::Uid, SegmentKind::Bridge);
}

#[test]
fn by_gid() {
    agree(By::Gid, SegmentKind::Macvlan);
}

/// What the lab's network has.
fn ground() -> Ground {
    Ground {
        own: vec![lab::POD4, lab::POD6],
        interface: Some(lab::DEVICE.to_owned()),
        this_node: vec![lab::NODE4, lab::NODE6],
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        ..Ground::default()
    }
}

/// Somebody of a part.
fn sender(draw: &mut Draw, ids: &[ContainerId]) -> Party {
    match draw.below(ids.len() + 2) {
        0 => Party::Unknown,
        1 => Party::Node,
        other => Party::Container(ids[other - 2]),
    }
}

fn agree(by: By, kind: SegmentKind) {
    let seed = number("SIDEWALL_SEED", SEED);
    let flows = number("SIDEWALL_FLOWS", FLOWS as u64) as usize;
    let mut lab = SplitLab::new(PROGRAM, kind, &[]);
    let mut draw = Draw::new(seed ^ (by as u64) << 32 ^ 0x5911);
    let (mut tried, mut passed, mut apart, mut carried) = (0, 0, 0, 0);
    while tried < flows {
        let mut case = Case::draw(&mut draw, &ground());
        let ids: Vec<ContainerId> = case.subject.containers.keys().copied().collect();
        lab.elsewhere = ids.iter().copied().filter(|_| draw.chance(50)).collect();
        case.subject.identities = lab.parts[0].identities(by, u8::try_from(ids.len()).unwrap());
        let shared = resolve(&case.world, &case.subject);
        let parts = lab.enforce(by, &case.subject, &case.world);
        for _ in 0..ROUND {
            let from = sender(&mut draw, &ids);
            let to = Party::Container(ids[draw.below(ids.len())]);
            // Mostly a port that the receiver declares.
            let declared = match to {
                Party::Container(id) => case.subject.containers[&id].ports.clone(),
                _ => Vec::new(),
            };
            let (protocol, port) = if declared.is_empty() || draw.chance(15) {
                let ports = [80, 8080, 8081, 5000];
                ([Protocol::Tcp, Protocol::Udp][draw.below(2)], ports[draw.below(ports.len())])
            } else {
                let port = &declared[draw.below(declared.len())];
                (port.protocol, port.port)
            };
            if protocol == Protocol::Sctp {
                continue;
            }
            let flow = Flow { sender: End::Local(from), receiver: End::Local(to), protocol, port };
            let place = match from {
                Party::Container(_) => lab.part_of(from),
                // Who is no container may be in any part.
                Party::Unknown | Party::Node => draw.below(2),
            };
            let there = lab.part_of(to);
            let verdict = |pod| match evaluate(pod, &flow).action {
                Action::Allow => Outcome::Passed,
                Action::Deny => Outcome::Denied,
            };
            let split = verdict(&parts[place]);
            let at = SocketAddr::new(LOCALHOST, port);
            let seen = lab.attempt((place, from), (there, to), protocol, at);
            let describe = |lab: &mut SplitLab| {
                format!(
                    "seed {seed}, {by:?}, flow {tried}: {flow:?} from part {place} to part {there}\n{:#?}\n{:#?}\n{}\n{}",
                    evaluate(&parts[place], &flow),
                    case.world.policies,
                    lab.moved(),
                    lab.loaded[place].as_ref().unwrap()
                )
            };
            match seen {
                Ok(seen) => assert_eq!(seen, split, "{}", describe(&mut lab)),
                Err(error) => panic!("{error}: {}", describe(&mut lab)),
            }
            // A port is the receiver's own: then it makes no difference where that is.
            let owner = shared.owner(protocol, port).map(Party::Container);
            if owner == Some(to) {
                assert_eq!(split, verdict(&shared), "{}", describe(&mut lab));
                // The receiver's part thinks no less of a container.
                if matches!(from, Party::Container(_)) {
                    assert_eq!(split, verdict(&parts[there]), "{}", describe(&mut lab));
                }
                carried += usize::from(place != there && split == Outcome::Passed);
            }
            // Over IPv6 nothing is carried, and who asks is told at once.
            if place != there && draw.chance(10) {
                let at = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
                assert_eq!(lab.attempt((place, from), (there, to), protocol, at), Ok(Outcome::Denied), "IPv6");
            }
            tried += 1;
            passed += usize::from(split == Outcome::Passed);
            apart += usize::from(place != there);
        }
    }
    println!(
        "{by:?} {kind:?}: {tried} flows agree, {passed} passed, {apart} between the parts, {carried} of them carried"
    );
    assert!(
        passed > tried / 10 && passed < tried * 9 / 10 && carried > tried / 20,
        "{passed} and {carried} of {tried}"
    );
}
