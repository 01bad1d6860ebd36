use super::*;

fn point(x: f64, middle: f64) -> Point {
    Point { x, low: middle * 0.9, middle, high: middle * 1.1 }
}

fn figure(points: Vec<Point>) -> Figure {
    let series =
        Series { name: "a < b".to_owned(), colour: "#123456", stroke: Stroke { width: 2.0, dashes: "5 3" }, points };
    let panel = |title: &str| Panel { title: title.to_owned(), series: vec![series.clone()] };
    Figure {
        title: "T & U".to_owned(),
        x: "policies".to_owned(),
        y: "cost".to_owned(),
        panels: vec![panel("one"), panel("two")],
    }
}

#[test]
fn a_logarithmic_scale_puts_each_power_of_ten_as_far_from_the_last() {
    let scale = Scale { low: 1.0, high: 10_000.0, from: 100.0, to: 500.0 };
    let at: Vec<f64> = [1.0, 10.0, 100.0, 1_000.0, 10_000.0].map(|value| scale.at(value).round()).to_vec();
    assert_eq!(at, [100.0, 200.0, 300.0, 400.0, 500.0]);
    assert_eq!(scale.ticks(), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
}

#[test]
fn a_short_scale_has_ticks_between_its_powers() {
    let scale = Scale { low: 0.9, high: 12.0, from: 0.0, to: 1.0 };
    assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0]);
}

#[test]
fn text_is_escaped_and_a_series_is_named_once() {
    let svg = figure(vec![point(1.0, 1.2), point(10.0, 3.0)]).svg().unwrap();
    assert!(svg.contains("<title>T &amp; U</title>"));
    assert_eq!(svg.matches(">a &lt; b</text>").count(), 1, "once in the legend");
    assert!(!svg.contains("a < b") && !svg.contains("NaN") && !svg.contains("inf"));
    assert_eq!(svg.matches(r#"stroke-dasharray="5 3""#).count(), 3, "two lines and the legend");
}

#[test]
fn a_line_goes_through_its_points_and_the_same_figure_gives_the_same_bytes() {
    let figure = figure(vec![point(1.0, 1.0), point(100.0, 10.0)]);
    let svg = figure.svg().unwrap();
    assert_eq!(svg, figure.svg().unwrap());
    let x = Scale { low: 1.0, high: 100.0, from: LEFT, to: LEFT + WIDTH };
    let y = Scale { low: 0.9 * 0.95, high: 11.0 * 1.1, from: TOP + HEIGHT, to: TOP };
    let line = format!(
        r#"<path d="M{:.1} {:.1}L{:.1} {:.1}" fill="none" stroke="{}""#,
        x.from,
        y.at(1.0),
        x.to,
        y.at(10.0),
        "#123456"
    );
    assert!(svg.contains(&line), "{line} is not in\n{svg}");
}

#[test]
fn what_has_no_place_on_such_axes_is_not_drawn() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(figure(vec![point(1.0, bad)]).svg(), None);
    }
    assert_eq!(figure(Vec::new()).svg(), None);
}

#[test]
fn one_point_is_enough() {
    assert!(figure(vec![point(10.0, 2.0)]).svg().unwrap().contains("<circle"));
}
