//! The processes that this crate's tests need beside themselves: a prober, and a supervisor to be killed.
//!
//! - `prober NAME`: serves [`sidewall_sandbox::prober`] on the standard streams.
//! - `supervise MANIFEST.json STATE_ROOT`: runs the pod until it is killed; prints `ready` when it is.

#![forbid(unsafe_code)]

use std::time::Duration;

use sidewall_sandbox::{Options, Sandbox, prober};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prober", name] => Ok(prober::serve_stdio(name)?),
        ["supervise", manifest, root] => {
            let pod = serde_json::from_slice(&std::fs::read(manifest)?)?;
            let running =
                Sandbox::prepare(&pod, &Options { state_root: root.into(), ..Options::default() })?.start()?;
            running.wait_until(Duration::from_secs(30), |s| s.ready || s.finished);
            println!("ready");
            running.wait();
            Ok(running.stop().map(drop)?)
        }
        _ => Err("usage: prober NAME | supervise MANIFEST.json STATE_ROOT".into()),
    }
}
