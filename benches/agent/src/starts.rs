//! What a pod's start costs with walls, beside the same on a node without Sidewall.

use crate::objects::Objects;
use crate::pods::{Runtime, Took, Wanted};
use crate::{MS, Result, world};
use sidewall_benches::report::{Row, Sample};
use sidewall_benches::stats;
use std::time::Duration;

/// How much longer a start may take, in milliseconds; the median.
const LONGER: f64 = 15.0;
/// The wait between a pod's object and its start: a kubelet mounts volumes meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Measures `pairs` pairs, who is first in turn.
pub async fn run(
    objects: &Objects,
    ours: &Runtime<'_>,
    peer: &Runtime<'_>,
    pairs: usize,
    tell: &mut dyn FnMut(Row),
) -> Result<()> {
    let mut took: Vec<(Took, Took)> = Vec::new();
    // The first of each finds nothing in any cache.
    for number in 0..=pairs {
        let mut pair = (Took::default(), Took::default());
        for with in [number % 2 == 0, number % 2 != 0] {
            let runtime = if with { ours } else { peer };
            let name = format!("start-{number}-{}", if with { "walled" } else { "open" });
            // The same labels each time: application 0 of a team, which five policies select.
            let pod = Wanted { namespace: world::team(number), name, number: 0 };
            let uid = runtime.admit(objects, &pod).await?;
            tokio::time::sleep(PAUSE).await;
            let running = runtime.start(&pod, uid, 1).await?;
            *(if with { &mut pair.0 } else { &mut pair.1 }) = running.took;
            runtime.end(objects, &running).await?;
        }
        if number > 0 {
            took.push(pair);
        }
    }
    let more = |of: fn(Took) -> f64| -> Vec<f64> { took.iter().map(|(ours, peer)| of(*ours) - of(*peer)).collect() };
    tell(Row::alone("pod start, more than without", MS, Some(LONGER), &more(Took::all)));
    tell(Row::alone("pod start, more: RunPodSandbox (CNI ADD)", MS, None, &more(|took| took.sandbox)));
    tell(Row::alone("pod start, more: CreateContainer", MS, None, &more(|took| took.create)));
    tell(Row::alone("pod start, more: StartContainer (NRI)", MS, None, &more(|took| took.start)));
    let sample = |took: Took| Sample { count: 1.0, seconds: took.all() / 1e3 };
    let samples: Vec<(Sample, Sample)> = took.iter().map(|(ours, peer)| (sample(*ours), sample(*peer))).collect();
    tell(Row::costs("pod start / without", None, &samples));
    let medians = |of: fn(Took) -> f64| {
        let (ours, peer): (Vec<f64>, Vec<f64>) = took.iter().map(|(ours, peer)| (of(*ours), of(*peer))).unzip();
        format!("{:.1} | {:.1}", stats::median(&ours), stats::median(&peer))
    };
    println!(
        "    medians with | without, ms: all {}, RunPodSandbox {}, CreateContainer {}, StartContainer {}",
        medians(Took::all),
        medians(|took| took.sandbox),
        medians(|took| took.create),
        medians(|took| took.start),
    );
    Ok(())
}
