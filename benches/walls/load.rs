//! What it takes to put walls up.

use crate::Result;
use crate::input::{self, Peers, Version};
use crate::iptables::{self, Flavour};
use crate::pod::{Groups, PodNet, USER, Way};
use crate::walls::{By, size};
use sidewall_benches::Options;
use sidewall_benches::report::{Row, Sample};
use sidewall_netfilter::{Kernel, LoadOptions};
use sidewall_policy::ruleset::Ruleset;
use sidewall_policy::{Generation, Subject, World, compile, resolve};
use std::time::Instant;

const MS: &str = "ms";
/// Loading 20,000 peers may take so many milliseconds.
const MANY: f64 = 400.0;
/// Loading a usual pod may take so many milliseconds.
const USUAL: f64 = 2.0;

/// A pod that rules are made for.
struct Case {
    name: String,
    world: World,
    subject: Subject,
    target: Option<f64>,
}

/// What one time took, in milliseconds.
struct Took {
    compile: f64,
    load: f64,
}

/// Measures every row that is wanted.
pub fn run(options: &Options, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let groups = Groups::new()?;
    for case in cases(&groups)? {
        let names = ["", ", resolve and compile", ", encode, send and acknowledge"];
        let names = names.map(|part| format!("load, {}{part}", case.name));
        if !names.iter().any(|name| options.wants(name)) {
            continue;
        }
        let first = once(&case, &PodNet::new(None)?)?.1;
        println!("{}: {}", case.name, size(&first));
        let mut took = Vec::new();
        for _ in 0..options.pairs() {
            // A fresh namespace each time: what a pod's start takes.
            took.push(once(&case, &PodNet::new(None)?)?.0);
        }
        let [whole, compile, load] = names;
        let of = |value: fn(&Took) -> f64| took.iter().map(value).collect::<Vec<_>>();
        tell(Row::alone(whole, MS, case.target, &of(|t| t.compile + t.load)));
        tell(Row::alone(compile, MS, None, &of(|t| t.compile)));
        tell(Row::alone(load, MS, None, &of(|t| t.load)));
    }
    change(options, &groups, tell)?;
    against_iptables(options, &groups, tell)
}

fn cases(groups: &Groups) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut add = |name: &str, target, (world, subject): (World, Subject)| {
        cases.push(Case { name: name.to_owned(), world, subject, target });
    };
    let identities = || groups.identities(By::Cgroup);
    add("usual pod (4 containers, 6 policies)", Some(USUAL), input::usual(identities()?));
    let walled = |version, peers, count| -> Result<_> { Ok(input::walled(identities()?, version, peers, count)) };
    add("no peers", None, walled(Version::V4, Peers::Pods, 0)?);
    add("1,000 peers", None, walled(Version::V4, Peers::Pods, 1_000)?);
    add("20,000 peers", Some(MANY), walled(Version::V4, Peers::Pods, 20_000)?);
    add("20,000 peers, IPv6", Some(MANY), walled(Version::V6, Peers::Pods, 20_000)?);
    add("1,000 CIDR ranges", None, walled(Version::V4, Peers::Blocks, 1_000)?);
    add("20,000 CIDR ranges", Some(MANY), walled(Version::V4, Peers::Blocks, 20_000)?);
    Ok(cases)
}

fn once(case: &Case, net: &PodNet) -> Result<(Took, Ruleset)> {
    let mut kernel = Kernel::open(&net.pod)?;
    let begin = Instant::now();
    let ruleset = compile(&resolve(&case.world, &case.subject), Generation::FIRST).ruleset;
    let compiled = Instant::now();
    kernel.load(&ruleset, LoadOptions::default())?;
    let loaded = Instant::now();
    let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    Ok((Took { compile: milliseconds(begin, compiled), load: milliseconds(compiled, loaded) }, ruleset))
}

/// One peer more where 20,000 are in force already: the table is replaced whole.
fn change(options: &Options, groups: &Groups, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let name = "load, 20,000 peers in place of 20,000 others";
    if !options.wants(name) {
        return Ok(());
    }
    let net = PodNet::new(None)?;
    let mut kernel = Kernel::open(&net.pod)?;
    let (world, subject) = input::walled(groups.identities(By::Cgroup)?, Version::V4, Peers::Pods, 20_000);
    let mut generation = Generation::FIRST;
    let mut took = Vec::new();
    for _ in 0..=options.pairs() {
        let begin = Instant::now();
        let ruleset = compile(&resolve(&world, &subject), generation).ruleset;
        kernel.load(&ruleset, LoadOptions::default())?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
        generation = generation.next();
    }
    // The first found nothing there.
    tell(Row::alone(name, MS, None, &took[1..]));
    Ok(())
}

/// The chain that people write by hand holds one direction of one container; ours holds both of two.
fn against_iptables(options: &Options, groups: &Groups, tell: &mut dyn FnMut(Row)) -> Result<()> {
    for flavour in Flavour::ALL {
        for (count, text) in [(1_000, "1,000"), (20_000, "20,000")] {
            let name = format!("load, {text} peers / {}-restore", flavour.name());
            if !options.wants(&name) {
                continue;
            }
            if !flavour.exists() {
                eprintln!("not measured: {name} (it is not installed)");
                continue;
            }
            let (world, subject) = input::walled(groups.identities(By::Cgroup)?, Version::V4, Peers::Pods, count);
            let case = Case { name: name.clone(), world, subject, target: None };
            let script = iptables::script(Way::Out, USER, (0..count).map(|index| input::peer(Version::V4, index)));
            let mut pairs = Vec::new();
            for _ in 0..options.pairs() {
                let Took { compile, load } = once(&case, &PodNet::new(None)?)?.0;
                let net = PodNet::new(None)?;
                let begin = Instant::now();
                iptables::restore(&net.pod, flavour, &script)?;
                let theirs = Sample { count: 1.0, seconds: begin.elapsed().as_secs_f64() };
                pairs.push((Sample { count: 1.0, seconds: (compile + load) / 1e3 }, theirs));
            }
            tell(Row::costs(name, None, &pairs));
        }
    }
    Ok(())
}
