//! The link of a split pod: what is led where, and what a ruleset for it keeps.

use super::structure::check;
use crate::fixture::Fixture;
use crate::model::{Link, LinkedPart};
use crate::ruleset::{HookPoint, Ruleset, Statement};
use crate::testing::{Case, Draw, Ground};
use crate::{Generation, Subject, compile, evaluate, guard, resolve};
use proptest::prelude::*;
use serde_json::json;
use sidewall_flow::{Action, ContainerId};
use std::net::{IpAddr, Ipv4Addr};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);

/// The containers of these numbers are in another part.
fn split(subject: &mut Subject, elsewhere: impl IntoIterator<Item = ContainerId>) {
    let part =
        LinkedPart { addresses: [IpAddr::V4(THERE)].into(), containers: elsewhere.into_iter().collect(), ready: true };
    subject.link = Some(Link {
        device: "link0".to_owned(),
        addresses: [IpAddr::V4(HERE)].into(),
        parts: [("other".to_owned(), part)].into(),
    });
}

fn part(fixture: &mut Fixture) -> &mut LinkedPart {
    fixture.subject.link.as_mut().unwrap().parts.get_mut("other").unwrap()
}

/// An application elsewhere, and who asks it here: `client` may have `http`, `metrics` nobody.
fn pod() -> Fixture {
    let mut fixture = Fixture::new(&[("app", &["http=TCP/8080", "metrics=TCP/8081"]), ("client", &["UDP/53"])]).policy(
        "app",
        json!({"containers": ["app"], "ingress": [{"from": [{"container": "client"}], "ports": [{"port": "http"}]}]}),
    );
    split(&mut fixture.subject, [ContainerId::try_from(1).unwrap()]);
    fixture
}

/// Where addresses are changed, and to which.
fn led(ruleset: &Ruleset) -> Vec<(HookPoint, Ipv4Addr)> {
    let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    let points = chains.filter_map(|chain| Some((chain.hook.as_ref()?.point.clone(), &chain.rules)));
    points
        .flat_map(|(point, rules)| {
            let addresses = rules.iter().flat_map(|rule| &rule.statements).filter_map(|statement| match statement {
                Statement::LeadTo { address } | Statement::SpeakAs { address } => Some(*address),
                _ => None,
            });
            addresses.map(move |address| (point.clone(), address)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn what_somebody_may_is_led_there_and_nothing_else() {
    let compiled = compile(&pod().resolved(), Generation::FIRST);
    let out = [(HookPoint::OutputNat, THERE), (HookPoint::PostroutingNat, HERE)];
    let into = [(HookPoint::PreroutingNat, Ipv4Addr::LOCALHOST), (HookPoint::InputNat, Ipv4Addr::LOCALHOST)];
    // What the client declares anybody may have.
    assert_eq!(led(&compiled.ruleset), [out, into].concat());
    check(&compiled.ruleset, &compiled.meanings);
    let closed = pod().policy("client", json!({"containers": ["client"], "policyTypes": ["Ingress", "Egress"]}));
    // The unknown and the node are let in nowhere, and the client may open nothing.
    assert_eq!(led(&compile(&closed.resolved(), Generation::FIRST).ruleset), []);
}

#[test]
fn without_a_part_that_is_ready_nothing_is_led_out() {
    let mut not_ready = pod();
    part(&mut not_ready).ready = false;
    not_ready.expect(&[], &["client -> app TCP/8080"]);
    not_ready.expect_note("is not ready");
    let points = led(&compile(&not_ready.resolved(), Generation::FIRST).ruleset);
    assert!(points.iter().all(|(point, _)| *point != HookPoint::OutputNat), "{points:?}");
    let mut nowhere = pod();
    part(&mut nowhere).addresses = ["fd00::1".parse().unwrap()].into();
    nowhere.expect(&[], &["client -> app TCP/8080"]);
    assert_eq!(led(&compile(&nowhere.resolved(), Generation::FIRST).ruleset), []);
    // Before policies are known, nothing passes and nothing is led.
    let guarded = guard(&pod().subject);
    assert_eq!(led(&compile(&guarded, Generation::FIRST).ruleset), []);
}

#[test]
fn a_port_is_its_owners_wherever_that_is() {
    let pod = pod();
    pod.expect(
        &["client -> app TCP/8080", "client -> client TCP/9999"],
        &[
            "client -> app TCP/8081",
            "unknown -> app TCP/8080",
            // Nobody declares it, and a link carries declared ports.
            "client -> app TCP/9999",
            // It is the application's, whoever listens here.
            "client -> client TCP/8080",
        ],
    );
    // Without a split, the application is where the client is, and everything else is as it was.
    let mut whole = pod;
    whole.subject.link = None;
    whole.expect(&["client -> app TCP/8080", "client -> client TCP/8080"], &["client -> app TCP/8081"]);
}

/// The link is a further network to a MultiNetworkPolicy.
#[test]
fn a_multi_network_policy_closes_the_link() {
    let on_link =
        |spec| pod().attached("shop/link", "link0", &["10.213.0.1"]).multi_network_policy("m", "shop/link", spec);
    on_link(json!({"podSelector": {}, "policyTypes": ["Egress"]})).expect(&[], &["client -> app TCP/8080"]);
    let block = json!([{"to": [{"ipBlock": {"cidr": "10.213.0.2/32"}}]}]);
    on_link(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": block}))
        .expect(&["client -> app TCP/8080"], &[]);
    let closed = on_link(json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}));
    assert_eq!(led(&compile(&closed.resolved(), Generation::FIRST).ruleset), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_split_ruleset_is_whole(seed: u64) {
        let mut draw = Draw::new(seed);
        let mut case = Case::draw(&mut draw, &Ground::default());
        let shared = resolve(&case.world, &case.subject);
        let ids: Vec<ContainerId> = case.subject.containers.keys().copied().collect();
        let elsewhere: Vec<ContainerId> = ids.into_iter().filter(|_| draw.chance(50)).collect();
        split(&mut case.subject, elsewhere);
        let pod = resolve(&case.world, &case.subject);
        let compiled = compile(&pod, Generation::FIRST);
        check(&compiled.ruleset, &compiled.meanings);
        prop_assert_eq!(&compiled, &compile(&pod, Generation::FIRST));
        // Where a port is the receiver's, it makes no difference where that is.
        for flow in case.flows(&mut draw, 40) {
            let (crate::End::Local(from), crate::End::Local(to)) = (flow.sender, flow.receiver) else { continue };
            let owner = shared.owner(flow.protocol, flow.port).map(sidewall_flow::Party::Container);
            if owner == Some(to) && !pod.is_elsewhere(from) {
                prop_assert_eq!(evaluate(&pod, &flow).action, evaluate(&shared, &flow).action);
            }
            prop_assert!(pod.is_elsewhere(from) || owner == Some(to) || !pod.is_elsewhere(to)
                || evaluate(&pod, &flow).action == Action::Deny);
        }
    }
}
