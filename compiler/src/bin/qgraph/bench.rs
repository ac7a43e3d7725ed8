//! `qgraph bench`: images per second, beside what the core could do at most.

use crate::Done;
use crate::load::{self, EngineArg, InputArgs, Model, ShapeArgs, TargetArgs, TuneArgs, about};
use crate::peak::{self, Peak};
use crate::profile;
use crate::tuning::Tuning;
use qgraph_compiler::blob::Bytes;
use qgraph_compiler::data::{Pick, Random};
use qgraph_compiler::graph::Graph;
use qgraph_compiler::lower::Options;
use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::runner::{Engine, Parallel, pool};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Result, Stage, pipeline, quant};
use qgraph_runtime::{Dtype, Model as RunModel, RunError, TensorDesc, TensorMut, TensorRef};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measure images per second on seeded noise
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  taskset -c 0 qgraph bench resnet50.qgraph
  qgraph bench resnet50.onnx --shape data=1x3x224x224 --modes naive,fused,int8
  qgraph bench model.qgraph --batch 8 --threads 2 --iters 50 --json
  qgraph bench model.qgraph --profile
  qgraph bench model.qgraph --input u8
  qgraph bench model.qgraph --tune --tune-cache tune.json

An .onnx in mode int8 is calibrated on noise: right for timing, meaningless for accuracy.")]
pub(crate) struct Args {
    /// A .qgraph (mode int8), or a float .onnx
    model: PathBuf,
    /// What to run [default: int8 for a .qgraph, all for an .onnx]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "naive,fused,int8")]
    modes: Vec<Mode>,
    /// Images per run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Threads; they share the images of a batch, and each image that is left over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Runs measured, after two to warm up [default: about two seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iters: Option<u32>,
    #[command(flatten)]
    input: InputArgs,
    /// Who runs it [default: jit where this CPU can]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
    /// Show what every layer takes on one thread, or on all that share an image
    #[arg(long)]
    profile: bool,
    /// Meanwhile name the kernels for `perf report`, in /tmp/perf-PID.map
    #[arg(long, requires = "profile")]
    perf_map: bool,
    /// Meanwhile write names and code of the kernels for `perf inject --jit`, into jit-PID.dump in the system's temporary folder; record with
    /// `perf record -k 1`
    #[arg(long, requires = "profile")]
    jitdump: bool,
    /// First time other ways of cutting each distinct layer on this machine, use the fastest, and keep it in the file of --tune-cache [default:
    /// qgraph/tune.json in the user's cache folder]
    #[arg(long)]
    tune: bool,
    #[command(flatten)]
    tuning: TuneArgs,
    /// Machine-readable result: an array of one object per mode
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
}

/// Runs before the first that counts.
const UNMEASURED: usize = 3;

/// Rounds in which two networks are compared, and about how long one is.
const COST_ROUNDS: usize = 3;
const COST_SECONDS: f64 = 0.2;

/// How a network is run.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// f32, operator by operator
    Naive,
    /// f32, fused
    Fused,
    /// Quantized
    Int8,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Naive => "naive",
            Mode::Fused => "fused",
            Mode::Int8 => "int8",
        }
    }
}

/// What was measured.
pub(crate) struct Speed {
    /// Images per second: median and best run.
    pub(crate) median: f64,
    pub(crate) best: f64,
    /// Giga multiply-accumulates of one image.
    pub(crate) gmac: f64,
    /// Runs measured.
    pub(crate) runs: usize,
}

pub(crate) fn main(args: &Args) -> Done {
    let model = Model::open(&args.model, &args.shapes)?;
    let (engine, target) = load::engine(args.engine, &args.target)?;
    if engine == Engine::Eval {
        let message = "the evaluator is a definition, not for speed; use jit or interp";
        return Err(Error::new(Stage::Run, "--engine eval", message));
    }
    let (batch, threads) = (usize::from(args.batch), usize::from(args.threads));
    let modes = match (&model, args.modes.is_empty()) {
        (_, false) => args.modes.clone(),
        (Model::Float(_), true) => vec![Mode::Naive, Mode::Fused, Mode::Int8],
        (Model::Quantized(_), true) => vec![Mode::Int8],
    };
    let peak = if engine == Engine::Jit { peak::measure(&target) } else { None };
    if args.profile && engine != Engine::Jit {
        let message = "only machine code is timed step by step: leave it out, or use --engine jit";
        return Err(Error::new(Stage::Run, "--profile", message));
    }
    if args.tune && engine != Engine::Jit {
        let message = "only machine code is timed: leave it out, or use --engine jit";
        return Err(Error::new(Stage::Run, "--tune", message));
    }
    // Threads that do not have images of their own share each.
    let sharing = if batch < threads { threads } else { 1 };
    let mut tuning = Tuning::new(args.tune, &args.tuning, &target)?;
    let mut rows = Vec::new();
    for mode in modes {
        let found = graph(&model, mode).and_then(|graph| {
            let options = Options { batch, input: args.input.format(), ..Options::default() };
            // A thread tunes for the images that it has on its own.
            let own = Options { batch: (batch / threads).max(1), ..options.clone() };
            let options = Options { choices: tuning.choices(&graph, &own)?, ..options };
            let speed = measure(&graph, engine, &target, &options, threads, args.iters)?;
            let plan = || pipeline::schedule(&graph, &target, &options);
            let dumps = profile::Dumps { perf_map: args.perf_map, jitdump: args.jitdump };
            let profile = |p: Peak| profile::measure(plan()?, sharing, speed.runs, p.clock, dumps);
            let profile = peak.filter(|_| args.profile).map(profile).transpose()?;
            Ok((mode, speed, profile))
        });
        rows.push(found.map_err(about(&args.model))?);
    }
    let note = tuning.finish()?;
    let report = report(args, engine, peak, sharing, &rows);
    Ok(if args.json { report } else { note + &report })
}

/// The network of a mode.
pub(crate) fn graph(model: &Model, mode: Mode) -> Result<QGraph> {
    match (model, mode) {
        (Model::Quantized(graph), Mode::Int8) => Ok(graph.clone()),
        (Model::Quantized(_), Mode::Naive | Mode::Fused) => Err(Error::new(
            Stage::Run,
            "--modes",
            format!("a .qgraph holds no float network: bench the .onnx for mode {}", mode.name()),
        )),
        (Model::Float(graph), Mode::Naive) => pipeline::float(graph),
        (Model::Float(graph), Mode::Fused) => pipeline::float(&pipeline::fuse(graph)?.0),
        (Model::Float(graph), Mode::Int8) => {
            quantize_on_noise(&pipeline::fuse(graph)?.0, &quant::Options::default())
        }
    }
}

/// The int8 network with ranges of noise: right for timing, meaningless for accuracy.
pub(crate) fn quantize_on_noise(fused: &Graph, options: &quant::Options) -> Result<QGraph> {
    let float = pipeline::float(fused)?;
    let samples = load::samples("random", &float, &Preprocess::default(), None, Pick::First(4))?;
    let profile = pipeline::calibrate(fused, &mut load::tensors(fused, samples), Default::default())?;
    pipeline::quantize(fused, &profile, options)
}

/// Seeded noise, and memory for everything else that a run needs.
pub(crate) struct Buffers {
    inputs: Vec<Noise>,
    outputs: Vec<Vec<f32>>,
    arena: Bytes,
}

/// Elements of an input.
enum Noise {
    F32(Vec<f32>),
    U8(Vec<u8>),
}

impl Noise {
    fn tensor(&self) -> TensorRef<'_> {
        match self {
            Noise::F32(x) => TensorRef::F32(x),
            Noise::U8(x) => TensorRef::U8(x),
        }
    }
}

impl Buffers {
    pub(crate) fn new(model: &dyn RunModel) -> Buffers {
        let mut random = Random::new(0);
        let mut noise = |d: TensorDesc| match d.dtype {
            Dtype::F32 => Noise::F32((0..d.len()).map(|_| random.uniform()).collect()),
            Dtype::U8 => Noise::U8((0..d.len()).map(|_| (256.0 * random.uniform()) as u8).collect()),
        };
        Buffers {
            inputs: (0..model.input_count()).map(|k| noise(model.input(k))).collect(),
            outputs: (0..model.output_count()).map(|k| vec![0.0; model.output(k).len()]).collect(),
            arena: Bytes::zeroed(model.arena_bytes()),
        }
    }

    /// Gives all of it to `run`.
    pub(crate) fn run(
        &mut self,
        run: impl FnOnce(&[TensorRef], &mut [TensorMut], &mut [u8]) -> std::result::Result<(), RunError>,
    ) -> Result<()> {
        let inputs: Vec<TensorRef> = self.inputs.iter().map(Noise::tensor).collect();
        let mut outputs: Vec<TensorMut> = self.outputs.iter_mut().map(|o| TensorMut::F32(o)).collect();
        let done = run(&inputs, &mut outputs, &mut self.arena);
        done.map_err(|e| Error::new(Stage::Run, "", e.to_string()))
    }
}

/// Measures a network.
pub(crate) fn measure(
    graph: &QGraph,
    engine: Engine,
    target: &Target,
    options: &Options,
    threads: usize,
    iters: Option<u32>,
) -> Result<Speed> {
    let model = Parallel::new(graph, engine, target, options, threads)?;
    let gmac = model.plan().macs() as f64 / 1e9;
    let mut pool = pool(threads)?;
    let mut buffers = Buffers::new(&model);
    let mut run = || {
        let start = Instant::now();
        let done = buffers.run(|inputs, outputs, arena| model.run_on(&mut pool, inputs, outputs, arena));
        done.map(|()| start.elapsed())
    };
    for _ in 1..UNMEASURED {
        run()?;
    }
    // Without a count: at least 10 runs and about two seconds.
    let one = run()?.max(Duration::from_nanos(100));
    let runs = iters.map_or_else(|| (2.0 / one.as_secs_f64()).clamp(10.0, 20_000.0) as usize, |n| n as usize);
    let mut times = (0..runs).map(|_| run()).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    let per_second = |t: Duration| options.batch as f64 / t.as_secs_f64().max(1e-9);
    Ok(Speed { median: per_second(times[times.len() / 2]), best: per_second(times[0]), gmac, runs })
}

/// What the second of two networks costs against the first, as a line; each with words that say which it is.
pub(crate) fn cost(networks: [(&str, &QGraph); 2]) -> Result<String> {
    let (engine, target) = load::engine(None, &TargetArgs::default())?;
    let speed = |graph, runs| -> Result<f64> {
        Ok(measure(graph, engine, &target, &Options::default(), 1, Some(runs))?.median)
    };
    let runs = (COST_SECONDS * speed(networks[0].1, 3)?).clamp(3.0, 5000.0) as u32;
    let mut best = [0.0f64; 2];
    // In turn, so that a busy moment does not hit one of them alone.
    for _ in 0..COST_ROUNDS {
        for (best, (_, graph)) in best.iter_mut().zip(networks) {
            *best = best.max(speed(graph, runs)?);
        }
    }
    let [first, second] = best.map(|per_second| 1e3 / per_second);
    let more = 100.0 * (second / first - 1.0);
    let [name, other] = networks.map(|n| n.0);
    Ok(format!(
        "speed      {first:.3} ms an image {name}, {second:.3} ms {other}: {more:.1} % more, on one thread\n"
    ))
}

/// A mode, its speed and, if asked for, its steps.
type Measured = (Mode, Speed, Option<Vec<profile::Row>>);

fn report(args: &Args, engine: Engine, peak: Option<Peak>, sharing: usize, rows: &[Measured]) -> String {
    let peak_of = |mode: Mode| peak.map(|p| if mode == Mode::Int8 { p.int8 } else { p.float });
    let percent = |mode: Mode, s: &Speed| {
        Some(100.0 * s.gmac * 1e9 * s.median / (peak_of(mode)? * f64::from(args.threads)))
    };
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(mode, s, profile)| {
                let mut row = serde_json::json!({
                    "mode": mode.name(),
                    "engine": engine.name(),
                    "batch": args.batch,
                    "threads": args.threads,
                    "input": args.input.name(),
                    "images_per_s_median": s.median,
                    "images_per_s_best": s.best,
                    "gmac": s.gmac,
                    "peak_gmac_per_s": peak_of(*mode).map(|p| p / 1e9),
                    "percent_of_peak": percent(*mode, s),
                    "runs": s.runs,
                });
                if let Some(steps) = profile {
                    row["layers"] = steps.iter().map(profile::Row::json).collect();
                }
                row
            })
            .collect();
        return format!("{}\n", serde_json::Value::Array(rows));
    }
    let mut text = String::new();
    for (mode, _, profile) in rows {
        if let Some(steps) = profile {
            text += &format!(
                "{}\n{}\n",
                mode.name(),
                profile::table(steps, peak_of(*mode).map(|p| p * sharing as f64))
            );
        }
    }
    text += &peak.map_or(String::new(), |p| {
        format!("peak of one core: {:.0} GMAC/s int8, {:.0} GMAC/s f32\n", p.int8 / 1e9, p.float / 1e9)
    });
    text += "mode    images/s      best    GMAC  % of peak  speed-up\n";
    let base = rows.first().map_or(1.0, |r| r.1.median);
    for (mode, s, _) in rows {
        let percent = percent(*mode, s).map_or("     -".into(), |p| format!("{p:6.1}"));
        text += &format!(
            "{:<6} {:>9.1} {:>9.1} {:>7.3} {percent:>10} {:>8.2}x\n",
            mode.name(),
            s.median,
            s.best,
            s.gmac,
            s.median / base
        );
    }
    text
}
