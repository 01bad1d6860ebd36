//! Curves as SVG: both axes logarithmic, several panels side by side, a line and a band for each series, one legend.
//!
//! The same figure gives the same bytes. Colours are those that both a light and a dark page carry; the page shows
//! through.

use std::fmt::Write as _;

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// What the horizontal axes count.
    pub x: String,
    /// What the vertical axes count.
    pub y: String,
    /// Its panels, three in a row. All have the same axes.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What it shows it of.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend: the same name in another panel is the same series.
    pub name: String,
    /// Its colour, as SVG spells it.
    pub colour: &'static str,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Its width in pixels.
    pub width: f64,
    /// Its dashes, as SVG spells them; none where it is empty.
    pub dashes: &'static str,
}

/// One measured value with its interval; all above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The value.
    pub middle: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// The ink of everything but the lines.
const INK: &str = "#7d8590";
const FONT: &str = "system-ui, sans-serif";
const ACROSS: usize = 3;
const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 66.0;
const BETWEEN: f64 = 28.0;
const BELOW: f64 = 56.0;
const LEGEND_LINE: f64 = 20.0;

/// A logarithmic scale from one end to the other.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + (self.to - self.from) * part
    }

    /// The round numbers in it: 1, 2 and 5 of each power of ten, or where that is too many, powers of ten alone.
    fn ticks(self) -> Vec<f64> {
        let steps: &[f64] = if self.high / self.low > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        (first..=last)
            .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
            .filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick))
            .collect()
    }
}

impl Figure {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points)
    }

    /// The figure as SVG; none where a point can't be drawn on logarithmic axes, or there is none.
    pub fn svg(&self) -> Option<String> {
        let good = |value: f64| value.is_finite() && value > 0.0;
        if self.points().any(|p| ![p.x, p.low, p.middle, p.high].into_iter().all(good)) {
            return None;
        }
        let extremes = |of: fn(&Point) -> (f64, f64)| {
            self.points().map(of).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
        };
        let x = extremes(|point| (point.x, point.x))?;
        let y = extremes(|point| (point.low, point.high))?;
        // A single value still needs an axis.
        let x = (x.0, x.1.max(x.0 * 10.0));
        let y = (y.0.min(1.0) * 0.95, (y.1 * 1.1).max(2.0));
        let rows = self.panels.len().div_ceil(ACROSS);
        let legend = self.legend();
        let width = LEFT + (WIDTH + BETWEEN) * self.panels.len().min(ACROSS) as f64;
        let legend_top = TOP + (HEIGHT + BELOW) * rows as f64 + 12.0;
        let height = legend_top + LEGEND_LINE * legend.len().div_ceil(2) as f64 + 8.0;
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img" font-family="{FONT}" font-size="12" fill="{INK}">"#
        );
        let _ = writeln!(svg, "<title>{}</title>", escape(&self.title));
        let _ =
            writeln!(svg, r#"<text x="{LEFT}" y="22" font-size="16" font-weight="600">{}</text>"#, escape(&self.title));
        let _ = writeln!(svg, r#"<text x="{LEFT}" y="40">{}</text>"#, escape(&self.y));
        for (index, panel) in self.panels.iter().enumerate() {
            let left = LEFT + (WIDTH + BETWEEN) * (index % ACROSS) as f64;
            let top = TOP + (HEIGHT + BELOW) * (index / ACROSS) as f64;
            let across = Scale { low: x.0, high: x.1, from: left, to: left + WIDTH };
            let up = Scale { low: y.0, high: y.1, from: top + HEIGHT, to: top };
            panel.draw(&mut svg, across, up, index % ACROSS == 0);
        }
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            (LEFT + width - BETWEEN) / 2.0,
            legend_top - 22.0,
            escape(&self.x)
        );
        for (index, series) in legend.iter().enumerate() {
            let left = LEFT + (width - LEFT) / 2.0 * (index % 2) as f64;
            let middle = legend_top + LEGEND_LINE * (index / 2) as f64;
            let _ = writeln!(
                svg,
                r#"<path d="M{left:.1} {middle:.1}h28" {}/><text x="{:.1}" y="{:.1}">{}</text>"#,
                series.ink(),
                left + 36.0,
                middle + 4.0,
                escape(&series.name)
            );
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }

    /// Every series once.
    fn legend(&self) -> Vec<&Series> {
        let mut legend: Vec<&Series> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if legend.iter().all(|known| known.name != series.name) {
                legend.push(series);
            }
        }
        legend
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, x: Scale, y: Scale, labelled: bool) {
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" font-weight="600">{}</text>"#,
            x.from,
            y.to - 8.0,
            escape(&self.title)
        );
        for tick in y.ticks() {
            let at = y.at(tick);
            let _ =
                writeln!(svg, r#"<path d="M{:.1} {at:.1}H{:.1}" stroke="{INK}" stroke-opacity="0.3"/>"#, x.from, x.to);
            if labelled {
                let _ = writeln!(
                    svg,
                    r#"<text x="{:.1}" y="{:.1}" text-anchor="end">×{tick}</text>"#,
                    x.from - 8.0,
                    at + 4.0
                );
            }
        }
        let _ = writeln!(svg, r#"<path d="M{:.1} {:.1}H{:.1}" stroke="{INK}"/>"#, x.from, y.from, x.to);
        for tick in x.ticks() {
            let at = x.at(tick);
            let _ = writeln!(
                svg,
                r#"<path d="M{at:.1} {:.1}v5" stroke="{INK}"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                y.from,
                y.from + 18.0,
                short(tick)
            );
        }
        for series in &self.series {
            let place = |of: fn(&Point) -> f64| {
                series.points.iter().map(move |point| format!("{:.1} {:.1}", x.at(point.x), y.at(of(point))))
            };
            let above: Vec<String> = place(|point| point.high).collect();
            let mut below: Vec<String> = place(|point| point.low).collect();
            below.reverse();
            let line: Vec<String> = place(|point| point.middle).collect();
            let _ = writeln!(
                svg,
                r#"<path d="M{}L{}Z" fill="{}" fill-opacity="0.2"/>"#,
                above.join("L"),
                below.join("L"),
                series.colour
            );
            let _ = writeln!(svg, r#"<path d="M{}" {}/>"#, line.join("L"), series.ink());
            for point in &series.points {
                let (at, up) = (x.at(point.x), y.at(point.middle));
                let _ = writeln!(
                    svg,
                    r#"<circle cx="{at:.1}" cy="{up:.1}" r="2.5" fill="{}"><title>{}, {}: ×{:.3} ({:.3} to {:.3})</title></circle>"#,
                    series.colour,
                    escape(&series.name),
                    short(point.x),
                    point.middle,
                    point.low,
                    point.high
                );
            }
        }
    }
}

impl Series {
    fn ink(&self) -> String {
        let Stroke { width, dashes } = self.stroke;
        let dashes = if dashes.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dashes}""#) };
        format!(r#"fill="none" stroke="{}" stroke-width="{width}"{dashes}"#, self.colour)
    }
}

/// A count in few letters: 10000 is 10k.
fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{}k", value / 1000.0) } else { value.to_string() }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
