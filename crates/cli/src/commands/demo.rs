//! `sidewall demo`: what walls and a front proxy change, shown by real connections.

mod example;
mod lines;
mod listeners;
mod tries;

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use serde::Serialize;
use sidewall_sandbox::PodStatus;

use super::Answer;
use super::run::{Event, Job, Up, Voice, events, states};
use crate::args::{Demo, Publish};
use crate::error::Error;
use crate::identity::Identity;
use crate::programs::Programs;
use crate::scene::Sources;
use crate::screen::{Paint, Screen};
use crate::signals;
use crate::table::{Cell, layout};
use example::Example;
use lines::{Line, lines};
use listeners::Listeners;
use tries::Tries;

/// How long the pod may take to become ready.
const READY: Duration = Duration::from_secs(30);
/// The port at which `--keep` publishes unless told otherwise.
const KEEP_PORT: u16 = 8080;
/// The front proxy's port.
const FRONT: u16 = 80;

/// A line of the table.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    group: &'static str,
    attempt: String,
    expected_before: String,
    expected_after: String,
    before: String,
    after: String,
    ok: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    ok: bool,
    identity: &'a str,
    unexpected: usize,
    lines: &'a [Row],
}

/// Shows it.
///
/// # Errors
/// Whatever keeps the pod from being made; nothing is left of it then.
pub fn run(options: &Demo, screen: &Screen) -> Result<Answer, Error> {
    crate::walled_pod::features()?;
    let programs = Programs::find()?;
    programs.need_proxy()?;
    let example = Example::at(options.example.as_deref())?;
    let (events, happened) = events();
    let told = events.clone();
    signals::watch(move |count| drop(told.send(Event::Signal(count))))?;
    let stage = Stage { options, programs: &programs, example: &example, events: &events, happened: &happened, screen };

    if !screen.is_json() {
        screen.line(
            "An application without authentication, a front proxy before it, and a log shipper: one pod, run twice.",
        );
        screen.line("First without walls, then with them; the same connections are tried in both.\n");
    }
    let (up, seen_before, listeners) = stage.play(false, None)?;
    up.end()?;
    drop(listeners);
    let port = options.port.or(options.keep.then_some(KEEP_PORT));
    let (up, seen_after, listeners) = stage.play(true, port)?;
    let rows: Vec<Row> = lines(up.view.identity)
        .into_iter()
        .zip(seen_before.into_iter().zip(seen_after))
        .map(|(line, (before, after))| Row {
            ok: line.before == before && line.after == after,
            group: line.group,
            attempt: line.attempt,
            expected_before: line.before,
            expected_after: line.after,
            before,
            after,
        })
        .collect();
    let unexpected = rows.iter().filter(|row| !row.ok).count();
    let identity = up.view.identity;
    if screen.is_json() {
        screen.value(&Report { ok: unexpected == 0, identity: identity.name(), unexpected, lines: &rows });
    } else {
        show(screen, &rows, identity);
    }
    if options.keep {
        stay(up, &happened, screen)?;
    } else {
        up.end()?;
    }
    drop(listeners);
    Ok(if unexpected == 0 { Answer::Yes } else { Answer::No })
}

/// What both runs need.
struct Stage<'a> {
    options: &'a Demo,
    programs: &'a Programs,
    example: &'a Example,
    events: &'a SyncSender<Event>,
    happened: &'a Receiver<Event>,
    screen: &'a Screen,
}

impl Stage<'_> {
    /// Runs the pod and tries every line. The pod is left running.
    fn play(&self, walls: bool, port: Option<u16>) -> Result<(Up, Vec<String>, Listeners), Error> {
        let mut sources = Sources::new(&self.example.file("pod.yaml"), None, &[]);
        sources.policies = vec![self.example.file("policy.yaml"), self.example.file("sidecarproxy.yaml")];
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], port.unwrap_or(0)));
        let job = Job {
            sources,
            identity: self.options.identity.identity,
            publish: vec![Publish { at, port: FRONT }],
            walls,
            split: None,
            state: self.options.state.state_dir.clone(),
            flow_log: None,
        };
        let up = Up::bring(&job, self.programs, self.events, Voice::quiet(*self.screen))?;
        let listeners = Listeners::open(up.running.pod())?;
        self.ready(&up)?;
        let at = up.published.first().map_or(at, sidewall_sandbox::Published::at);
        let mut tries = Tries::new(up.running.pod(), &up.view.resolved, at)?;
        tries.wait_for_application()?;
        let mut seen = Vec::new();
        for Line { sender, target, .. } in lines(up.view.identity) {
            self.interrupted()?;
            seen.push(tries.attempt(sender, target)?);
        }
        Ok((up, seen, listeners))
    }

    fn ready(&self, up: &Up) -> Result<(), Error> {
        let begun = std::time::Instant::now();
        loop {
            let (status, ready) = up.running.wait_until(Duration::from_millis(100), |status: &PodStatus| status.ready);
            self.interrupted()?;
            if ready {
                return Ok(());
            }
            if begun.elapsed() > READY || status.finished {
                let states = states(&status).into_iter().map(|(name, state)| format!("{name}: {state}")).collect();
                return Err(Error::NotReady { seconds: READY.as_secs(), states });
            }
        }
    }

    /// Whether a signal has come. What else has is not what the demo shows.
    fn interrupted(&self) -> Result<(), Error> {
        let signal = self.happened.try_iter().any(|event| matches!(event, Event::Signal(_)));
        if signal { Err(Error::Interrupted) } else { Ok(()) }
    }
}

fn show(screen: &Screen, rows: &[Row], identity: Identity) {
    let paint = screen.paint();
    let head = |text: &str| Cell::painted(text, |text| paint.strong(text));
    let mut table = vec![vec![head("attempt"), head("expected"), head("before"), head("after"), head("")]];
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = row.group;
            table.push(vec![Cell::painted("", str::to_owned)]);
        }
        let expected = match row.expected_before == row.expected_after {
            true => row.expected_after.clone(),
            false => format!("{} -> {}", row.expected_before, row.expected_after),
        };
        table.push(vec![
            Cell::from(row.attempt.clone()),
            expected.into(),
            cell(paint, &row.before),
            cell(paint, &row.after),
            if row.ok {
                Cell::painted("ok", |t| paint.good(t))
            } else {
                Cell::painted("UNEXPECTED", |t| paint.warn(t))
            },
        ]);
    }
    screen.line(layout(&table).trim_end());
    let unexpected = rows.iter().filter(|row| !row.ok).count();
    screen.line(&format!(
        "\n{} attempts twice, {unexpected} not as expected. Containers were told apart by {}.",
        rows.len(),
        identity.name()
    ));
}

fn cell(paint: Paint, text: &str) -> Cell {
    Cell::painted(text, |text| match text {
        tries::DENIED => paint.bad(text),
        tries::NOBODY | tries::SILENCE => paint.faint(text),
        _ => paint.good(text),
    })
}

/// Leaves the pod running until a signal comes or it ends.
fn stay(mut up: Up, happened: &Receiver<Event>, screen: &Screen) -> Result<(), Error> {
    // What the attempts caused is not news.
    let signal = happened.try_iter().any(|event| matches!(event, Event::Signal(_)));
    if signal {
        return up.end();
    }
    if !screen.is_json() {
        let front = up.published.first().map(|published| published.at().to_string()).unwrap_or_default();
        let pod = up.running.pod().info().addresses.first().map(ToString::to_string).unwrap_or_default();
        screen.line("\nThe pod keeps running until Ctrl-C; denials are shown as they come. Try:\n");
        screen.line(&format!("  curl -i http://{front}/                  # 401"));
        screen.line(&format!("  curl -i -u admin:admin http://{front}/   # Hello World!"));
        screen.line(&format!("  curl -i -u admin:wrong http://{front}/   # 401"));
        screen.line(&format!("  curl -i -m 3 http://{pod}:8080/          # denied: the application's own port"));
        screen.line(&format!("  curl -i -m 3 http://{pod}:8081/metrics   # denied: its metrics\n"));
    }
    up.speak(Voice::new(*screen));
    up.follow(happened).map(drop)
}
