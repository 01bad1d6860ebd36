//! The agent itself: how long until it is there again, what it holds, and what it does while nothing happens.

use crate::{MS, Result};
use rustix::process::Signal;
use sidewall_benches::report::Row;
use sidewall_node_tests::Agent;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// From a restart until all rules are in force, in milliseconds.
const RESTART: f64 = 2_000.0;
/// What it may hold, in MiB.
const MEMORY: f64 = 60.0;
/// What it may take of a processor while nothing happens, in percent.
const IDLE: f64 = 0.5;
/// How long a start may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(120);
/// How long it is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(5);

/// Ends and starts the agent so many times by each signal.
pub fn restarts(agent: &Agent<'_>, pods: usize, times: usize, tell: &mut dyn FnMut(Row)) -> Result<()> {
    // The last pods' addresses are still being made known to their peers, whose rules would rightly be loaded anew.
    thread::sleep(REST);
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::KILL, "SIGKILL")] {
        let (mut took, mut processor, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..times {
            agent.stop(signal)?;
            let begin = Instant::now();
            agent.resume()?;
            took.push(until_ready(agent, begin)?);
            processor.push(spent(agent.pid()?)? * 1e3);
            let way = |way: &str| agent.metric(&format!("sidewall_agent_changes_total{{way=\"{way}\"}}"));
            let (adopted, loaded) = (way("adopted")?, way("loaded")?);
            if adopted + loaded != pods as f64 {
                let said = format!("after {name} {adopted} rules were taken over and {loaded} loaded, of {pods} pods");
                return Err(format!("{said}:\n{}", agent.log()).into());
            }
            again.push(loaded);
        }
        tell(Row::alone(format!("restart after {name}, {pods} pods"), MS, Some(RESTART), &took));
        tell(Row::alone(format!("restart after {name}, {pods} pods, processor time"), MS, None, &processor));
        // One that is loaded anew is one too many: its rules stood, and its flows are judged again.
        let most = again.iter().copied().fold(0.0, f64::max);
        tell(Row::alone(
            format!("restart after {name}, {pods} pods, rules loaded anew at most"),
            "pods",
            Some(0.0),
            &[most],
        ));
    }
    Ok(())
}

/// Memory, descriptors, threads, and then what it does by itself for so long.
pub fn stay(agent: &Agent<'_>, pods: usize, idle: Duration, tell: &mut dyn FnMut(Row)) -> Result<()> {
    thread::sleep(REST);
    let pid = agent.pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let mebibytes = |text: &str, field: &str| number(text, field).map(|kibibytes| kibibytes / 1024.0);
    tell(Row::alone(format!("RSS, {pods} pods"), "MiB", Some(MEMORY), &[mebibytes(&status, "VmRSS:")?]));
    tell(Row::alone(
        format!("RSS, the most since its start, {pods} pods"),
        "MiB",
        None,
        &[mebibytes(&status, "VmHWM:")?],
    ));
    tell(Row::alone(format!("PSS, {pods} pods"), "MiB", None, &[mebibytes(&rollup, "Pss:")?]));
    tell(Row::alone(format!("of it anonymous, {pods} pods"), "MiB", None, &[mebibytes(&status, "RssAnon:")?]));
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    tell(Row::alone(format!("descriptors, {pods} pods"), "descriptors", None, &[descriptors as f64]));
    tell(Row::alone(format!("threads, {pods} pods"), "threads", None, &[number(&status, "Threads:")?]));
    let (before, begin) = (spent(pid)?, Instant::now());
    thread::sleep(idle);
    let part = (spent(pid)? - before) / begin.elapsed().as_secs_f64() * 100.0;
    tell(Row::alone(format!("idle, {pods} pods, {} s", idle.as_secs()), "% of a core", Some(IDLE), &[part]));
    Ok(())
}

fn until_ready(agent: &Agent<'_>, begin: Instant) -> Result<f64> {
    loop {
        match agent.page("readyz") {
            Ok(_) => return Ok(begin.elapsed().as_secs_f64() * 1e3),
            Err(error) if begin.elapsed() > LIMIT => return Err(format!("{error}\n{}", agent.log()).into()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Processor time of a process since its start, in seconds: also of threads that have ended. The kernel counts it exactly and
/// tells it in hundredths.
fn spent(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may have blanks; after it, utime and stime are the 12th and 13th (proc_pid_stat(5)).
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("no processor time");
    Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
}

fn number(text: &str, field: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|line| line.split_ascii_whitespace().next()).ok_or_else(|| format!("no {field}"))?;
    Ok(value.parse()?)
}
