//! `qgraph demo`: the whole road on nothing but this program: a small CNN trained on handwritten digits, and digits it never saw.

use crate::Done;
use crate::bench::{Mode, graph, measure};
use crate::load::{self, EngineArg, Model, TargetArgs};
use crate::score::{Score, top};
use qgraph_compiler::data::{self, Sample, Samples};
use qgraph_compiler::graph::Graph;
use qgraph_compiler::lower::Options;
use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Result, Stage, calib, onnx, pipeline};
use std::time::Instant;

/// The network; see `compiler/demo/README.md` for how it was trained.
const NETWORK: &[u8] = include_bytes!("../../../demo/digits.onnx");
/// Digits for calibration: records of a label and 16×16 pixels.
const CALIBRATION: &[u8] = include_bytes!("../../../demo/digits_calib.bin");
/// Digits that neither training nor calibration saw.
const TEST: &[u8] = include_bytes!("../../../demo/digits_test.bin");

/// Quantize and run a built-in network on handwritten digits: accuracy and speed of float, fused float and int8
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph demo
  qgraph demo --json")]
pub(crate) struct Args {
    /// Machine-readable result
    #[arg(long)]
    json: bool,
    /// Who runs it [default: jit where this CPU can]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
}

/// The digits of some records, as inputs of `graph`.
fn digits(records: &'static [u8], graph: &QGraph, preprocess: &Preprocess) -> Result<Samples> {
    let options =
        data::Options { inputs: load::inputs(graph), preprocess: preprocess.clone(), ..Default::default() };
    Samples::from_records("digits", records, &options)
}

pub(crate) fn main(args: &Args) -> Done {
    let (engine, target) = load::engine(args.engine, &TargetArgs::default())?;
    if engine == Engine::Eval {
        let message = "the evaluator is not for speed; use jit or interp";
        return Err(Error::new(Stage::Run, "--engine eval", message));
    }
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let imported = onnx::import_bytes(NETWORK, &onnx::Options::default())?;
    let start = Instant::now();
    let int8 = quantize(&imported, &preprocess)?;
    let quantized_in = start.elapsed();
    let model = Model::Float(imported);
    let networks = [
        ("float", graph(&model, Mode::Naive)?),
        ("fused float", graph(&model, Mode::Fused)?),
        ("int8", int8),
    ];
    let test = digits(TEST, &networks[0].1, &preprocess)?.collect::<Result<Vec<Sample>>>()?;
    let mut rows = Vec::new();
    let mut float_answers = Vec::new();
    for (name, network) in &networks {
        let (score, answers) = classify(network, &test, engine, &target)?;
        let speed = measure(network, engine, &target, &Options::default(), 1, None)?;
        if float_answers.is_empty() {
            float_answers.clone_from(&answers);
        }
        let agree = answers.iter().zip(&float_answers).filter(|(a, b)| a == b).count();
        rows.push((name, score, agree as f64 / answers.len().max(1) as f64, speed, network.data.len()));
    }
    let base = rows[0].3.median;
    if args.json {
        let row = |r: &(&&str, Score, f64, crate::bench::Speed, usize)| {
            serde_json::json!({
                "mode": r.0,
                "top1": r.1.fractions().0,
                "agreement": r.2,
                "images_per_s_median": r.3.median,
                "images_per_s_best": r.3.best,
                "speed_up": r.3.median / base,
                "weight_bytes": r.4,
            })
        };
        return Ok(format!("{}\n", serde_json::Value::Array(rows.iter().map(row).collect())));
    }
    let mut text = format!(
        "A CNN for handwritten digits, tested on {} that neither training nor calibration saw.\n\
         Imported, fused, calibrated and quantized in {:.0} ms; engine {}, target {target}.\n\n\
         {:13}top-1    agrees   images/s   speed-up   weights\n",
        test.len(),
        quantized_in.as_secs_f64() * 1e3,
        engine.name(),
        ""
    );
    for (name, score, agree, speed, bytes) in &rows {
        text += &format!(
            "{name:<12} {:5.1} %  {:5.1} %  {:>9.0}   {:>7.2}x  {:>5} kB\n",
            100.0 * score.fractions().0,
            100.0 * agree,
            speed.median,
            speed.median / base,
            bytes.div_ceil(1000)
        );
    }
    Ok(text)
}

fn quantize(imported: &Graph, preprocess: &Preprocess) -> Result<QGraph> {
    let (fused, _) = pipeline::fuse(imported)?;
    let samples = digits(CALIBRATION, &pipeline::float(&fused)?, preprocess)?;
    let options = calib::Options::default().preprocess(preprocess.clone());
    let profile = pipeline::calibrate(&fused, &mut load::tensors(&fused, samples), options)?;
    pipeline::quantize(&fused, &profile, &Default::default())
}

fn classify(
    network: &QGraph,
    test: &[Sample],
    engine: Engine,
    target: &Target,
) -> Result<(Score, Vec<usize>)> {
    let mut runner = Runner::new(network, engine, target, &Options::default())?;
    let (mut score, mut answers) = (Score::default(), Vec::new());
    for digit in test {
        let outputs = runner.run(&digit.inputs)?;
        score.add(&outputs[0], digit.label.unwrap_or(usize::MAX));
        answers.extend(top(&outputs[0], 1));
    }
    Ok((score, answers))
}
