//! Namespaces whose rules log.

use sidewall_flow::{Decision, Party, Place, Record};
use sidewall_flowlog::{Next, Subscription};
use sidewall_netfilter::{Kernel, LoadOptions};
use sidewall_netns::{Links, NetNs};
use sidewall_policy::model::Identities;
use sidewall_policy::record::{Names, Recorder};
use sidewall_policy::ruleset::{
    Chain, Compare, Counter, Family, Field, Generation, Hook, HookPoint, Rule, Ruleset, Statement, Table,
};
use sidewall_policy::{Subject, World, resolve};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// A namespace in which every packet to port 4000 is logged, without a limit, and refused.
pub fn namespace() -> (NetNs, Kernel) {
    let namespace = NetNs::new().expect("a network namespace: this test needs root");
    Links::of(&namespace).and_then(|mut links| links.set_up("lo")).expect("lo is up");
    let mut kernel = Kernel::open(&namespace).expect("netfilter");
    let to_port =
        || Statement::Match { field: Field::DestinationPort, mask: None, compare: Compare::Equal, value: 4000 };
    let rule = |statements: Vec<Statement>| Rule { statements, comment: None };
    let logged = Statement::Log(Decision::denied(Place::Egress(Party::Unknown)));
    let rules = vec![
        rule(vec![to_port(), Statement::Count("denied".into()), logged]),
        rule(vec![to_port(), Statement::RejectProhibited]),
    ];
    let hook = Some(Hook { point: HookPoint::Output, priority: 0, accept: true });
    let table = Table {
        family: Family::Inet,
        counters: vec![Counter { name: "denied".into() }],
        sets: Vec::new(),
        chains: vec![Chain { name: "out".into(), hook, rules }],
    };
    let ruleset = Ruleset { generation: Generation::FIRST, tables: vec![table] };
    kernel.load(&ruleset, LoadOptions::default()).expect("the rules are loaded");
    (namespace, kernel)
}

/// A recorder for a pod of that name.
pub fn recorder(name: &str) -> Recorder {
    let subject = Subject {
        namespace: "shop".into(),
        name: name.into(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        interface: Some("eth0".into()),
        containers: BTreeMap::new(),
        identities: Identities::Uid(Default::default()),
        networks: Default::default(),
        link: None,
    };
    Recorder::new(resolve(&World::default(), &subject), Arc::new(Names::default()))
}

/// Sends packets that are refused; gives how many sends came back.
pub fn send(namespace: &NetNs, count: u64) -> u64 {
    let socket = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    (0..count).filter(|_| socket.send_to(b"x", "127.0.0.1:4000").is_err()).count() as u64
}

/// How many records it says are missing.
pub fn missing(record: &Record) -> u64 {
    match record {
        Record::Lost(lost) => lost.count,
        Record::Flow(_) | Record::End(_) => 0,
    }
}

/// What waits in a subscription.
pub fn rest(subscription: &Subscription) -> Vec<Arc<Record>> {
    let next = || match subscription.next(Duration::ZERO) {
        Next::Record(record) => Some(record),
        Next::Nothing | Next::Ended => None,
    };
    std::iter::from_fn(next).collect()
}
