//! The walls of a pod, by real flows.

use sidewall_flow::{Party, Protocol};
use sidewall_policy::model::Identities;
use sidewall_policy::world::SubjectContainer;
use sidewall_policy::{Subject, World, compile, guard, resolve};
use sidewall_tests::lab::{self, By, Lab, Outcome, Trial};
use std::net::SocketAddr;
use std::path::Path;

fn subject(identities: Identities, count: u8) -> Subject {
    Subject {
        namespace: "shop".into(),
        name: "web".into(),
        labels: Default::default(),
        addresses: vec![lab::POD4, lab::POD6],
        interface: Some(lab::DEVICE.into()),
        containers: (1..=count)
            .map(|n| {
                let Party::Container(id) = lab::container(n) else { unreachable!() };
                (id, SubjectContainer { name: format!("c{n}"), ..Default::default() })
            })
            .collect(),
        identities,
        networks: Default::default(),
        link: None,
    }
}

#[test]
fn the_guard_denies_everything_and_no_policy_nothing() {
    let mut lab = Lab::new(Path::new(env!("CARGO_BIN_EXE_sidewall-party")));
    for by in By::ALL {
        let subject = subject(lab.identities(by, 2), 2);
        let open = resolve(&World::default(), &subject);
        for (pod, expected) in [(open, Outcome::Passed), (guard(&subject), Outcome::Denied)] {
            let generation = lab.next_generation();
            let start = std::time::Instant::now();
            let compiled = compile(&pod, generation);
            let c = start.elapsed();
            lab.load(&compiled.ruleset);
            println!("{by:?} compile {c:?} all {:?}", start.elapsed());
            assert_eq!(lab.kernel.verify(&compiled.ruleset).unwrap(), sidewall_netfilter::Standing::AsLoaded);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for address in ["127.0.0.1", "::1", "10.77.0.2", "fd77::2"] {
                    let to = SocketAddr::new(address.parse().unwrap(), 8080);
                    let trial = Trial {
                        sender: Some(lab::container(1)),
                        receiver: Some(lab::container(2)),
                        protocol,
                        to,
                        at: to.port(),
                        source: None,
                        link: None,
                    };
                    assert_eq!(lab.attempt(&trial), Ok(expected), "{by:?} {trial:?}");
                    if to.ip().is_loopback() {
                        continue;
                    }
                    let source = if to.is_ipv4() { "10.1.2.3" } else { "fd01::1" };
                    let trial = Trial {
                        sender: None,
                        receiver: Some(lab::container(2)),
                        protocol,
                        to,
                        at: to.port(),
                        source: Some(source.parse().unwrap()),
                        link: None,
                    };
                    assert_eq!(lab.attempt(&trial), Ok(expected), "{by:?} {trial:?}");
                    let to = SocketAddr::new(source.parse().unwrap(), 8080);
                    let trial = Trial {
                        sender: Some(lab::container(1)),
                        receiver: None,
                        protocol,
                        to,
                        at: to.port(),
                        source: None,
                        link: None,
                    };
                    assert_eq!(lab.attempt(&trial), Ok(expected), "{by:?} {trial:?}");
                }
            }
        }
    }
}
