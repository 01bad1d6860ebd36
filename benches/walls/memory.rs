//! What it takes to put walls up as policies grow in number: time, and memory of the program and of the kernel.
//!
//! Each time is a process of its own, so that what an earlier one left in its heap does not count.

use crate::Result;
use crate::curve::thousands;
use crate::flows::ours;
use crate::input::{Kind, Transport, Version};
use crate::iptables::Flavour;
use crate::pod::{Groups, PodNet, Way, sweep};
use crate::walls::{By, Cluster, Load, Rules, Style, Walls};
use serde::{Deserialize, Serialize};
use sidewall_benches::Options;
use sidewall_benches::report::Row;
use sidewall_policy::{Generation, compile};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The argument that makes this program a loader; the walls follow.
pub const ARGUMENT: &str = "--loader";
/// How long one row's measurements may take together, once there is one.
const LIMIT: Duration = Duration::from_secs(8);
/// How many tenths of a second are waited for the kernel's memory to come to rest; others may never let it.
const SETTLE: u32 = 30;
/// How long one loading may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the kernel's memory for rules is part of, by its names in `/proc/meminfo`.
const KERNEL: [&str; 3] = ["Slab:", "VmallocUsed:", "Percpu:"];

/// What one loading took.
#[derive(Serialize, Deserialize)]
struct Took {
    /// Resolving and compiling, or writing the script, in milliseconds.
    make: f64,
    /// Putting it up, in milliseconds.
    put_up: f64,
    /// How much more memory than before this process had at most, in MiB.
    peak: f64,
    /// How much more memory the kernel has than before, in MiB. Other processes move it too.
    kernel: f64,
    /// What was loaded, in words.
    size: String,
}

/// Measures every row that is wanted.
///
/// # Errors
/// When something can't be loaded.
pub fn run(options: &Options, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let counts: &[usize] = if options.quick { &[1, 10, 100] } else { &[1, 10, 100, 1_000, 10_000] };
    for &count in counts {
        let load = Load::Policies(count);
        let mut all = vec![
            ("ContainerNetworkPolicy".to_owned(), ours(load)),
            ("NetworkPolicy".to_owned(), Walls::Ours { by: By::Cgroup, kind: Kind::Network, load }),
        ];
        for style in [Style::Owner, Style::Multi] {
            for flavour in Flavour::ALL {
                let name = format!("({}, {})", flavour.name(), style.name());
                all.push((name, Walls::Iptables { flavour, style, load }));
            }
        }
        for (name, walls) in all {
            let noun = if count == 1 { "policy" } else { "policies" };
            let name = format!("put up, {} {noun}, {name}", thousands(count));
            if !options.wants(&name) || walls.missing().is_some() {
                continue;
            }
            let begin = Instant::now();
            let mut took = Vec::new();
            while took.len() < options.pairs() as usize && (took.is_empty() || begin.elapsed() < LIMIT) {
                match once(walls)? {
                    Some(once) => took.push(once),
                    None => break,
                }
            }
            if took.is_empty() {
                eprintln!("not measured: {name} (takes longer than {} s)", PATIENCE.as_secs());
                continue;
            }
            println!("{name}: {}", took[0].size);
            let of = |value: fn(&Took) -> f64| took.iter().map(value).collect::<Vec<_>>();
            tell(Row::alone(name.clone(), "ms", None, &of(|took| took.make + took.put_up)));
            if matches!(walls, Walls::Ours { .. }) {
                tell(Row::alone(format!("{name}, resolve and compile"), "ms", None, &of(|took| took.make)));
                tell(Row::alone(format!("{name}, encode, send and acknowledge"), "ms", None, &of(|took| took.put_up)));
                tell(Row::alone(format!("{name}, memory of the program"), "MiB", None, &of(|took| took.peak)));
            }
            // With fewer, what others do with the kernel's memory is more than ours.
            if count >= 10_000 {
                tell(Row::alone(format!("{name}, memory of the kernel"), "MiB", None, &of(|took| took.kernel)));
            }
        }
    }
    Ok(())
}

/// None where it takes too long.
fn once(walls: Walls) -> Result<Option<Took>> {
    let mut loader = Command::new("/proc/self/exe")
        .args([ARGUMENT, &serde_json::to_string(&walls)?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let end = Instant::now() + PATIENCE;
    // What it says fits into the pipe.
    while loader.try_wait()?.is_none() {
        if Instant::now() > end {
            loader.kill()?;
            loader.wait()?;
            // Its cgroups.
            sweep()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = loader.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("loading {walls:?} failed ({})", output.status).into());
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// Waits until the kernel has given back what an earlier namespace took: it does so later, by and by.
fn settle() -> Result<()> {
    let mut before = kernel()?;
    for _ in 0..SETTLE {
        std::thread::sleep(Duration::from_millis(100));
        let now = kernel()?;
        if (now - before).abs() < 0.25 {
            break;
        }
        before = now;
    }
    Ok(())
}

/// A loader's life.
///
/// # Errors
/// When it can't load.
pub fn serve(walls: &str) -> Result<()> {
    let walls: Walls = serde_json::from_str(walls)?;
    let groups = Groups::new()?;
    let net = PodNet::new(None)?;
    let (way, version, transport) = (Way::Out, Version::V4, Transport::Tcp);
    // What the program watches anyway is there before.
    let mut cluster = match walls {
        Walls::Ours { .. } => {
            let (world, subject) = walls.world(&groups, way, version, transport)?;
            Some(Cluster::new(world, subject)?)
        }
        _ => None,
    };
    settle()?;
    let before = peak(true)?;
    let kernel_before = kernel()?;
    let begin = Instant::now();
    let rules = match &mut cluster {
        Some(cluster) => Rules::Ours(Box::new(compile(&cluster.resolve()?, Generation::FIRST).ruleset)),
        None => walls.prepare(&groups, way, version, transport)?,
    };
    let made = Instant::now();
    rules.put_up(&net.pod)?;
    let up = Instant::now();
    let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    let took = Took {
        make: milliseconds(begin, made),
        put_up: milliseconds(made, up),
        peak: peak(false)? - before,
        kernel: kernel()? - kernel_before,
        size: rules.size(),
    };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

/// The most memory that this process had, in MiB; since now, if so wanted.
fn peak(anew: bool) -> Result<f64> {
    if anew {
        // proc(5): 5 sets the peak to what it is now.
        std::fs::write("/proc/self/clear_refs", "5")?;
    }
    field(&std::fs::read_to_string("/proc/self/status")?, "VmHWM:")
}

/// The kernel's own memory, of the sorts that rules take, in MiB.
fn kernel() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    KERNEL.iter().map(|name| field(&text, name)).sum()
}

/// A line of `NAME: NUMBER kB`, in MiB.
fn field(text: &str, name: &str) -> Result<f64> {
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(number.ok_or_else(|| format!("the kernel tells no {name}"))? / 1024.0)
}
