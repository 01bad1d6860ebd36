//! How long the operator needs to come to rest: after restarts, and after a change of everything.

use crate::bench::Bench;
use crate::{Result, life, world};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Instant;

const S: &str = "s";
/// From a restart until it is at rest, in seconds.
const RESTART: f64 = 10.0;

impl Bench<'_> {
    /// Restarts by each signal, so often.
    pub fn restarts(&mut self, times: usize) -> Result<()> {
        for (signal, name) in [(Signal::KILL, "SIGKILL"), (Signal::TERM, "SIGTERM")] {
            let mut all = Vec::new();
            for _ in 0..times {
                self.operator.stop(signal)?;
                let begin = Instant::now();
                self.operator.resume()?;
                all.push(self.settle(begin)?);
            }
            let of = |value: fn(&life::Settled) -> f64| all.iter().map(value).collect::<Vec<f64>>();
            self.alone(format!("restart after {name}, until at rest"), S, Some(RESTART), &of(|settled| settled.rest));
            self.alone(format!("restart after {name}, until it answers"), S, None, &of(|settled| settled.ready));
            self.alone(format!("restart after {name}, until it leads"), S, None, &of(|settled| settled.leads));
            self.alone(format!("restart after {name}, processor time"), S, None, &of(|settled| settled.processor));
            self.alone(format!("restart after {name}, writes"), "writes", None, &of(|settled| settled.writes));
        }
        Ok(())
    }

    /// Every SidecarProxy becomes another: each configuration is written anew, and each pod told.
    pub async fn change(&mut self) -> Result<()> {
        let fronted = (0..world::PODS).filter(|number| world::fronted(*number)).count() * self.namespaces;
        let before = self.spent()?;
        let (begin, realm) = (Instant::now(), "Everything");
        self.objects.all(world::other_realms(self.namespaces, realm.into()), |_| ()).await?;
        let changed = begin.elapsed().as_secs_f64();
        let settled = self.settle(begin)?;
        let spent = self.spent()? - before;
        let proxies = self.namespaces * world::PROXIES;
        let name = format!("change of {proxies} SidecarProxies with {fronted} pods");
        self.alone(format!("{name}, until the API server has taken it"), S, None, &[changed]);
        self.alone(format!("{name}, until at rest"), S, None, &[settled.rest]);
        self.alone(format!("{name}, processor time"), S, None, &[spent]);
        let there = self.control.admin().get(&[
            "-n",
            &world::namespace(0),
            "configmaps",
            "-l",
            "app.kubernetes.io/managed-by=sidewall-operator",
        ])?;
        let texts = there["items"]
            .as_array()
            .map(|items| items.iter().map(Value::to_string).collect::<Vec<_>>())
            .unwrap_or_default();
        if texts.is_empty() || !texts.iter().all(|text| text.contains(realm)) {
            return Err("the operator is at rest, and not every configuration is the new one".into());
        }
        Ok(())
    }
}
