//! Several kinds of walls, measured in turn.

use crate::Result;
use crate::pod::Groups;
use crate::scene::{Place, Scene};
use crate::walls::{Rules, Walls};
use crate::worker::Timing;
use sidewall_benches::Options;
use sidewall_benches::report::Sample;
use std::time::{Duration, Instant};

/// How often all sides are made anew: where the kernel happens to put things must not decide.
const SCENES: u32 = 3;
/// Unless making them takes so long.
const LONG: Duration = Duration::from_secs(5);

/// What was measured: for each kind of walls as many timings as there were rounds, those of one round at one place.
pub struct Rounds(Vec<Vec<Timing>>);

impl Rounds {
    /// Measures each once in a round.
    ///
    /// # Errors
    /// When walls can't be put up, or do not what they should.
    pub fn measure(options: &Options, place: Place, walls: &[Walls], together: &mut Together) -> Result<Self> {
        let groups = Groups::new()?;
        let transport = place.work.transport();
        let rules: Vec<Rules> = walls
            .iter()
            .map(|walls| walls.prepare(&groups, place.way, place.version, transport))
            .collect::<Result<_>>()?;
        let mut timings = vec![Vec::new(); walls.len()];
        let mut round = 0;
        while round < options.pairs() {
            let begin = Instant::now();
            let mut scenes = Vec::new();
            for (walls, rules) in walls.iter().zip(&rules) {
                scenes.push(Scene::new(*walls, rules, &groups, place, options.seconds())?);
            }
            let part = if begin.elapsed() > LONG { options.pairs() } else { options.pairs().div_ceil(SCENES) };
            let end = options.pairs().min(round + part);
            for round in round..end {
                // Who is first takes turns.
                for place in 0..scenes.len() {
                    let index = (place + round as usize) % scenes.len();
                    let timing = scenes[index].measure()?;
                    together.cpu += timing.sample.seconds;
                    together.wall += timing.wall;
                    timings[index].push(timing);
                }
            }
            round = end;
        }
        Ok(Self(timings))
    }

    /// One beside another, in processor time.
    pub fn pairs(&self, ours: usize, peer: usize) -> Vec<(Sample, Sample)> {
        self.0[ours].iter().map(|timing| timing.sample).zip(self.0[peer].iter().map(|timing| timing.sample)).collect()
    }
}

/// Real time and processor time of everything measured: where they differ, work was done elsewhere or others ran.
#[derive(Default)]
pub struct Together {
    cpu: f64,
    wall: f64,
}

impl Together {
    /// Says how far they were apart.
    pub fn tell(&self) {
        if self.wall > 0.0 {
            let part = self.cpu / self.wall * 100.0;
            println!("The measured processes had their processor for {part:.1} % of the time that they took.");
        }
    }
}
