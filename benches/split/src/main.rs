//! What `localhost` costs: in an ordinary pod, and where two containers are in namespaces of their own that a bridge or
//! macvlan joins, and what is sent to `127.0.0.1` is led to the other one by address translation.
//!
//! These are the kernel's own figures, with the least rules that do it and no walls. Needs root; touches nothing but network
//! namespaces of its own, which end with the process.
#![forbid(unsafe_code)]

mod scene;
mod work;

use clap::Parser;
use scene::{Scene, Way};
use sidewall_benches::Options;
use sidewall_benches::report::{self, Row, Sample};
use std::process::ExitCode;
use work::Work;

/// What goes wrong here ends the benchmark; it is told as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often all is made anew: where the kernel happens to put things must not decide.
const SCENES: u32 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("this benchmark makes network namespaces: run it as root".into());
    }
    let mut rows = Vec::new();
    for work in Work::ALL {
        let wanted = |way: &Way| options.wants(&name(work, *way));
        if !Way::SPLIT.iter().any(wanted) {
            continue;
        }
        let samples = measure(options, work)?;
        for (way, ours) in Way::SPLIT.into_iter().zip(&samples[1..]).filter(|(way, _)| wanted(way)) {
            let pairs: Vec<(Sample, Sample)> = ours.iter().copied().zip(samples[0].iter().copied()).collect();
            let row = Row::rates(name(work, way), work.unit(), None, &pairs);
            println!("{row}");
            rows.push(row);
        }
    }
    if let Some(out) = &options.out {
        report::write(&rows, out)?;
    }
    Ok(())
}

fn name(work: Work, way: Way) -> String {
    format!("{}: {} / one namespace", work.name(), way.name())
}

/// For each way as many samples as there are rounds, those of one round at one place; who is first takes turns.
fn measure(options: &Options, work: Work) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); Way::ALL.len()];
    let part = options.pairs().div_ceil(SCENES);
    for begin in (0..options.pairs()).step_by(part as usize) {
        let scenes: Vec<Scene> = Way::ALL.into_iter().map(Scene::new).collect::<Result<_>>()?;
        let counts: Vec<u32> =
            scenes.iter().map(|scene| work.calibrate(scene, options.seconds())).collect::<Result<_>>()?;
        for round in begin..options.pairs().min(begin + part) {
            for place in 0..scenes.len() {
                let index = (place + round as usize) % scenes.len();
                samples[index].push(work.measure(&scenes[index], counts[index])?);
            }
        }
    }
    Ok(samples)
}
