//! `sidewall run`: a pod on this machine, behind its walls, until it ends or is ended.

mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use sidewall_netfilter::Missing;
use sidewall_sandbox::{LogLine, Options, Phase, Published, Running, publish};

use super::Answer;
use crate::args::{IdentityChoice, Publish, Run, StateDir};
use crate::error::Error;
use crate::flow_log::{FlowLog, Output};
use crate::programs::Programs;
use crate::scene::{Scene, Sources};
use crate::screen::Screen;
use crate::signals;
use crate::walled_pod::{View, prepare};
use crate::walls::{Raised, Walls};
use crate::watch::Watch;
use tell::Told;

pub use tell::{Voice, states};

/// How often the pod is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often the kernel's rules are compared with what was loaded. Where nothing changed, that is one short question.
const VERIFY: Duration = Duration::from_secs(2);

/// How much may wait to be told: then containers wait with their output.
const WAITING: usize = 4096;

/// The most flow records that are shown at a time.
const SHOWN: usize = 256;

/// Where events come together.
pub fn events() -> (SyncSender<Event>, Receiver<Event>) {
    sync_channel(WAITING)
}

/// What happens while a pod runs.
pub enum Event {
    /// A container wrote something.
    Output(LogLine),
    /// A file changed.
    Files,
    /// The so-many-th signal came.
    Signal(usize),
}

/// What is to run.
pub struct Job {
    /// The pod and its policies.
    pub sources: Sources,
    /// How containers are told apart.
    pub identity: IdentityChoice,
    /// What is published.
    pub publish: Vec<Publish>,
    /// Whether there are walls.
    pub walls: bool,
    /// Where the pod is written down.
    pub state: PathBuf,
    /// Where flow records are written, beside being told.
    pub flow_log: Option<Output>,
}

/// Runs a pod until it ends, or until a signal ends it.
///
/// # Errors
/// Bad input, or whatever keeps the pod from being made; nothing is left of it then.
pub fn run(options: &Run, screen: &Screen) -> Result<Answer, Error> {
    let StateDir { state_dir } = &options.state;
    let job = Job {
        sources: Sources::new(&options.input.pod, options.input.name.as_ref(), &options.input.policies),
        identity: options.identity.identity,
        publish: options.publish.clone(),
        walls: !options.no_walls,
        state: state_dir.clone(),
        flow_log: options.flow_log(),
    };
    // Standard output is the log's alone, where it goes there.
    let screen = if job.flow_log == Some(Output::Stdout) { screen.aside() } else { *screen };
    let (events, happened) = events();
    let signals = events.clone();
    signals::watch(move |count| drop(signals.send(Event::Signal(count))))?;
    let programs = Programs::find()?;
    let up = Up::bring(&job, &programs, &events, Voice::new(screen).verbose(options.verbose))?;
    // A signal that came meanwhile is among the first things to be read.
    let well = up.follow(&happened)?;
    Ok(if well { Answer::Yes } else { Answer::No })
}

/// A pod that is up, with everything that belongs to it.
pub struct Up {
    /// The pod.
    pub running: Running,
    /// What is known of it.
    pub view: View,
    /// Where its ports are published.
    pub published: Vec<Published>,
    walls: Option<Walls>,
    voice: Voice,
    sources: Sources,
    manifest: Pod,
    verified: Instant,
    states: BTreeMap<String, String>,
    /// What was told that this kernel can't do.
    missing: BTreeSet<Missing>,
    flows: Option<FlowLog>,
    /// Whether flow records are told with everything else.
    tell_flows: bool,
    _watch: Watch,
}

impl Up {
    /// Makes the pod, raises its walls, and starts it.
    ///
    /// # Errors
    /// Whatever keeps it from being made; nothing is left of it then.
    pub fn bring(job: &Job, programs: &Programs, events: &SyncSender<Event>, voice: Voice) -> Result<Self, Error> {
        // Before they are read: what changes meanwhile must not be missed.
        let changed = events.clone();
        let watch =
            Watch::start(job.sources.files().cloned().collect(), move || changed.try_send(Event::Files).is_ok())?;
        let scene = Scene::read(&job.sources)?;
        let manifest = programs.at_home(&scene.manifest, &job.sources.directory()?);
        let sink = events.clone();
        let options = Options {
            state_root: job.state.clone(),
            log_sink: Some(Arc::new(move |line: &LogLine| drop(sink.send(Event::Output(line.clone()))))),
            ..Options::default()
        };
        for finding in sidewall_sandbox::check_supported(&scene.manifest) {
            if finding.severity == sidewall_sandbox::Severity::Warning {
                voice.tell(&Told::Warning { message: &finding.to_string() });
            }
        }
        let standing = prepare(&scene, &manifest, job.identity, job.walls, &options)?;
        voice.notes(&scene.notes(&standing.view.resolved));
        standing.warnings.iter().for_each(|message| voice.tell(&Told::Warning { message }));
        let pod = standing.prepared.pod().clone();
        // Before anything runs: a port that is taken should stop everything.
        let published: Result<Vec<Published>, _> =
            job.publish.iter().map(|wanted| publish(&pod, wanted.at, wanted.port)).collect();
        let published = published?;
        // Before anything runs: the first denial may be the one that matters.
        let directory = sidewall_sandbox::directory(&job.state, &pod.info().namespace, &pod.info().name);
        if job.flow_log.is_some() && !standing.logs {
            return Err(Error::NoLog);
        }
        let flows = match job.walls && standing.logs {
            true => Some(FlowLog::start(&pod, &standing.view, &directory, job.flow_log.as_ref())?),
            false => None,
        };
        let raised = standing.raised;
        let (running, view, walls) = standing.start()?;
        let ports: Vec<(std::net::SocketAddr, u16)> =
            published.iter().zip(&job.publish).map(|(at, wanted)| (at.at(), wanted.port)).collect();
        voice.started(pod.info(), &view, walls.is_some().then_some(raised), &ports);
        let mut up = Self {
            running,
            view,
            published,
            walls,
            voice,
            sources: job.sources.clone(),
            manifest: scene.manifest,
            verified: Instant::now(),
            states: BTreeMap::new(),
            missing: BTreeSet::new(),
            flows,
            tell_flows: job.flow_log != Some(Output::Stdout),
            _watch: watch,
        };
        up.tell_missing();
        Ok(up)
    }

    /// Follows the pod to its end and removes it. Says whether it ended well: by itself with success, or by a signal.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn follow(mut self, happened: &Receiver<Event>) -> Result<bool, Error> {
        let mut asked = false;
        loop {
            match happened.recv_timeout(LOOK) {
                Ok(Event::Signal(count)) => {
                    asked = true;
                    self.voice.tell(&Told::Ending { at_once: count > 1 });
                    // Connections in flight are the containers' to end: published ports stay until the pod is gone.
                    self.running.terminate((count > 1).then_some(Duration::ZERO));
                }
                Ok(event) => self.happened(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.tell_flows(SHOWN);
            self.look();
            if self.running.status().finished {
                break;
            }
        }
        let Self { running, published, voice, walls, flows, tell_flows, .. } = self;
        let status = running.stop();
        drop(published);
        if let Some(mut flows) = flows {
            flows.finish(walls.map_or(0, |mut walls| walls.counted()));
            std::iter::from_fn(|| flows.take()).filter(|_| tell_flows).for_each(|record| voice.record(&record));
        }
        let status = status?;
        // What the containers wrote last.
        while let Ok(event) = happened.recv_timeout(Duration::from_millis(20)) {
            if let Event::Output(line) = event {
                voice.output(&line);
            }
        }
        voice.tell(&Told::Ended { phase: status.phase });
        Ok(asked || status.phase != Phase::Failed)
    }

    /// Speaks with another voice from now on.
    pub fn speak(&mut self, voice: Voice) {
        self.voice = voice;
    }

    /// Ends the pod now, in good order.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn end(self) -> Result<(), Error> {
        self.running.stop()?;
        Ok(())
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Output(line) => self.voice.output(&line),
            Event::Signal(_) => {}
            Event::Files => self.reload(),
        }
    }

    /// Takes a new version of the policies. A bad one is refused, and the old one stays.
    fn reload(&mut self) {
        let scene = match Scene::read(&self.sources) {
            Ok(scene) => scene,
            Err(error) => return self.voice.refused(&error),
        };
        if scene.manifest != self.manifest {
            let message = "the Pod itself has changed: end it and run it again for that";
            self.voice.tell(&Told::Warning { message });
        }
        let Some(walls) = &mut self.walls else { return };
        // A new proxy may ask for more than the old ones did.
        let info = self.running.pod().info();
        if let Err(error) = self.view.identity.check_made(&scene.manifest, &scene.loaded, info) {
            return self.voice.refused(&error);
        }
        let view = self.view.under(&scene);
        match walls.raise(&view.resolved) {
            Ok((raised, entry)) => {
                self.view = view;
                self.flows.iter().for_each(|flows| flows.update(&self.view));
                self.voice.notes(&scene.notes(&self.view.resolved));
                self.voice.tell(&Told::Reloaded { generation: generation(raised), entry: entry.into() });
                self.tell_missing();
            }
            Err(error) => self.voice.refused(&error),
        }
    }

    /// Tells what this kernel can't do of what the rules ask for, each once.
    fn tell_missing(&mut self) {
        for missing in self.walls.iter().flat_map(Walls::missing) {
            if self.missing.insert(missing.clone()) {
                self.voice.missing(missing);
            }
        }
    }

    /// Tells what the flow log has, some of it at a time.
    fn tell_flows(&mut self, most: usize) {
        let Some(flows) = self.flows.as_ref().filter(|_| self.tell_flows) else { return };
        std::iter::from_fn(|| flows.take()).take(most).for_each(|record| self.voice.record(&record));
    }

    /// Compares what the rules counted with what the flow log told.
    fn account(&mut self) {
        if let (Some(walls), Some(flows)) = (&mut self.walls, &mut self.flows)
            && flows.is_due()
        {
            flows.account(walls.counted());
        }
    }

    fn look(&mut self) {
        for (name, state) in states(&self.running.status()) {
            if self.states.get(&name) != Some(&state) {
                self.voice.tell(&Told::Container { container: &name, state: &state });
                self.states.insert(name, state);
            }
        }
        if self.verified.elapsed() < VERIFY {
            return;
        }
        self.verified = Instant::now();
        self.account();
        let Some(walls) = &mut self.walls else { return };
        match walls.repair() {
            Ok(None) => {}
            Ok(Some(repaired)) => {
                let differences: Vec<String> = repaired.differences.iter().map(ToString::to_string).collect();
                self.voice.tell(&Told::Repaired { differences: &differences, flows: repaired.flows });
            }
            Err(error) => self.voice.tell(&Told::Broken { message: &error.to_string() }),
        }
    }
}

/// The number of what is in force.
fn generation(raised: Raised) -> Option<u8> {
    match raised {
        Raised::Rules(generation) => Some(generation.get()),
        Raised::None => None,
    }
}
