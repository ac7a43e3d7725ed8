//! Charts as SVG, to stand in a page: bars, histograms, curves, ranges, blocks. Every mark says what it is when the pointer rests on it.

use super::{escape, tail};
use std::fmt::Write;

/// Width of a chart, in pixels.
const WIDTH: f64 = 860.0;

/// Colours of things that are told apart by name.
const COLOURS: [&str; 8] =
    ["#7f7f7f", "#d62728", "#9467bd", "#1f77b4", "#2ca02c", "#ff7f0e", "#8c564b", "#e377c2"];

/// The colour of the `k`-th of several things.
pub fn colour(k: usize) -> &'static str {
    COLOURS[k % COLOURS.len()]
}

/// A row of [`bars`].
#[derive(Clone, Debug)]
pub struct Bar {
    /// Before the bar.
    pub label: String,
    /// Its length; at least 0.
    pub value: f64,
    /// A tick across the bar, with which it is to be compared.
    pub tick: Option<f64>,
    /// Behind the bar.
    pub text: String,
    /// Of the bar.
    pub colour: &'static str,
}

/// A range that is marked in [`histogram`] or [`curve`].
#[derive(Clone, Debug)]
pub struct Mark {
    /// What chose it.
    pub label: String,
    /// From, to.
    pub range: [f64; 2],
    /// Of its line.
    pub colour: &'static str,
}

/// Rectangles on two axes: see [`blocks`].
#[derive(Clone, Debug)]
pub struct Rectangle {
    /// From, to along the horizontal axis.
    pub x: [f64; 2],
    /// From, to along the vertical axis, from the top.
    pub y: [f64; 2],
    /// What it is.
    pub text: String,
    /// Of the area.
    pub colour: &'static str,
}

/// An SVG element that is being written.
struct Svg(String);

impl Svg {
    fn new(class: &str, height: f64) -> Svg {
        Svg(format!(
            "<svg class=\"chart {class}\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\">\n"
        ))
    }

    fn rectangle(&mut self, [x, y]: [f64; 2], [w, h]: [f64; 2], colour: &str, tip: &str) {
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        let (w, h) = (w.max(0.0), h.max(0.0));
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.2}\" height=\"{h:.2}\" fill=\"{colour}\">{tip}</rect>"
        );
    }

    fn line(&mut self, [x, y]: [f64; 2], [to_x, to_y]: [f64; 2], colour: &str) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" stroke=\"{colour}\"/>"
        );
    }

    /// `anchor`: start, middle or end.
    fn text(&mut self, [x, y]: [f64; 2], anchor: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    fn finish(self) -> String {
        self.0 + "</svg>\n"
    }
}

/// A linear axis: from its numbers to pixels.
#[derive(Clone, Copy)]
struct Axis {
    numbers: [f64; 2],
    pixels: [f64; 2],
}

impl Axis {
    fn at(self, x: f64) -> f64 {
        let ([a, b], [p, q]) = (self.numbers, self.pixels);
        let extent = if b > a { b - a } else { 1.0 };
        p + (x.clamp(a, b) - a) / extent * (q - p)
    }

    /// Round numbers along the axis, about so many.
    fn ticks(self, count: usize) -> Vec<f64> {
        let [a, b] = self.numbers;
        let raw = (b - a) / count as f64;
        if !(raw.is_finite() && raw > 0.0) {
            return vec![a];
        }
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw).unwrap_or(raw);
        let first = (a / step).ceil() as i64;
        (first..).map(|k| k as f64 * step).take_while(|x| *x <= b + 1e-9 * step).collect()
    }

    /// Draws the axis along the bottom, with its numbers below.
    fn draw(self, svg: &mut Svg, y: f64) {
        svg.line([self.pixels[0], y], [self.pixels[1], y], "#444");
        for x in self.ticks(8) {
            let at = self.at(x);
            svg.line([at, y], [at, y + 4.0], "#444");
            svg.text([at, y + 15.0], "middle", &plain(x));
        }
    }
}

/// A number of few digits.
fn plain(x: f64) -> String {
    let x = if x.abs() < 1e-12 { 0.0 } else { x };
    match x.abs() {
        m if m != 0.0 && !(1e-3..1e5).contains(&m) => format!("{x:.1e}"),
        _ => {
            let text = format!("{x:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    }
}

/// Rows of bars, one below the other, longest at `most` or more.
pub fn bars(rows: &[Bar], most: f64) -> String {
    const ROW: f64 = 16.0;
    let mut svg = Svg::new("bars", rows.len() as f64 * ROW + 8.0);
    let ticks = rows.iter().filter_map(|r| r.tick);
    let most = rows.iter().map(|r| r.value).chain(ticks).fold(most, f64::max);
    let axis = Axis { numbers: [0.0, most], pixels: [260.0, WIDTH - 170.0] };
    for (k, row) in rows.iter().enumerate() {
        let y = 4.0 + k as f64 * ROW;
        let tip = format!("{}: {}", row.label, row.text);
        svg.text([252.0, y + 11.0], "end", &tail(&row.label, 38));
        let length = axis.at(row.value) - axis.pixels[0];
        svg.rectangle([axis.pixels[0], y + 1.0], [length.max(1.0), ROW - 4.0], row.colour, &tip);
        if let Some(tick) = row.tick {
            svg.rectangle([axis.at(tick) - 1.0, y - 1.0], [2.0, ROW], "#000", &tip);
        }
        let end = axis.at(row.tick.unwrap_or(0.0).max(row.value));
        svg.text([end + 6.0, y + 11.0], "start", &row.text);
    }
    svg.finish()
}

/// A histogram of equal bins from `from` on, counts by their logarithm, with marked ranges below it.
pub fn histogram(bins: &[u64], from: f64, width: f64, marks: &[Mark]) -> String {
    const SHOWN: usize = 200;
    const TOP: f64 = 110.0;
    const ROW: f64 = 14.0;
    let ends = [from, from + width * bins.len() as f64];
    let least = marks.iter().map(|m| m.range[0]).fold(ends[0], f64::min);
    let most = marks.iter().map(|m| m.range[1]).fold(ends[1], f64::max);
    let axis = Axis { numbers: [least, most], pixels: [130.0, WIDTH - 20.0] };
    let mut svg = Svg::new("histogram", TOP + 24.0 + marks.len() as f64 * ROW);
    let each = bins.len().div_ceil(SHOWN).max(1);
    let sums: Vec<u64> = bins.chunks(each).map(|c| c.iter().sum()).collect();
    let tallest = sums.iter().max().map_or(1.0, |&c| (c as f64).ln_1p()).max(1e-9);
    for (k, &count) in sums.iter().enumerate().filter(|s| *s.1 > 0) {
        let [a, b] = [k * each, ((k + 1) * each).min(bins.len())].map(|i| from + i as f64 * width);
        let height = ((count as f64).ln_1p() / tallest * (TOP - 10.0)).max(1.0);
        let tip = format!("{count} elements from {} to {}", plain(a), plain(b));
        svg.rectangle([axis.at(a), TOP - height], [axis.at(b) - axis.at(a), height], "#9ecae1", &tip);
    }
    axis.draw(&mut svg, TOP);
    svg.text([122.0, 20.0], "end", "elements (log)");
    for (k, mark) in marks.iter().enumerate() {
        let y = TOP + 26.0 + k as f64 * ROW;
        let [a, b] = mark.range.map(|x| axis.at(x));
        let tip = format!("{}: {} to {}", mark.label, plain(mark.range[0]), plain(mark.range[1]));
        svg.text([122.0, y + 4.0], "end", &mark.label);
        svg.rectangle([a, y - 2.0], [(b - a).max(1.0), 4.0], mark.colour, &tip);
        for x in [a, b] {
            let _ = writeln!(
                svg.0,
                "<line x1=\"{x:.1}\" y1=\"8\" x2=\"{x:.1}\" y2=\"{y:.1}\" stroke=\"{}\" stroke-dasharray=\"2 3\"/>",
                mark.colour
            );
        }
    }
    svg.finish()
}

/// A curve through points of rising x, with marked x (the end of each range); points that are not finite are left out.
pub fn curve(points: &[(f64, f64)], marks: &[Mark], [across, up]: [&str; 2]) -> String {
    const TOP: f64 = 120.0;
    const SHOWN: usize = 400;
    let mut svg = Svg::new("curve", TOP + 34.0);
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        svg.text([WIDTH / 2.0, TOP / 2.0], "middle", "no points");
        return svg.finish();
    };
    let fold = |f: fn(f64, f64) -> f64| points.iter().map(|p| p.1).reduce(f).unwrap_or(0.0);
    let (low, high) = (fold(f64::min), fold(f64::max));
    let axis = Axis { numbers: [first.0, last.0], pixels: [130.0, WIDTH - 20.0] };
    let rise = Axis { numbers: [low, if high > low { high } else { low + 1.0 }], pixels: [TOP - 6.0, 12.0] };
    for &y in rise.ticks(3).iter() {
        svg.line([126.0, rise.at(y)], [WIDTH - 20.0, rise.at(y)], "#eee");
        svg.text([122.0, rise.at(y) + 4.0], "end", &plain(y));
    }
    let each = points.len().div_ceil(SHOWN).max(1);
    let shown = points.iter().step_by(each).chain([last]);
    let path: Vec<String> = shown.map(|p| format!("{:.1},{:.1}", axis.at(p.0), rise.at(p.1))).collect();
    let _ = writeln!(
        svg.0,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f77b4\" stroke-width=\"1.5\"/>",
        path.join(" ")
    );
    for mark in marks.iter().filter(|m| (first.0..=last.0).contains(&m.range[1])) {
        let x = axis.at(mark.range[1]);
        svg.rectangle(
            [x - 1.0, 8.0],
            [2.0, TOP - 8.0],
            mark.colour,
            &format!("{}: {}", mark.label, plain(mark.range[1])),
        );
    }
    axis.draw(&mut svg, TOP);
    svg.text([WIDTH - 20.0, TOP + 30.0], "end", across);
    svg.text([8.0, TOP / 2.0], "start", up);
    svg.finish()
}

/// A range for every channel, side by side.
pub fn ranges(all: &[[f32; 2]], what: &str) -> String {
    const HEIGHT: f64 = 110.0;
    let mut svg = Svg::new("ranges", HEIGHT + 24.0);
    let fold = |f: fn(f64, f64) -> f64, k: usize| all.iter().map(|r| f64::from(r[k])).fold(0.0, f);
    let rise = Axis { numbers: [fold(f64::min, 0), fold(f64::max, 1)], pixels: [HEIGHT, 8.0] };
    for y in rise.ticks(4) {
        svg.line([126.0, rise.at(y)], [WIDTH - 20.0, rise.at(y)], "#eee");
        svg.text([122.0, rise.at(y) + 4.0], "end", &plain(y));
    }
    let step = (WIDTH - 150.0) / all.len().max(1) as f64;
    for (k, [min, max]) in all.iter().enumerate() {
        let [top, bottom] = [*max, *min].map(|x| rise.at(x.into()));
        let tip = format!("channel {k}: {} to {}", plain((*min).into()), plain((*max).into()));
        let width = if step > 3.0 { (step - 1.0).min(14.0) } else { step };
        svg.rectangle([130.0 + k as f64 * step, top], [width, (bottom - top).max(1.0)], "#74a9cf", &tip);
    }
    svg.line([126.0, rise.at(0.0)], [WIDTH - 20.0, rise.at(0.0)], "#444");
    svg.text([WIDTH - 20.0, HEIGHT + 18.0], "end", what);
    svg.finish()
}

/// Rectangles on two axes, the vertical one from the top; `up` has its numbers as text.
pub fn blocks(all: &[Rectangle], across: &str, up: impl Fn(f64) -> String) -> String {
    const HEIGHT: f64 = 360.0;
    let mut svg = Svg::new("blocks", HEIGHT + 40.0);
    let most = |f: fn(&Rectangle) -> f64| all.iter().map(f).fold(1.0, f64::max);
    let axis = Axis { numbers: [0.0, most(|r| r.x[1])], pixels: [100.0, WIDTH - 20.0] };
    let fall = Axis { numbers: [0.0, most(|r| r.y[1])], pixels: [8.0, HEIGHT] };
    for y in fall.ticks(6) {
        svg.line([96.0, fall.at(y)], [WIDTH - 20.0, fall.at(y)], "#eee");
        svg.text([92.0, fall.at(y) + 4.0], "end", &up(y));
    }
    for r in all {
        let ([left, right], [top, bottom]) = (r.x.map(|x| axis.at(x)), r.y.map(|y| fall.at(y)));
        let size = [(right - left - 0.4).max(0.4), (bottom - top - 0.4).max(0.4)];
        svg.rectangle([left, top], size, r.colour, &r.text);
    }
    axis.draw(&mut svg, HEIGHT + 2.0);
    svg.text([WIDTH - 20.0, HEIGHT + 34.0], "end", across);
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        let ticks = |a, b| Axis { numbers: [a, b], pixels: [0.0, 1.0] }.ticks(5);
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-1.0, 1.0), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ticks(3.0, 3.0), [3.0]);
        assert_eq!([0.0, 0.25, 120000.0, -2.0, 1e-9].map(plain), ["0", "0.25", "1.2e5", "-2", "1.0e-9"]);
    }

    #[test]
    fn charts_are_whole_whatever_they_show() {
        let mark = Mark { label: "<m>".into(), range: [-1.0, 1.0], colour: colour(9) };
        let bar =
            Bar { label: "a".repeat(60), value: 0.0, tick: Some(3.0), text: "&".into(), colour: colour(0) };
        let rectangle = Rectangle { x: [0.0, 1.0], y: [0.0, 64.0], text: "\"".into(), colour: colour(1) };
        let all = [
            bars(&[bar], 1.0),
            bars(&[], 0.0),
            histogram(&[1, 0, 5], -1.0, 0.5, std::slice::from_ref(&mark)),
            histogram(&[], 0.0, 1.0, &[]),
            curve(&[(0.0, f64::INFINITY), (1.0, 2.0), (2.0, 1.0)], &[mark], ["x", "y"]),
            curve(&[], &[], ["x", "y"]),
            ranges(&[[-1.0, 1.0], [0.0, 0.0]], "channels"),
            ranges(&[], "channels"),
            blocks(&[rectangle], "steps", plain),
            blocks(&[], "steps", plain),
        ];
        for svg in all {
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<m>"), "{svg}");
        }
    }
}
