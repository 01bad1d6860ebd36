//! `sidewall run`: a pod on this machine, behind its walls, until it ends or is ended.

mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use sidewall_netfilter::Missing;
use sidewall_sandbox::{LogLine, Options, Phase, Published, Running, Segment, publish};

use super::Answer;
use crate::args::wall::Split;
use crate::args::{IdentityChoice, Publish, Run, StateDir};
use crate::error::Error;
use crate::flow_log::{FlowLog, Output};
use crate::parting::Parting;
use crate::programs::Programs;
use crate::scene::{Scene, Sources};
use crate::screen::Screen;
use crate::signals;
use crate::split_pod;
use crate::walled_pod::{Standing, View, prepare};
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
    /// How it is split, where it is.
    pub split: Option<Split>,
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
        split: options.wall.split()?,
        state: state_dir.clone(),
        flow_log: options.flow_log(),
    };
    if job.split.is_some() && !job.walls {
        return Err(Error::SplitWithoutWalls);
    }
    // Standard output is the log's alone, where it goes there.
    let screen = if job.flow_log == Some(Output::Stdout) { screen.aside() } else { *screen };
    let (events, happened) = events();
    let signals = events.clone();
    signals::watch(move |count| drop(signals.send(Event::Signal(count))))?;
    let programs = Programs::find()?;
    let voice = Voice::new(screen).verbose(options.verbose);
    // A signal that comes meanwhile is among the first things to be read.
    let well = match &job.split {
        None => Up::bring(&job, &programs, &events, voice)?.follow(&happened)?,
        Some(split) => {
            let (ups, segment) = Up::bring_split(&job, split, &programs, &events, voice)?;
            let well = follow(ups, &happened)?;
            drop(segment);
            well
        }
    };
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
    /// The files' changes; one of a split pod's parts is told of them for all.
    _watch: Option<Watch>,
}

/// What a pod is made of, once its files are read.
struct Ground {
    scene: Scene,
    /// The scene's manifest, with what its containers find here.
    manifest: Pod,
    options: Options,
    watch: Watch,
}

impl Up {
    /// Makes the pod, raises its walls, and starts it.
    ///
    /// # Errors
    /// Whatever keeps it from being made; nothing is left of it then.
    pub fn bring(job: &Job, programs: &Programs, events: &SyncSender<Event>, voice: Voice) -> Result<Self, Error> {
        let Ground { scene, manifest, options, watch } = Ground::read(job, programs, events, voice)?;
        let standing = prepare(&scene, &manifest, job.identity, job.walls, &options)?;
        voice.notes(&scene.notes(&standing.view.resolved));
        let mut up = Self::start(job, &scene, standing, &job.publish, job.flow_log.as_ref(), voice)?;
        up._watch = Some(watch);
        Ok(up)
    }

    /// The same of a split pod: every part, the primary first, and what joins them.
    ///
    /// # Errors
    /// As [`Up::bring`].
    pub fn bring_split(
        job: &Job,
        split: &Split,
        programs: &Programs,
        events: &SyncSender<Event>,
        voice: Voice,
    ) -> Result<(Vec<Self>, Segment), Error> {
        let Ground { scene, manifest, options, watch } = Ground::read(job, programs, events, voice)?;
        let parting = Parting::of(&scene.manifest, &split.parts)?;
        let standing = split_pod::prepare(&scene, &manifest, &parting, job.identity, split.kind, &options)?;
        if let Some(primary) = standing.parts.first() {
            voice.notes(&scene.notes(&primary.view.resolved));
        }
        let mut ups = Vec::new();
        for (part, standing_part) in parting.parts.iter().zip(standing.parts) {
            // A port is published where the container is that declares it; one that none declares, at the primary.
            let is_here = |wanted: &&Publish| {
                let containers = standing_part.view.resolved.containers.values();
                let mut owners = containers.filter(|c| c.ports.iter().any(|port| port.port == wanted.port));
                let owner = owners.next().and_then(|c| parting.part_of(&c.name));
                owner.unwrap_or(&parting.parts[0]).name == part.name
            };
            let published: Vec<Publish> = job.publish.iter().filter(is_here).copied().collect();
            let log = job.flow_log.clone().map(|log| log.of_part(&part.name));
            ups.push(Self::start(job, &scene, standing_part, &published, log.as_ref(), voice)?);
        }
        if let Some(first) = ups.first_mut() {
            first._watch = Some(watch);
        }
        Ok((ups, standing.segment))
    }

    /// Starts a pod, or a part of one, behind its walls.
    fn start(
        job: &Job,
        scene: &Scene,
        standing: Standing,
        wanted: &[Publish],
        flow_log: Option<&Output>,
        voice: Voice,
    ) -> Result<Self, Error> {
        standing.warnings.iter().for_each(|message| voice.tell(&Told::Warning { message }));
        let pod = standing.prepared.pod().clone();
        // Before anything runs: a port that is taken should stop everything.
        let published: Result<Vec<Published>, _> =
            wanted.iter().map(|wanted| publish(&pod, wanted.at, wanted.port)).collect();
        let published = published?;
        // Before anything runs: the first denial may be the one that matters.
        let directory = sidewall_sandbox::directory(&job.state, &pod.info().namespace, &pod.info().name);
        if flow_log.is_some() && !standing.logs {
            return Err(Error::NoLog);
        }
        let flows = match job.walls && standing.logs {
            true => Some(FlowLog::start(&pod, &standing.view, &directory, flow_log)?),
            false => None,
        };
        let raised = standing.raised;
        let (running, view, walls) = standing.start()?;
        let ports: Vec<(std::net::SocketAddr, u16)> =
            published.iter().zip(wanted).map(|(at, wanted)| (at.at(), wanted.port)).collect();
        voice.started(pod.info(), &view, walls.is_some().then_some(raised), &ports);
        let mut up = Self {
            running,
            view,
            published,
            walls,
            voice,
            sources: job.sources.clone(),
            manifest: scene.manifest.clone(),
            verified: Instant::now(),
            states: BTreeMap::new(),
            missing: BTreeSet::new(),
            flows,
            tell_flows: flow_log != Some(&Output::Stdout),
            _watch: None,
        };
        up.tell_missing();
        Ok(up)
    }

    /// Follows the pod to its end and removes it. Says whether it ended well: by itself with success, or by a signal.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn follow(self, happened: &Receiver<Event>) -> Result<bool, Error> {
        follow(vec![self], happened)
    }

    /// Removes what has ended, and tells the rest of its flows. Gives its phase.
    fn remove(self) -> Result<Phase, Error> {
        let Self { running, published, voice, walls, flows, tell_flows, .. } = self;
        let status = running.stop();
        drop(published);
        if let Some(mut flows) = flows {
            flows.finish(walls.map_or(0, |mut walls| walls.counted()));
            std::iter::from_fn(|| flows.take()).filter(|_| tell_flows).for_each(|record| voice.record(&record));
        }
        Ok(status?.phase)
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

impl Ground {
    fn read(job: &Job, programs: &Programs, events: &SyncSender<Event>, voice: Voice) -> Result<Self, Error> {
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
        Ok(Self { scene, manifest, options, watch })
    }
}

/// Follows a pod, or all parts of one with the primary first, to its end, and removes it. When the primary has ended, the others
/// are ended. Says whether it ended well: by itself with success, or by a signal.
///
/// # Errors
/// What could not be removed.
fn follow(mut ups: Vec<Up>, happened: &Receiver<Event>) -> Result<bool, Error> {
    let Some(voice) = ups.first().map(|up| up.voice) else { return Ok(true) };
    let mut asked = false;
    let mut ended = false;
    loop {
        match happened.recv_timeout(LOOK) {
            Ok(Event::Signal(count)) => {
                asked = true;
                voice.tell(&Told::Ending { at_once: count > 1 });
                // Connections in flight are the containers' to end: published ports stay until the pod is gone.
                ups.iter().for_each(|up| up.running.terminate((count > 1).then_some(Duration::ZERO)));
            }
            Ok(Event::Output(line)) => voice.output(&line),
            Ok(Event::Files) => ups.iter_mut().for_each(Up::reload),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        for up in &mut ups {
            up.tell_flows(SHOWN);
            up.look();
        }
        let finished: Vec<bool> = ups.iter().map(|up| up.running.status().finished).collect();
        if finished.iter().all(|finished| *finished) {
            break;
        }
        if finished[0] && !ended {
            ended = true;
            ups[1..].iter().for_each(|up| up.running.terminate(None));
        }
    }
    // Every part is removed, whatever could not be of another.
    let phases: Vec<Result<Phase, Error>> = ups.into_iter().map(Up::remove).collect();
    let phases = phases.into_iter().collect::<Result<Vec<Phase>, Error>>()?;
    // What the containers wrote last.
    while let Ok(event) = happened.recv_timeout(Duration::from_millis(20)) {
        if let Event::Output(line) = event {
            voice.output(&line);
        }
    }
    // Parts that were ended because the primary had ended did not fail.
    let phase = if !ended && phases.contains(&Phase::Failed) { Phase::Failed } else { phases[0] };
    voice.tell(&Told::Ended { phase });
    Ok(asked || phase != Phase::Failed)
}

/// The number of what is in force.
fn generation(raised: Raised) -> Option<u8> {
    match raised {
        Raised::Rules(generation) => Some(generation.get()),
        Raised::None => None,
    }
}
