//! The published semantics of NetworkPolicy in the kernel: every case in nine real namespaces, every pair of ends tried
//! with real sockets.
//!
//! What is always tried is TCP and UDP over IPv4. Of IPv6, and of SCTP where the kernel has it, a third of the steps is
//! drawn: `SIDEWALL_SEED` repeats a run, `SIDEWALL_LONG=1` tries everything, under each identity.

use sidewall_flow::{Action, Protocol};
use sidewall_policy::testing::Draw;
use sidewall_tests::lab::{By, Outcome};
use sidewall_tests::network_policy::cluster::{PORTS, Walls};
use sidewall_tests::network_policy::{Case, Cluster, End, Expectation, Place, Probe, cases, echo_cases};
use sidewall_tests::nine::{Nine, Planned};
use std::path::Path;
use std::time::Instant;

/// The seed, where nothing else is said.
const SEED: u64 = 20_261_122;
/// Of a hundred steps, how many are also tried over IPv6, and over SCTP.
const DRAWN: usize = 33;
/// How many disagreements are told.
const TOLD: usize = 20;

#[test]
fn the_kernel_agrees() {
    let long = std::env::var_os("SIDEWALL_LONG").is_some_and(|long| long == "1");
    let seed = match std::env::var("SIDEWALL_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("SIDEWALL_SEED={text:?} is not a number")),
        Err(_) => SEED,
    };
    println!("SIDEWALL_SEED={seed} repeats what is drawn");
    let cases = cases();
    let ways = if long { By::ALL.to_vec() } else { vec![By::Cgroup] };
    for by in ways {
        let mut run = Run::new(by, seed, long);
        cases.iter().for_each(|case| run.case(case, Run::transports));
        run.end(cases.len());
    }
}

#[test]
fn nobody_pings_what_is_isolated() {
    let cases = echo_cases();
    let mut run = Run::new(By::Cgroup, SEED, false);
    cases.iter().for_each(|case| run.case(case, Run::echo));
    run.end(cases.len());
}

struct Run {
    nine: Nine,
    by: By,
    draw: Draw,
    long: bool,
    begun: Instant,
    steps: u32,
    flows: usize,
    passed: usize,
    wrong: Vec<String>,
}

impl Run {
    fn new(by: By, seed: u64, long: bool) -> Self {
        let begun = Instant::now();
        let nine = Nine::new(Path::new(env!("CARGO_BIN_EXE_sidewall-party")), by);
        if !nine.has_sctp() {
            println!("this kernel has no SCTP: it is left out here, and looked at by the evaluator only");
        }
        Self { nine, by, draw: Draw::new(seed), long, begun, steps: 0, flows: 0, passed: 0, wrong: Vec::new() }
    }

    fn case(&mut self, case: &Case, plan: fn(&mut Self, &[End]) -> Vec<Planned>) {
        let mut cluster = Cluster::default();
        for (number, step) in (1..).zip(&case.steps) {
            cluster.apply(step);
            let ends = cluster.ends();
            let expectation = Expectation::read(&step.expect, &ends);
            let walls = Walls::of(&cluster, |name| self.nine.identities(name));
            self.nine.receive(&ends);
            self.nine.enforce(&walls);
            let flows = plan(self, &ends);
            let said = |what: String| format!("{}: {}: step {number}: {what}", case.family, case.title);
            let outcomes = self.nine.attempt(&flows).unwrap_or_else(|error| panic!("{}", said(error)));
            for (flow, outcome) in flows.iter().zip(outcomes) {
                let expected = match expectation.of(&flow.from, &flow.to, flow.probe) {
                    Action::Allow => Outcome::Passed,
                    Action::Deny => Outcome::Denied,
                };
                self.flows += 1;
                self.passed += usize::from(outcome == Outcome::Passed);
                if outcome != expected {
                    self.wrong.push(said(format!("{flow}: expected {expected:?}, observed {outcome:?}")));
                }
            }
            self.steps += 1;
        }
    }

    /// Every pair of ends of which at least one has walls, on every port, as far as it is the step's turn.
    fn transports(&mut self, ends: &[End]) -> Vec<Planned> {
        let drawn = |draw: &mut Draw, long| long || draw.chance(DRAWN);
        let mut probes = Vec::new();
        for (v6, protocol) in [false, true].into_iter().flat_map(|v6| PROTOCOLS.map(|protocol| (v6, protocol))) {
            let always = !v6 && protocol != Protocol::Sctp;
            let turn = always || drawn(&mut self.draw, self.long);
            if turn && (protocol != Protocol::Sctp || self.nine.has_sctp()) {
                probes.extend(PORTS.map(|port| Probe { protocol, port, v6 }));
            }
        }
        let plan = |(from, to): (&End, &End)| -> Vec<Planned> {
            let plan = |probe: &Probe| Planned { from: from.clone(), to: to.clone(), probe: *probe, echo: false };
            probes.iter().map(plan).collect()
        };
        pairs(ends).flat_map(plan).filter(has_addresses).collect()
    }

    /// An echo request between every pair of ends, in both families. What holds for the node's is not said anywhere.
    fn echo(&mut self, ends: &[End]) -> Vec<Planned> {
        let pairs = pairs(ends).filter(|(from, to)| from.place != Place::Node && to.place != Place::Node);
        let plan = |(from, to): (&End, &End)| -> [Planned; 2] {
            [false, true].map(|v6| {
                let probe = Probe { protocol: Protocol::Udp, port: 0, v6 };
                Planned { from: from.clone(), to: to.clone(), probe, echo: true }
            })
        };
        pairs.flat_map(plan).filter(has_addresses).collect()
    }

    fn end(self, cases: usize) {
        let Self { by, steps, flows, passed, wrong, begun, .. } = self;
        let seconds = begun.elapsed().as_secs_f64();
        println!("{by:?}: {cases} cases, {steps} steps, {flows} flows, {passed} of them passed, {seconds:.1} s");
        assert!(
            wrong.is_empty(),
            "{by:?}: {} of {flows} flows disagree:\n{}",
            wrong.len(),
            wrong.iter().take(TOLD).cloned().collect::<Vec<_>>().join("\n")
        );
        // Where everything passed, or nothing, little would have been shown.
        assert!(passed > flows / 2 && passed < flows / 20 * 19, "{passed} of {flows} flows passed");
    }
}

/// Every pair of ends of which at least one has walls.
fn pairs(ends: &[End]) -> impl Iterator<Item = (&End, &End)> {
    let ends = || ends.iter().filter(|end| end.place != Place::Service);
    let pairs = ends().flat_map(move |from| ends().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from.is_walled() || to.is_walled())
}

fn has_addresses(flow: &Planned) -> bool {
    [&flow.from, &flow.to].iter().all(|end| end.address(flow.probe.v6).is_some())
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
