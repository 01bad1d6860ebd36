//! Invariant 2: rules outlive the one who loaded them.

use sidewall_flow::Protocol;
use sidewall_netfilter::{Kernel, LoadOptions, Standing};
use sidewall_netns::Launch;
use sidewall_policy::Generation;
use sidewall_tests::lab::By;
use sidewall_tests::scene::{
    APP, COLLECTORS, End, Flow, LOOPBACK, MALLORY, PROXY, SHIPPER, Scene, TRANSPORTS, assert_silent, bound, connect,
    walls,
};
use sidewall_tests::sockets;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const LOADER: &str = env!("CARGO_BIN_EXE_sidewall-loader");

/// What the walls let pass passes, and what they don't does not.
fn assert_walls_stand(scene: &mut Scene, live: &Flow, when: &str) {
    live.works().unwrap_or_else(|error| panic!("{when}: the live flow: {error}"));
    for protocol in TRANSPORTS {
        for address in LOOPBACK {
            let to = SocketAddr::new(address, 8080);
            drop(scene.flow(End::Container(PROXY), End::Container(APP), protocol, to));
            let listener = sockets::listen(scene.app(APP), protocol, to).unwrap();
            for number in [SHIPPER, MALLORY] {
                let socket = bound(scene.app(number), protocol, scene.fresh(address)).unwrap();
                scene.denied(when, |_| {
                    let _ = connect(&socket, to);
                    let _ = sockets::send(&socket, b"take this");
                });
                assert_silent(&listener, when);
                assert!(scene.app(APP).accept(&listener).is_err(), "{when}: a connection");
            }
        }
        for collector in COLLECTORS {
            let to = SocketAddr::new(collector, 7000);
            drop(scene.flow(End::Container(APP), End::Outside, protocol, to));
            let listener = sockets::listen(scene.outside(), protocol, to).unwrap();
            let any = if collector.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = bound(scene.app(MALLORY), protocol, scene.fresh(any.parse().unwrap())).unwrap();
            scene.denied(when, |_| {
                let _ = connect(&socket, to);
                let _ = sockets::send(&socket, b"take this");
            });
            assert_silent(&listener, when);
        }
    }
}

#[test]
fn rules_outlive_a_loader_that_is_killed() {
    let mut scene = Scene::bare(PROGRAM);
    scene.by = By::Uid;
    let program = std::fs::File::open(LOADER).unwrap();
    let mut loader = Launch::from_file(program, LOADER)
        .netns(&scene.lab.pod)
        .privileged()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .die_with_parent()
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(loader.take_stdout().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "loaded 1 true\n");
    let to = SocketAddr::new(LOOPBACK[0], 8081);
    let live = scene.flow(End::Container(SHIPPER), End::Container(APP), Protocol::Tcp, to);
    assert_walls_stand(&mut scene, &live, "while the loader lives");
    // Nobody else can take them away meanwhile.
    assert!(scene.lab.kernel.unload().is_err());
    // SIGKILL.
    loader.kill().unwrap();
    assert_walls_stand(&mut scene, &live, "after the loader was killed");
    let compiled = scene.compiled(&walls(), Generation::FIRST);
    assert_eq!(scene.lab.kernel.verify(&compiled.ruleset).unwrap(), Standing::AsLoaded);
    // The next one takes them over as they are, and they outlive that one too.
    let mut next = Kernel::open(&scene.lab.pod).unwrap();
    assert_eq!(next.adopt().unwrap().len(), 2);
    assert_walls_stand(&mut scene, &live, "while the next one owns them");
    assert!(scene.lab.kernel.unload().is_err());
    drop(next);
    assert_walls_stand(&mut scene, &live, "after the next one is gone");
}

#[test]
fn rules_outlive_their_kernel_with_and_without_ownership() {
    let mut scene = Scene::bare(PROGRAM);
    for by in By::ALL {
        for owner in [false, true] {
            scene.by = by;
            let generation = scene.lab.next_generation();
            let compiled = scene.compiled(&walls(), generation);
            let mut kernel = Kernel::open(&scene.lab.pod).unwrap();
            kernel.load(&compiled.ruleset, LoadOptions { owner }).unwrap();
            let to = SocketAddr::new(LOOPBACK[1], 8081);
            let live = scene.flow(End::Container(SHIPPER), End::Container(APP), Protocol::Tcp, to);
            drop(kernel);
            assert_walls_stand(&mut scene, &live, &format!("{by:?}, owner {owner}"));
        }
    }
}
