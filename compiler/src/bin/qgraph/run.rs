//! `qgraph run`: one input through a network.

use crate::Done;
use crate::load::{self, EngineArg, Model, PreprocessArgs, ShapeArgs, TargetArgs, TuneArgs, about};
use crate::score::top;
use qgraph_compiler::data::{self, Pick};
use qgraph_compiler::lower::Options;
use qgraph_compiler::runner::Runner;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Run a network on one image or array
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph run model.qgraph --input cat.jpg --top 5 --labels classes.txt
  qgraph run model.onnx --input x.npy --output y.npy
  qgraph run model.qgraph --input random --engine interp --digest")]
pub(crate) struct Args {
    /// A .qgraph, or an .onnx: float is fused and run in f32, what is quantized already in its integers
    model: PathBuf,
    /// An image, .npy, .npz (several inputs), the first sample of any set, or `random`
    #[arg(long, value_name = "IMAGE|FILE.npy")]
    input: String,
    /// Who runs it; all give the same bits [default: jit where this CPU can]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Print so many best classes
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Names of the classes, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Write the outputs (further outputs get a number before the ending)
    #[arg(long, value_name = "OUT.npy")]
    output: Option<PathBuf>,
    /// Print the SHA-256 of the outputs' bytes
    #[arg(long)]
    digest: bool,
    /// Machine-readable result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    tune: TuneArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let about = about(&args.model);
    let graph = Model::open(&args.model, &args.shapes)?.runnable().map_err(about)?;
    let (engine, target) = load::engine(args.engine, &args.target)?;
    let names = args.labels.as_deref().map(data::class_names).transpose()?;
    let preprocess = args.preprocess.over(graph.preprocess.as_ref());
    let mut samples = load::samples(&args.input, &graph, &preprocess, None, Pick::First(1))?;
    let inputs = samples.next().expect("an opened set is not empty")?.inputs;
    let options = Options { choices: args.tune.choices(&target)?, ..Options::default() };
    let mut runner =
        Runner::threaded(&graph, engine, &target, &options, args.threads.into()).map_err(about)?;
    let outputs = runner.run(&inputs).map_err(about)?;
    let digest = digest(outputs);
    let (mut text, mut report, mut written) = (String::new(), Vec::new(), Vec::new());
    for (&id, values) in graph.outputs.iter().zip(outputs) {
        let value = graph.value(id);
        // Classes are what has one axis of more than one element.
        let classes = value.shape.iter().max() == Some(&values.len());
        let best = if classes { top(values, args.top) } else { Vec::new() };
        let name = |k: usize| names.as_ref().and_then(|n| n.get(k));
        text += &format!("{} {:?}\n", value.name, value.shape);
        for &k in &best {
            let line = format!("  {k:>5}  {:>12.5}  {}", values[k], name(k).map_or("", String::as_str));
            text += &format!("{}\n", line.trim_end());
        }
        let class = |&k: &usize| serde_json::json!({ "class": k, "value": values[k], "name": name(k) });
        let best: Vec<_> = best.iter().map(class).collect();
        report.push(serde_json::json!({ "name": value.name, "shape": value.shape, "top": best }));
    }
    if args.digest {
        text += &format!("{digest}\n");
    }
    if let Some(path) = &args.output {
        for (k, (&id, values)) in graph.outputs.iter().zip(outputs).enumerate() {
            let path = if k == 0 { path.clone() } else { path.with_extension(format!("{k}.npy")) };
            data::write_npy(&path, &graph.value(id).shape, values)?;
            text += &format!("wrote {}\n", path.display());
            written.push(path.display().to_string());
        }
    }
    if args.json {
        let engine = engine.name();
        let report =
            serde_json::json!({ "engine": engine, "outputs": report, "digest": digest, "written": written });
        return Ok(format!("{report}\n"));
    }
    Ok(text)
}

/// SHA-256 of all outputs' little-endian bytes, in order.
fn digest(outputs: &[Vec<f32>]) -> String {
    let mut hash = Sha256::new();
    for x in outputs.iter().flatten() {
        hash.update(x.to_le_bytes());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
