//! A float network and its int8 form on the same samples: what `compare` prints and `report` draws.

use crate::load::{self, EngineArg, PreprocessArgs, ShapeArgs, TargetArgs, about};
use crate::profile::{self, Dumps};
use crate::score::{Noise, Score, top};
use crate::{peak, progress};
use qgraph_compiler::assess::{Assessment, Layer};
use qgraph_compiler::data::{Pick, Samples};
use qgraph_compiler::fuse::Event;
use qgraph_compiler::graph::Graph;
use qgraph_compiler::lower::Options;
use qgraph_compiler::plan::Plan;
use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::{QGraph, QType, file};
use qgraph_compiler::quant::Rounding;
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::{Error, Result, Stage, pipeline};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Images whose inner values are compared too: enough for stable figures, few enough to stay quick.
const LAYER_IMAGES: usize = 16;

/// Runs whose median is a layer's time.
const TIMED_RUNS: usize = 15;

/// What is said where the network is quantized already.
pub(crate) const GIVEN: &str =
    "weights and grids are given by the model; float rounds where it does, and computes in f32 between";

/// Layers that are said to be the worst.
pub(crate) const WORST: usize = 5;

/// What is compared, on what.
#[derive(clap::Args)]
pub(crate) struct ComparisonArgs {
    /// The float network
    pub(crate) model: PathBuf,
    /// Its quantized form
    pub(crate) quantized: PathBuf,
    /// Samples: anything `quantize --calib` takes
    #[arg(long, value_name = "DIR|FILE")]
    images: String,
    /// CSV with a header `file,label` (CIFAR-10 .bin files carry their labels)
    #[arg(long, value_name = "FILE.csv")]
    labels: Option<PathBuf>,
    /// At most so many images, from the start
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Who runs both networks [default: jit where this CPU can]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// Both networks, and what was measured.
pub(crate) struct Comparison {
    pub(crate) imported: Graph,
    pub(crate) fused: Graph,
    pub(crate) events: Vec<Event>,
    pub(crate) quantized: QGraph,
    /// Of the int8 network.
    pub(crate) plan: Arc<Plan>,
    pub(crate) preprocess: Preprocess,
    pub(crate) images: usize,
    /// Images with the same best class.
    agree: usize,
    /// Of labelled images.
    pub(crate) float: Score,
    pub(crate) int8: Score,
    /// On the outputs, over all images.
    pub(crate) outputs: Noise,
    /// Over the first images.
    pub(crate) assessment: Assessment,
    macs: HashMap<String, u64>,
    /// Where machine code runs.
    pub(crate) times: Option<Times>,
}

/// What layers take, in microseconds for an image on one thread.
pub(crate) struct Times {
    pub(crate) peak: peak::Peak,
    pub(crate) float: Vec<profile::Row>,
    pub(crate) int8: Vec<profile::Row>,
}

/// The sum of the steps of a layer, or of all.
fn sum(rows: &[profile::Row], layer: Option<&str>) -> f64 {
    rows.iter().filter(|r| layer.is_none_or(|l| r.layer == l)).map(|r| r.us).sum()
}

impl Comparison {
    /// Runs both networks on all images, and times them.
    pub(crate) fn new(args: &ComparisonArgs) -> Result<Comparison> {
        let imported = pipeline::import(&args.model, &args.shapes.options())?;
        let (of_float, of_int8) = (about(&args.model), about(&args.quantized));
        let quantized = file::load(&args.quantized)?;
        // As the int8 network was fused, so that its sums have their like in float.
        let rounding = if quantized.adds_residuals() { Rounding::Fused } else { quantized.rounding };
        let (fused, events) = pipeline::fuse_for(&imported, rounding).map_err(of_float)?;
        let float = pipeline::float(&fused).map_err(of_float)?;
        same_interface(&float, &quantized).map_err(of_int8)?;
        let (engine, target) = load::engine(args.engine, &TargetArgs::default())?;
        let preprocess = args.preprocess.over(quantized.preprocess.as_ref());
        let samples = args.samples(&float, &preprocess)?;

        let runners = |keep_values| -> Result<[Runner; 2]> {
            let options = Options { keep_values, ..Options::default() };
            let float = Runner::new(&float, engine, &target, &options).map_err(of_float)?;
            Ok([float, Runner::new(&quantized, engine, &target, &options).map_err(of_int8)?])
        };
        let (mut inner, mut fast) = (runners(true)?, runners(false)?);
        let schedule = |graph| pipeline::schedule(graph, &target, &Options::default());
        let plans = [schedule(&float).map_err(of_float)?, schedule(&quantized).map_err(of_int8)?];
        let mut macs: HashMap<String, u64> = HashMap::new();
        plans[1].steps.iter().for_each(|s| *macs.entry(s.layer.clone()).or_default() += s.macs);
        let mut c = Comparison {
            assessment: Assessment::new(&fused, &quantized),
            times: if engine == Engine::Jit { times(&plans)? } else { None },
            plan: Arc::new(plans.into_iter().next_back().expect("two")),
            imported,
            fused,
            events,
            quantized,
            preprocess,
            images: 0,
            agree: 0,
            float: Score::default(),
            int8: Score::default(),
            outputs: Noise::default(),
            macs,
        };
        let bar = progress::bar("comparing", samples.len());
        for sample in samples {
            let sample = sample?;
            let [float, int8] = if c.images < LAYER_IMAGES { &mut inner } else { &mut fast };
            let a = float.run(&sample.inputs).map_err(of_float)?;
            let b = int8.run(&sample.inputs).map_err(of_int8)?;
            a.iter().zip(b).for_each(|(a, b)| c.outputs.add(a, b));
            c.agree += usize::from(top(&a[0], 1) == top(&b[0], 1));
            if let Some(label) = sample.label {
                if label >= a[0].len() {
                    let message = format!(
                        "its label is {label}, but the output has {} values: give labels from 0",
                        a[0].len()
                    );
                    return Err(Error::new(Stage::Data, sample.name, message));
                }
                c.float.add(&a[0], label);
                c.int8.add(&b[0], label);
            }
            if c.images < LAYER_IMAGES {
                let mut exact: HashMap<String, Vec<f32>> = HashMap::new();
                float.values(|name, v| {
                    exact.insert(name.to_string(), v.to_vec());
                });
                int8.values(|name, found| c.assessment.add(&exact, name, found));
            }
            c.images += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(c)
    }

    /// The part of the images with the same best class.
    pub(crate) fn agreement(&self) -> f64 {
        self.agree as f64 / self.images.max(1) as f64
    }

    /// Multiply-accumulates of a layer.
    fn macs(&self, layer: &Layer) -> u64 {
        self.macs.get(&layer.node).copied().unwrap_or(0)
    }

    /// What a layer takes, in microseconds: in int8, and as far as float has a layer of this name.
    fn layer_times(&self, layer: &Layer) -> Option<[f64; 2]> {
        self.times.as_ref().map(|t| [sum(&t.int8, Some(&layer.node)), sum(&t.float, Some(&layer.node))])
    }

    /// What all steps take, likewise.
    pub(crate) fn total_times(&self) -> Option<[f64; 2]> {
        self.times.as_ref().map(|t| [sum(&t.int8, None), sum(&t.float, None)])
    }

    /// What a layer's row holds, in the order of [`COLUMNS`].
    pub(crate) fn cells(&self, k: usize) -> [String; COLUMNS.len()] {
        let layer = &self.assessment.layers()[k];
        let meter = &layer.meter;
        let or_none = |x: Option<String>| x.unwrap_or_else(|| "-".into());
        let seen = |x: String| if meter.count() > 0 { x } else { "-".into() };
        let range = |r: [f64; 2]| format!("{} … {}", number(r[0]), number(r[1]));
        let ty = match layer.ty {
            QType::F32 => "f32".into(),
            QType::U8 { scale, zero_point } => format!("u8 {} {zero_point}", number(scale.into())),
        };
        let times = self.layer_times(layer);
        let time =
            |which: usize| or_none(times.map(|t| t[which]).filter(|t| *t > 0.0).map(|t| format!("{t:.1}")));
        let macs = self.macs(layer);
        [
            layer.node.clone(),
            layer.op.clone(),
            layer.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×"),
            ty,
            or_none(meter.chosen().map(range)),
            or_none(meter.observed().map(|r| range(r.map(f64::from)))),
            or_none(meter.clipped().filter(|_| meter.count() > 0).map(percent)),
            seen(format!("{:.1}", meter.sqnr_db())),
            seen(format!("{:.5}", meter.cosine())),
            or_none(meter.rmse_steps().filter(|_| meter.count() > 0).map(|r| format!("{r:.3}"))),
            seen(percent(self.assessment.added_noise(k))),
            if macs > 0 { number(macs as f64 / 1e6) } else { "-".into() },
            time(0),
            time(1),
        ]
    }

    /// The same for programs.
    pub(crate) fn json(&self, k: usize) -> serde_json::Value {
        let layer = &self.assessment.layers()[k];
        let (meter, seen) = (&layer.meter, layer.meter.count() > 0);
        let (scale, zero_point) = match layer.ty {
            QType::F32 => (None, None),
            QType::U8 { scale, zero_point } => (Some(scale), Some(zero_point)),
        };
        let times = self.layer_times(layer);
        serde_json::json!({
            "node": layer.node,
            "value": layer.value,
            "op": layer.op,
            "shape": layer.shape,
            "type": if scale.is_some() { "u8" } else { "f32" },
            "integer": layer.integer,
            "float_reason": layer.float_reason,
            "scale": scale,
            "zero_point": zero_point,
            "chosen": meter.chosen(),
            "observed": meter.observed(),
            "clipped": meter.clipped().filter(|_| seen),
            "sqnr_db": seen.then(|| meter.sqnr_db()),
            "cosine": seen.then(|| meter.cosine()),
            "rmse_steps": meter.rmse_steps().filter(|_| seen),
            "added_noise": seen.then(|| self.assessment.added_noise(k)),
            "macs": self.macs(layer),
            "us": times.map(|t| t[0]),
            "float_us": times.map(|t| t[1]),
        })
    }
}

/// What is said of a layer. The grid is its step and its zero point.
pub(crate) const COLUMNS: [&str; 14] = [
    "node",
    "op",
    "output",
    "grid",
    "chosen range",
    "observed range",
    "clipped",
    "SQNR dB",
    "cosine",
    "rmse/step",
    "added noise",
    "MMAC",
    "int8 µs",
    "float µs",
];

impl ComparisonArgs {
    /// The images, opened anew.
    pub(crate) fn samples(&self, graph: &QGraph, preprocess: &Preprocess) -> Result<Samples> {
        let pick = self.limit.map_or(Pick::All, Pick::First);
        load::samples(&self.images, graph, preprocess, self.labels.as_ref(), pick)
    }
}

/// Times of both plans' steps; `None` if the peak of the core cannot be measured.
fn times([float, int8]: &[Plan; 2]) -> Result<Option<Times>> {
    let Some(peak) = peak::measure(&int8.target) else { return Ok(None) };
    let dumps = Dumps { perf_map: false, jitdump: false };
    let rows = |plan: &Plan| profile::measure(plan.clone(), 1, TIMED_RUNS, peak.clock, dumps);
    Ok(Some(Times { peak, float: rows(float)?, int8: rows(int8)? }))
}

fn same_interface(float: &QGraph, quantized: &QGraph) -> Result<()> {
    let shapes = |g: &QGraph| -> Vec<Vec<usize>> {
        g.inputs.iter().chain(&g.outputs).map(|&i| g.value(i).shape.clone()).collect()
    };
    if shapes(float) == shapes(quantized) {
        return Ok(());
    }
    let message =
        "has other inputs or outputs than the float network: quantize that very model, with the same --shape";
    Err(Error::new(Stage::Run, "", message))
}

/// Three digits that count.
pub(crate) fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        m if !(1e-3..1e5).contains(&m) => format!("{x:.2e}"),
        m => format!("{x:.*}", (2 - m.log10().floor() as i32).max(0) as usize),
    }
}

/// A part of the whole.
pub(crate) fn percent(x: f64) -> String {
    if x == 0.0 { "0 %".into() } else { format!("{} %", number(100.0 * x)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let text = [0.0, 1.0, -12.345, 123456.0, 99999.0, 0.012345, 1e-5, 999.6].map(number);
        assert_eq!(text, ["0", "1.00", "-12.3", "1.23e5", "99999", "0.0123", "1.00e-5", "1000"]);
        assert_eq!([0.0, 0.001, 1.0].map(percent), ["0 %", "0.100 %", "100 %"]);
    }
}
