//! The operator itself: how long until it is at rest again, what it holds, and what it does while nothing happens.

use crate::Result;
use sidewall_node_tests::Operator;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to come to rest.
const LIMIT: Duration = Duration::from_secs(900);
/// How long nothing may have been looked at or written for rest: longer than the operator defers anything.
const QUIET: Duration = Duration::from_secs(7);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(20);

/// How an operator came to rest; seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settled {
    /// Until it answered reviews.
    pub ready: f64,
    /// Until it led.
    pub leads: f64,
    /// Until the last look and the last write.
    pub rest: f64,
    /// How many looks there were since it was first asked.
    pub looks: f64,
    /// How many writes, likewise.
    pub writes: f64,
    /// Processor time since its start.
    pub processor: f64,
}

/// Waits until an operator leads, knows so many pods, and does nothing more.
pub fn settle(operator: &Operator<'_>, begin: Instant, pods: usize) -> Result<Settled> {
    let mut settled = Settled::default();
    let mut first: Option<(f64, f64)> = None;
    let mut last = begin;
    loop {
        thread::sleep(LOOK);
        let seconds = begin.elapsed().as_secs_f64();
        if begin.elapsed() > LIMIT {
            return Err(format!("it does not come to rest, {settled:?}:\n{}", operator.log()).into());
        }
        if settled.ready == 0.0 && operator.page("readyz").is_ok() {
            settled.ready = seconds;
        }
        // It may not be there yet.
        let Ok(page) = operator.page("metrics") else { continue };
        let now = (sum(&page, "sidewall_operator_looks_total{"), sum(&page, "sidewall_operator_writes_total{"));
        let before = *first.get_or_insert(now);
        let seen = (now.0 - before.0, now.1 - before.1);
        if seen != (settled.looks, settled.writes) {
            (settled.looks, settled.writes, settled.rest) = (seen.0, seen.1, seconds);
            last = Instant::now();
        }
        let leads = sum(&page, "sidewall_operator_leads ") > 0.0;
        if leads && settled.leads == 0.0 {
            settled.leads = seconds;
            last = Instant::now();
        }
        let known = sum(&page, "sidewall_operator_known_objects{kind=\"pods\"}") as usize;
        if leads && known == pods && settled.ready > 0.0 && last.elapsed() > QUIET {
            settled.rest = settled.rest.max(settled.leads);
            settled.processor = spent(operator.pid()?)?;
            return Ok(settled);
        }
    }
}

/// The sum of all that a page of metrics says under names that begin so.
pub fn sum(page: &str, begin: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(begin));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// What of a process is in memory, in MiB: a field of `/proc/PID/status`.
pub fn memory(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|line| line.split_ascii_whitespace().next()).ok_or_else(|| format!("no {field}"))?;
    Ok(value.parse::<f64>()? / 1024.0)
}

/// Processor time of a process since its start, in seconds: also of threads that have ended. The kernel counts it exactly and
/// tells it in hundredths.
pub fn spent(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may have blanks; after it, utime and stime are the 12th and 13th (proc_pid_stat(5)).
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("no processor time");
    Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
}

/// How much others want of the machine: the mean number of tasks that could run, of the last minute.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
