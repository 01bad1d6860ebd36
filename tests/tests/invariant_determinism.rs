//! Invariant 7: the same input compiles to the same bytes, in any order of input.

use serde_json::json;
use sidewall_api::ContainerNetworkPolicy;
use sidewall_netfilter::encode;
use sidewall_policy::model::{Identities, UserIdentities};
use sidewall_policy::world::{Pod, Service, ServicePort};
use sidewall_policy::{Generation, World, compile, resolve};
use sidewall_tests::scene::{id, policy, ports, subject, walls};
use std::net::IpAddr;

/// A small generator of our own, so that a seed says all (xorshift, Marsaglia 2003).
struct Shuffler(u64);

impl Shuffler {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("below a usize")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn address(number: usize, v6: bool) -> IpAddr {
    let text = if v6 { format!("fd01::{number:x}") } else { format!("10.1.{}.{}", number / 250, number % 250 + 1) };
    text.parse().expect("an address")
}

fn world() -> World {
    let mut policies = walls();
    let peers =
        json!([{"podSelector": {"matchLabels": {"app": "db"}}}, {"namespaceSelector": {}}, {"container": "app"}]);
    policies.push(policy("selectors", json!({"egress": [{"to": peers, "ports": ports(&[5432, 53])}]})));
    let audit = json!({"mode": "Audit", "containers": ["app", "proxy"], "policyTypes": ["Ingress", "Egress"]});
    policies.push(policy("audit", audit));
    let pods = (0..300).map(|number| Pod {
        namespace: if number % 3 == 0 { "shop" } else { "other" }.into(),
        name: format!("pod-{number}"),
        labels: [("app".to_owned(), if number % 2 == 0 { "db" } else { "web" }.to_owned())].into(),
        addresses: vec![address(number, false), address(number, true)],
        ..Pod::default()
    });
    let services = (0..20).map(|number| Service {
        namespace: "shop".into(),
        name: format!("service-{number}"),
        addresses: vec![address(1000 + number, false)],
        ports: vec![ServicePort {
            port: Some((sidewall_flow::Protocol::Tcp, 5432)),
            endpoints: [(address(number * 6, false), Some(5432))].into(),
        }],
        ..Service::default()
    });
    World { policies, pods: pods.collect(), services: services.collect(), ..World::default() }
}

fn identities() -> [Identities; 3] {
    let numbers = |base: u32| UserIdentities {
        containers: (1..=4).map(|number| (id(number), base + u32::from(number))).collect(),
        node: [0].into(),
    };
    let cgroups = Identities::Cgroup {
        level: 3,
        containers: (1..=4)
            .map(|number| (id(number), [1000 + u64::from(number), 2000 + u64::from(number)].into()))
            .collect(),
        pods_level: 2,
        pods: 99,
    };
    [cgroups, Identities::Uid(numbers(20_000)), Identities::Gid(numbers(30_000))]
}

/// Another order of everything whose order means nothing.
fn shuffled(world: &World, shuffler: &mut Shuffler) -> World {
    let mut world = world.clone();
    shuffler.shuffle(&mut world.policies);
    shuffler.shuffle(&mut world.pods);
    shuffler.shuffle(&mut world.services);
    for pod in &mut world.pods {
        shuffler.shuffle(&mut pod.addresses);
    }
    for policy in &mut world.policies {
        inner(policy, shuffler);
    }
    world
}

fn inner(policy: &mut ContainerNetworkPolicy, shuffler: &mut Shuffler) {
    shuffler.shuffle(&mut policy.spec.policy_types);
    policy.spec.containers.iter_mut().for_each(|names| shuffler.shuffle(names));
    for rule in policy.spec.ingress.iter_mut().flatten() {
        shuffler.shuffle(&mut rule.from);
        shuffler.shuffle(&mut rule.ports);
    }
    for rule in policy.spec.egress.iter_mut().flatten() {
        shuffler.shuffle(&mut rule.to);
        shuffler.shuffle(&mut rule.ports);
    }
}

fn bytes(world: &World, identities: &Identities, generation: Generation) -> Vec<u8> {
    let compiled = compile(&resolve(world, &subject(identities.clone())), generation);
    encode(&compiled.ruleset, 0, 1).expect("the rules can be encoded").bytes().to_vec()
}

#[test]
fn the_same_input_gives_the_same_bytes_in_any_order() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed_5eed_u64);
    println!("SEED={seed}");
    let mut shuffler = Shuffler(seed.max(1));
    let world = world();
    for identities in identities() {
        let first = bytes(&world, &identities, Generation::FIRST);
        assert!(first.len() > 10_000, "so few bytes hold no such ruleset: {}", first.len());
        for round in 0..12 {
            let other = shuffled(&world, &mut shuffler);
            assert!(other != world, "the order is another one");
            assert!(bytes(&other, &identities, Generation::FIRST) == first, "round {round} of seed {seed}");
        }
        // The bytes say which generation it is, and what the policies say.
        assert!(bytes(&world, &identities, Generation::FIRST.next()) != first);
        let mut less = world.clone();
        less.policies.pop();
        less.policies.pop();
        assert!(bytes(&less, &identities, Generation::FIRST) != first);
    }
}
