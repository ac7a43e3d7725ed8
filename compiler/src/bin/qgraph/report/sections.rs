//! What the page says, section by section: HTML from what was measured.

use crate::comparison::{COLUMNS, Comparison, GIVEN, WORST, number, percent};
use crate::profile::Row;
use qgraph_compiler::assess::Layer;
use qgraph_compiler::calib::Survey;
use qgraph_compiler::draw::chart::{self, Bar, Mark, Rectangle};
use qgraph_compiler::draw::{Diagram, colour_of_db, escape};
use qgraph_compiler::graph::{Graph, Op};
use qgraph_compiler::plan::Block;
use std::collections::HashMap;

const INT8: &str = "#6baed6";
const FLOAT: &str = "#fdae6b";

/// The most important figures.
pub(super) fn facts(c: &Comparison) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if c.float.images > 0 {
        let ((f1, f5), (q1, q5)) = (c.float.fractions(), c.int8.fractions());
        let text = |f: f64, q: f64| format!("float {:.2} %, int8 {:.2} %", 100.0 * f, 100.0 * q);
        rows.push(("top-1", text(f1, q1)));
        rows.push(("top-5", text(f5, q5)));
    }
    if c.fused.is_quantized() {
        rows.push(("numbers", GIVEN.into()));
    }
    rows.push(("same answer", format!("{:.2} % of {} images", 100.0 * c.agreement(), c.images)));
    rows.push(("SQNR of the outputs", format!("{:.1} dB", c.outputs.db())));
    rows.push(("work", format!("{:.3} GMAC an image", c.plan.macs() as f64 / 1e9)));
    if let Some([int8, float]) = c.total_times() {
        let text = format!("float {float:.0} µs, int8 {int8:.0} µs: {:.2} times as fast", float / int8);
        rows.push(("time of an image, one thread", text));
    }
    let integer = c.assessment.layers().iter().filter(|l| l.integer).count();
    rows.push(("layers", format!("{integer} in int8, {} in float", c.assessment.layers().len() - integer)));
    rows.push(("weights", bytes(c.quantized.data.len() as f64)));
    rows.push(("arena", bytes(c.plan.arena_bytes as f64)));
    rows.push(("compiled for", c.plan.target.name.to_string()));
    rows.push(("preprocessing", serde_json::to_string(&c.preprocess).unwrap_or_default()));
    let rows: String = rows
        .iter()
        .map(|(k, v)| format!("<tr><td>{k}</td><td class=\"words\">{}</td></tr>", escape(v)))
        .collect();
    format!("<table class=\"facts\">{rows}</table>\n")
}

/// The layers that add most, and the words that keep them in float.
pub(super) fn worst(c: &Comparison) -> String {
    let worst = c.assessment.worst(WORST);
    if worst.is_empty() {
        return "<p>No integer layer adds noise.</p>\n".into();
    }
    let most = c.assessment.added_noise(worst[0]);
    let bar = |&k: &usize| {
        let layer = &c.assessment.layers()[k];
        let added = c.assessment.added_noise(k);
        let text = format!("{} ({:.1} dB)", percent(added), layer.meter.sqnr_db());
        Bar {
            label: layer.node.clone(),
            value: added,
            tick: None,
            text,
            colour: colour_of_db(layer.meter.sqnr_db()),
        }
    };
    let bars: Vec<Bar> = worst.iter().map(bar).collect();
    format!(
        "<p>The integer layers whose values have most noise that what they read had not, as a part of the signal's energy; in brackets the \
         signal-to-noise ratio behind them.</p>\n{}<p>To keep them in float: <code>{}</code></p>\n",
        chart::bars(&bars, most),
        escape(&format!("qgraph quantize … {}", c.assessment.exclude(&worst)))
    )
}

/// Imported, fused, integer, side by side.
pub(super) fn graphs(c: &Comparison) -> String {
    let noise: HashMap<&str, f64> = measured(c).map(|l| (&l.value[..], l.meter.sqnr_db())).collect();
    let coloured = |mut d: Diagram| {
        d.nodes.iter_mut().for_each(|n| n.sqnr_db = noise.get(&n.name[..]).copied());
        d
    };
    let fusions: Vec<String> = c.events.iter().map(ToString::to_string).collect();
    let floats = c.assessment.layers().iter().filter_map(|l| Some((l, l.float_reason.as_ref()?)));
    let floats: Vec<String> = floats.map(|(l, reason)| format!("float {}: {reason}", l.node)).collect();
    let quantized = coloured(Diagram::from(&c.quantized));
    let legend = quantized.legend().into_iter();
    let legend: String = legend
        .map(|(colour, what)| {
            format!(
                "<span class=\"key\"><span class=\"dot\" style=\"background:{colour}\"></span>{what}</span>"
            )
        })
        .collect();
    let stages = [
        ("imported", Diagram::from(&c.imported), vec![]),
        ("fused", coloured(Diagram::from(&c.fused)), fusions),
        ("quantized", quantized, floats),
    ];
    let stage = |(name, d, said): (&str, Diagram, Vec<String>)| {
        let list: String = said.iter().map(|s| format!("<li>{}</li>", escape(s))).collect();
        let list = if list.is_empty() { String::new() } else { format!("<ul>{list}</ul>") };
        let (nodes, svg) = (d.nodes.len(), d.svg());
        format!("<div><h3>{name}, {nodes} boxes</h3><div></div><div class=\"zoom\">{svg}</div>{list}</div>\n")
    };
    format!(
        "<p>Colours are types; the stripe on the left of a box is the signal-to-noise ratio of its value. The wheel zooms, dragging moves, a click \
         on a box shows its value's histogram.</p>\n<p>{legend}</p>\n<div class=\"stages\">{}</div>\n",
        stages.into_iter().map(stage).collect::<String>()
    )
}

fn measured(c: &Comparison) -> impl Iterator<Item = &Layer> {
    c.assessment.layers().iter().filter(|l| l.meter.count() > 0)
}

/// The table of `compare`.
pub(super) fn layers(c: &Comparison) -> String {
    let class = |k: usize| if k < 4 { " class=\"words\"" } else { "" };
    let row = |tag: &str, cells: &[String]| {
        let cells =
            cells.iter().enumerate().map(|(k, cell)| format!("<{tag}{}>{}</{tag}>", class(k), escape(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let body: String = (0..c.assessment.layers().len()).map(|k| row("td", &c.cells(k))).collect();
    format!(
        "<p>Grid: real numbers between neighbouring bytes, and the byte of 0. Clipped: the part of the float values beyond the chosen range. \
         Rmse/step: the error in steps of the grid; rounding alone gives 0.289. Added noise: noise that what the layer reads had not, as a part of the \
         signal's energy. A click on a heading sorts.</p>\n<div class=\"wide\"><table class=\"sorted\"><thead>{}</thead><tbody>\n{body}</tbody></table></div>\n",
        row("th", &COLUMNS.map(String::from))
    )
}

/// A bar for every value.
pub(super) fn noise(c: &Comparison) -> String {
    let bar = |l: &Layer| {
        let db = l.meter.sqnr_db();
        let text = if db >= 200.0 { "exact".into() } else { format!("{db:.1} dB") };
        Bar { label: l.node.clone(), value: db.clamp(0.0, 80.0), tick: None, text, colour: colour_of_db(db) }
    };
    let bars: Vec<Bar> = measured(c).map(bar).collect();
    format!(
        "<p>How much stronger every value is than its difference from the float network's, in the order of computation. 10 dB are a factor of 10 in energy. \
         Bars end at 80 dB.</p>\n{}",
        chart::bars(&bars, 60.0)
    )
}

/// Steps of one layer, summed.
struct Timed<'a> {
    layer: &'a str,
    us: f64,
    /// No core of this kind can be faster, in µs.
    least: f64,
    integer: bool,
}

/// A bar for every layer, with a tick for its roofline.
pub(super) fn time(c: &Comparison) -> String {
    let Some(times) = &c.times else {
        return "<p>Not measured: machine code does not run here, or another engine was asked for.</p>\n"
            .into();
    };
    let core = &c.plan.target.core;
    let integer: HashMap<&str, bool> =
        c.assessment.layers().iter().map(|l| (&l.node[..], l.integer)).collect();
    let mut all: Vec<Timed> = Vec::new();
    for row in &times.int8 {
        let Row { layer, us, macs, constants, activations, .. } = row;
        let integer = integer.get(&layer[..]).copied().unwrap_or(true);
        let peak = if integer { times.peak.int8 } else { times.peak.float };
        let cycles = *constants as f64 / f64::from(core.l3_rate)
            + *activations as f64 / c.plan.target.vector_bytes() as f64;
        let least = 1e6 * (*macs as f64 / peak).max(cycles / times.peak.clock);
        match all.iter_mut().find(|t| t.layer == layer) {
            Some(t) => (t.us, t.least) = (t.us + us, t.least + least),
            None => all.push(Timed { layer, us: *us, least, integer }),
        }
    }
    let bar = |t: &Timed| Bar {
        label: t.layer.into(),
        value: t.us,
        tick: Some(t.least),
        text: format!("{:.1} µs, {:.0} % of the roofline", t.us, 100.0 * t.least / t.us.max(1e-3)),
        colour: if t.integer { INT8 } else { FLOAT },
    };
    let bars: Vec<Bar> = all.iter().map(bar).collect();
    format!(
        "<p>Microseconds of every layer of the int8 network, for one image on one thread; blue int8, orange float. The black tick is the layer's \
         roofline: the least time in which this core could do its multiply-accumulates ({:.0} G/s int8, {:.0} G/s float, as measured), or read its \
         constants from the third-level cache and move its activations, whichever is longer.</p>\n{}",
        times.peak.int8 / 1e9,
        times.peak.float / 1e9,
        chart::bars(&bars, 1.0)
    )
}

/// Which bytes of the arena are in use when.
pub(super) fn arena(c: &Comparison) -> String {
    let steps = &c.plan.steps;
    let step = |k: usize| steps.get(k).map_or(String::new(), |s| format!("{} ({})", s.layer, s.what));
    let rectangle = |b: &Block| Rectangle {
        x: [b.first as f64, b.last as f64 + 1.0],
        y: [b.offset as f64, (b.offset + b.bytes) as f64],
        text: format!("{}, from {} to {}", bytes(b.bytes as f64), step(b.first), step(b.last)),
        colour: chart::colour(b.first),
    };
    let rectangles: Vec<Rectangle> = c.plan.blocks.iter().map(rectangle).collect();
    format!(
        "<p>The arena of {} that a run works in: from left to right the {} steps of an image, from top to bottom its bytes. A rectangle is memory in use, from the \
         step that writes it first to the one that reads it last.</p>\n{}",
        bytes(c.plan.arena_bytes as f64),
        steps.len(),
        chart::blocks(&rectangles, "step", bytes)
    )
}

/// Histogram, thresholds and divergence of every value in bytes, and the weights of the layer that gives it.
pub(super) fn values(c: &Comparison, surveys: &[Survey]) -> String {
    let mut text = format!(
        "<p>Of the first images: how often elements of every size occur (zeros, which are exact on every grid, not counted), the range that the network \
         uses (<b style=\"color:{}\">chosen</b>) and those that every calibration mode would choose on these images; the divergence that the mode <i>entropy</i> \
         makes least, by threshold; and the float weights of every output channel, from the least to the greatest.</p>\n",
        CHOSEN
    );
    let worst = c.assessment.worst(WORST);
    let surveyed: HashMap<&str, &Survey> = surveys.iter().map(|s| (&s.value[..], s)).collect();
    for (k, layer) in c.assessment.layers().iter().enumerate() {
        let survey = surveyed.get(&layer.value[..]).filter(|_| layer.meter.chosen().is_some());
        let weights = weights(&c.fused, &layer.value);
        if survey.is_none() && weights.is_none() {
            continue;
        }
        let db = layer.meter.sqnr_db();
        let open = if worst.contains(&k) { " open" } else { "" };
        text += &format!(
            "<details data-name=\"{}\"{open}><summary><span class=\"dot\" style=\"background:{}\"></span>{} <small>{}, {db:.1} dB</small></summary>\n",
            escape(&layer.value),
            colour_of_db(db),
            escape(&layer.node),
            escape(&layer.op)
        );
        if let Some(survey) = survey {
            text += &histogram(layer, survey);
        }
        if let Some(weights) = weights {
            let title = format!("weights of {} output channels", weights.len());
            text += &format!("<h3>{title}</h3>{}", chart::ranges(&weights, "output channel"));
        }
        text += "</details>\n";
    }
    text
}

const CHOSEN: &str = "#000";

fn histogram(layer: &Layer, survey: &Survey) -> String {
    let modes = survey.ranges.iter().enumerate().map(|(k, (name, range))| Mark {
        label: name.clone(),
        range: [range.min.into(), range.max.into()],
        colour: chart::colour(k),
    });
    let chosen = layer.meter.chosen().map(|range| Mark { label: "chosen".into(), range, colour: CHOSEN });
    let marks: Vec<Mark> = modes.chain(chosen).collect();
    let zeros = percent(survey.zeros as f64 / survey.elements.max(1) as f64);
    let mut text = format!(
        "<h3>{} elements, {zeros} of them 0; {} to {}</h3>{}",
        survey.elements,
        number(survey.observed.min.into()),
        number(survey.observed.max.into()),
        chart::histogram(&survey.bins, survey.from, survey.width, &marks)
    );
    if !survey.divergences.is_empty() {
        let entropy: Vec<Mark> = marks.into_iter().filter(|m| m.label == "entropy").collect();
        text += "<h3>divergence by threshold</h3>";
        text += &chart::curve(&survey.divergences, &entropy, ["threshold", "divergence"]);
    }
    text
}

/// The least and the greatest weight of every output channel of the layer that gives a value.
fn weights(graph: &Graph, value: &str) -> Option<Vec<[f32; 2]>> {
    let node = graph.nodes.iter().find(|n| graph.value(n.output).name == value)?;
    let tensor = graph.constant(*node.inputs.get(1)?)?;
    let (channels, channel): (usize, Box<dyn Fn(usize) -> usize>) = match &node.op {
        Op::Conv(_) | Op::Dense(_) => {
            let each = tensor.shape.iter().skip(1).product::<usize>().max(1);
            (tensor.shape[0], Box::new(move |i| i / each))
        }
        Op::ConvTranspose(t) => {
            // [C, M/groups, kh, kw]
            let (per_group, taps) = (tensor.shape[1], tensor.shape[2] * tensor.shape[3]);
            let inputs = tensor.shape[0] / t.groups;
            let at = move |i: usize| i / (per_group * taps) / inputs * per_group + i / taps % per_group;
            (per_group * t.groups, Box::new(at))
        }
        _ => return None,
    };
    let mut ranges = vec![[f32::INFINITY, f32::NEG_INFINITY]; channels];
    for (i, &w) in tensor.data.iter().enumerate() {
        let [min, max] = &mut ranges[channel(i)];
        (*min, *max) = (min.min(w), max.max(w));
    }
    Some(ranges)
}

/// `1.50 MB`
fn bytes(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} KB", n / 1e3),
        n => format!("{n:.0} B"),
    }
}
