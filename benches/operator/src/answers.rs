//! How long reviews take: asked directly, in turn with an empty webhook, and by the API server's own count.

use crate::bench::{Bench, WEBHOOKS};
use crate::load::{Asker, Outcome, quantile};
use crate::objects::Write;
use crate::reviews::Pods;
use crate::{Result, floor, life, reviews, world};
use base64::Engine;
use rustix::process::Signal;
use serde_json::json;
use sidewall_benches::report::{Row, Sample};
use std::time::{Duration, Instant};

const MS: &str = "ms";
/// What 99 of 100 reviews may take at most, in milliseconds.
const REVIEW: f64 = 5.0;
/// The name of the webhooks' Service.
const HOST: &str = "sidewall-operator.sidewall-system.svc";
/// How many news come a second while reviews are asked for.
const NEWS: u32 = 20;
/// The webhook, in the API server's own count.
const WEBHOOK: &str = "inject.sidewall.dev";

impl Bench<'_> {
    /// Reviews at a rate, in turn by the operator and by an empty webhook.
    pub async fn reviews(&mut self) -> Result<()> {
        let quick = self.arguments.options.quick;
        let rounds = self.arguments.rounds.unwrap_or(if quick { 1 } else { 6 });
        let time = Duration::from_secs(self.arguments.seconds.unwrap_or(if quick { 3 } else { 10 }));
        let rate = self.arguments.rate;
        let cell = self.control.cell();
        let there = self.control.admin().get(&["mutatingwebhookconfiguration", "sidewall-inject"])?;
        let bundle = there["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        let bundle = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(bundle)?)?;
        let [authorities, certificate, key] = floor::certificates()?;
        let files = ["/etc/floor/tls.crt", "/etc/floor/tls.key"];
        cell.write(files[0], certificate)?;
        cell.write(files[1], key)?;
        let program = std::env::current_exe()?.display().to_string();
        let command = [program, "floor".into(), files[0].into(), files[1].into()];
        cell.start("floor", &command, &[("MALLOC_ARENA_MAX", "2")])?;
        let mut tried = 0;
        while let Err(error) = Asker::connect(cell.netns(), floor::PORT, floor::HOST, &authorities).await {
            if tried > 50 {
                return Err(format!("{error}\n{}", cell.log("floor")).into());
            }
            tried += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (us, peer) = (self.operator.pid()?, cell.service_pid("floor")?);
        let (objects, namespaces) = (self.objects.clone(), self.namespaces);
        let news = tokio::spawn(async move {
            for number in 0.. {
                objects.write(world::news(namespaces, number)).await?;
                tokio::time::sleep(Duration::from_secs(1) / NEWS).await;
            }
            Result::Ok(())
        });
        for (name, path, questions, target) in [
            ("review /inject, all get a proxy", "/inject", reviews::pods(self.namespaces, Pods::Fronted), true),
            ("review /inject, 3 of 10 get a proxy", "/inject", reviews::pods(self.namespaces, Pods::AsThere), false),
            ("review /validate, policies", "/validate", reviews::policies(self.namespaces), false),
        ] {
            let octets = questions.iter().map(|question| question.len()).sum::<usize>() / questions.len().max(1);
            let mut all = Outcome::default();
            let mut outcomes: Vec<(Outcome, Outcome)> = Vec::new();
            let mut spent: Vec<(Sample, Sample)> = Vec::new();
            for round in 0..rounds {
                let mut pair: [(Outcome, f64); 2] = Default::default();
                for of_ours in [round % 2 == 0, round % 2 != 0] {
                    let (port, host, authorities, pid) = match of_ours {
                        true => (WEBHOOKS, HOST, &bundle, us),
                        false => (floor::PORT, floor::HOST, &authorities, peer),
                    };
                    // Another connection for each load: who answers lets none last for long.
                    let asker = Asker::connect(cell.netns(), port, host, authorities).await?;
                    let before = life::spent(pid)?;
                    let outcome = asker.load(path, &questions, rate, time).await?;
                    pair[usize::from(!of_ours)] = (outcome, life::spent(pid)? - before);
                }
                let [(ours, used), (peer, used_by_peer)] = pair;
                let sample = |outcome: &Outcome, seconds: f64| Sample { count: outcome.took.len() as f64, seconds };
                spent.push((sample(&ours, used), sample(&peer, used_by_peer)));
                all.took.extend(&ours.took);
                all.late.extend(&ours.late);
                all.patched += ours.patched;
                outcomes.push((ours, peer));
            }
            all.took.sort_by(f64::total_cmp);
            all.late.sort_by(f64::total_cmp);
            let part = |part: f64| [quantile(&all.took, part)];
            self.alone(format!("{name}, p50"), MS, None, &part(0.5));
            self.alone(format!("{name}, p99"), MS, target.then_some(REVIEW), &part(0.99));
            self.alone(format!("{name}, p99.9"), MS, None, &part(0.999));
            let p99 = |outcome: &Outcome| Sample { count: 1.0, seconds: quantile(&outcome.took, 0.99) / 1e3 };
            let pairs: Vec<(Sample, Sample)> = outcomes.iter().map(|(ours, peer)| (p99(ours), p99(peer))).collect();
            self.tell(Row::costs(format!("{name}, p99 of a round / empty webhook"), None, &pairs));
            self.tell(Row::costs(format!("{name}, processor time / empty webhook"), None, &spent));
            println!(
                "    {} reviews of {octets} octets at {rate} a second, {} with a patch; sent late by {:.2} ms (p50), {:.2} ms (p99); load {}",
                all.took.len(),
                all.patched,
                quantile(&all.late, 0.5),
                quantile(&all.late, 0.99),
                life::machine()
            );
        }
        if news.is_finished() {
            return Err(format!("news could not be written: {:?}", news.await).into());
        }
        news.abort();
        cell.stop("floor", Signal::TERM, Duration::from_secs(10)).map(drop)?;
        Ok(())
    }

    /// What the API server itself says of the webhook, while pods are made that are not kept.
    pub async fn admissions(&mut self) -> Result<()> {
        let seconds = if self.arguments.options.quick { 3 } else { 30 };
        let rate = 50_u32;
        let before = self.counted()?;
        let begin = Instant::now();
        let mut made = tokio::task::JoinSet::new();
        let all = (0..self.namespaces).cycle().zip((0..world::PODS).filter(|number| world::fronted(*number)).cycle());
        for (number, (namespace, pod)) in all.take(rate as usize * seconds).enumerate() {
            let mut object = world::pod(namespace, pod, "");
            object["metadata"]["name"] = json!(format!("dry-{number}"));
            let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", world::namespace(namespace));
            let objects = self.objects.clone();
            tokio::time::sleep_until((begin + Duration::from_secs(1) * u32::try_from(number)? / rate).into()).await;
            made.spawn(async move { objects.write(Write::Create(path, object)).await.map(drop) });
        }
        while let Some(made) = made.join_next().await {
            made??;
        }
        let after = self.counted()?;
        let [count, sum, soon] = [0, 1, 2].map(|index| after[index] - before[index]);
        let name = format!("API server's own count, {rate} pods a second");
        self.alone(format!("{name}, mean"), MS, None, &[sum / count * 1e3]);
        self.alone(format!("{name}, part that took over 5 ms"), "%", None, &[(1.0 - soon / count) * 100.0]);
        println!("    {count} calls of {WEBHOOK}; load {}", life::machine());
        Ok(())
    }

    /// How many calls the API server has counted, their seconds, and how many took 5 ms at most.
    fn counted(&self) -> Result<[f64; 3]> {
        let page = self.control.admin().kubectl(&["get", "--raw", "/metrics"])?;
        let metric = "apiserver_admission_webhook_admission_duration_seconds";
        let of = |suffix: &str, le: &str| -> f64 {
            let begin = format!("{metric}{suffix}{{");
            let ours =
                page.lines().filter(|line| line.starts_with(&begin) && line.contains(WEBHOOK) && line.contains(le));
            ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok([of("_count", ""), of("_sum", ""), of("_bucket", "le=\"0.005\"")])
    }
}
