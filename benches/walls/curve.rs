//! What the walls cost a flow, as there are more and more policies, or more and more peers: ours, and what there is
//! already, beside no rules.

use crate::Result;
use crate::flows::ours;
use crate::input::{Kind, Version};
use crate::iptables::Flavour;
use crate::pod::Way;
use crate::rounds::{Rounds, Together};
use crate::scene::Place;
use crate::walls::{By, Load, Style, Walls};
use crate::worker::Work;
use sidewall_benches::Options;
use sidewall_benches::plot::{Figure, Panel, Point, Series, Stroke};
use sidewall_benches::report::Row;

/// What there is more and more of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Policies, each with a few pods and a port.
    Policies,
    /// Pods that one policy allows.
    Peers,
}

impl Axis {
    /// The name of its plot's file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Policies => "walls-policies.svg",
            Self::Peers => "walls-peers.svg",
        }
    }

    const fn unit(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Policies, 1) => "policy",
            (Self::Policies, _) => "policies",
            (Self::Peers, 1) => "peer",
            (Self::Peers, _) => "peers",
        }
    }

    const fn load(self, count: usize) -> Load {
        match self {
            Self::Policies => Load::Policies(count),
            Self::Peers => Load::Pods(count),
        }
    }

    const fn counts(self, quick: bool) -> &'static [usize] {
        match (self, quick) {
            (_, true) => &[1, 10, 100],
            (Self::Policies, false) => &[1, 10, 100, 1_000, 10_000],
            (Self::Peers, false) => &[1, 10, 100, 1_000, 10_000, 20_000],
        }
    }

    /// What is looked at: where, and what is done there.
    fn places(self) -> Vec<(&'static str, &'static str, Place)> {
        let place = |name, title, way, work| (name, title, Place { way, version: Version::V4, work });
        let mut places = vec![
            place("connect, veth, out", "New connections, pod to network", Way::Out, Work::Connects),
            place("connect, veth, in", "New connections, network to pod", Way::In, Work::Connects),
            place("connect, loopback", "New connections, over loopback", Way::Loopback, Work::Connects),
        ];
        if self == Self::Policies {
            places.push(place("packets, veth, out", "Packets of a UDP flow, pod to network", Way::Out, Work::Packets));
            places.push(place("packets, veth, in", "Packets of a UDP flow, network to pod", Way::In, Work::Packets));
            places.push(place(
                "packets, loopback",
                "Packets of a UDP flow, over loopback",
                Way::Loopback,
                Work::Packets,
            ));
        }
        places
    }
}

/// A line of a plot.
struct Line {
    name: String,
    colour: &'static str,
    stroke: Stroke,
    walls: Walls,
}

/// What is measured beside no rules, with so much of it.
fn lines(load: Load, way: Way) -> Vec<Line> {
    let solid = Stroke { width: 2.5, dashes: "" };
    let line = |name: &str, colour, stroke, walls| Line { name: name.to_owned(), colour, stroke, walls };
    let mut lines = vec![line("Sidewall, ContainerNetworkPolicy", "#2f81f7", solid, ours(load))];
    // Loopback has no edge, and a NetworkPolicy says nothing of it.
    if matches!(load, Load::Policies(_)) && way != Way::Loopback {
        let walls = Walls::Ours { by: By::Cgroup, kind: Kind::Network, load };
        lines.push(line("Sidewall, NetworkPolicy", "#2da44e", solid, walls));
    }
    for (style, colour) in [(Style::Owner, "#d4870b"), (Style::Multi, "#c9519f")] {
        // Those rules name a device other than loopback.
        if style == Style::Multi && way == Way::Loopback {
            continue;
        }
        for (flavour, dashes) in [(Flavour::Nft, ""), (Flavour::Legacy, "5 3")] {
            let walls = Walls::Iptables { flavour, style, load };
            if walls.missing().is_none() {
                let name = format!("{}, {}", flavour.name(), style.name());
                lines.push(line(&name, colour, Stroke { width: 1.5, dashes }, walls));
            }
        }
    }
    lines
}

/// Measures the rows that are wanted. The plot is returned where it is whole.
///
/// # Errors
/// When something can't be measured.
pub fn run(
    axis: Axis,
    options: &Options,
    together: &mut Together,
    tell: &mut dyn FnMut(Row),
) -> Result<Option<Figure>> {
    let mut panels = Vec::new();
    let mut whole = true;
    for (name, title, place) in axis.places() {
        let mut series: Vec<Series> = Vec::new();
        for &count in axis.counts(options.quick) {
            let name = format!("{name}, {} {}", thousands(count), axis.unit(count));
            if !options.wants(&name) {
                whole = false;
                continue;
            }
            let lines = lines(axis.load(count), place.way);
            let walls: Vec<Walls> = [Walls::None].into_iter().chain(lines.iter().map(|line| line.walls)).collect();
            let rounds = Rounds::measure(options, place, &walls, together)?;
            for (index, line) in lines.into_iter().enumerate() {
                let row = Row::rates(
                    format!("{name}: {} / no rules", line.name),
                    place.work.unit(),
                    None,
                    &rounds.pairs(index + 1, 0),
                );
                let point =
                    Point { x: count as f64, low: row.low, middle: row.ratio.unwrap_or(f64::NAN), high: row.high };
                tell(row);
                if index > 0 {
                    let name = format!("{name}: Sidewall, ContainerNetworkPolicy / {}", line.name);
                    tell(Row::rates(name, place.work.unit(), None, &rounds.pairs(1, index + 1)));
                }
                match series.iter_mut().find(|series| series.name == line.name) {
                    Some(series) => series.points.push(point),
                    None => series.push(Series {
                        name: line.name,
                        colour: line.colour,
                        stroke: line.stroke,
                        points: vec![point],
                    }),
                }
            }
        }
        panels.push(Panel { title: title.to_owned(), series });
    }
    let x = match axis {
        Axis::Policies => "policies that select the pod; the last one alone allows the flow",
        Axis::Peers => "pods that the policy allows; the last one is spoken with",
    };
    let title = match axis {
        Axis::Policies => "Cost by the number of policies",
        Axis::Peers => "Cost by the number of peers",
    };
    let figure = Figure {
        title: title.to_owned(),
        x: x.to_owned(),
        y: "processor time, in terms of no rules".to_owned(),
        panels,
    };
    Ok(whole.then_some(figure))
}

/// A number with commas between its thousands.
pub fn thousands(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1_000), number % 1_000),
    }
}
