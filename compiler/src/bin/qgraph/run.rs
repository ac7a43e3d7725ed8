//! `qgraph run`: one input through a network.

use crate::load::{self, EngineArg, Model, PreprocessArgs, ShapeArgs};
use crate::score::top;
use crate::{Done, Failure};
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
    /// A .qgraph, or a float .onnx (which is fused and run in f32)
    model: PathBuf,
    /// An image, .npy, .npz (several inputs), the first sample of any set, or `random`
    #[arg(long, value_name = "IMAGE|FILE.npy")]
    input: String,
    /// Who runs it; all give the same bits [default: jit where this CPU can]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
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
    preprocess: PreprocessArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let graph = Model::open(&args.model, &args.shapes)?.runnable()?;
    let (engine, target) = load::engine(args.engine)?;
    let preprocess = args.preprocess.over(graph.preprocess.as_ref());
    let mut samples = load::samples(&args.input, &graph, &preprocess, None, Pick::First(1))?;
    let Some(sample) = samples.next() else {
        return Err(Failure::Io("the input holds no sample".into()));
    };
    let inputs = sample?.inputs;
    let mut runner = Runner::new(&graph, engine, &target, &Options::default())?;
    let outputs = runner.run(&inputs)?;
    let names = args.labels.as_deref().map(data::class_names).transpose()?;
    let digest = digest(outputs);
    let mut report = Vec::new();
    for (&id, values) in graph.outputs.iter().zip(outputs) {
        let value = graph.value(id);
        let classes = top(values, args.top);
        let class = |&k: &usize| {
            let name = names.as_ref().and_then(|n| n.get(k)).cloned();
            serde_json::json!({ "class": k, "value": values[k], "name": name })
        };
        let vector = value.shape.iter().product::<usize>() == value.shape.last().copied().unwrap_or(1)
            || value.shape[1..].iter().product::<usize>() == value.shape[1];
        if !args.json {
            println!("{} {:?}", value.name, value.shape);
            for &k in classes.iter().filter(|_| vector) {
                let name = names.as_ref().and_then(|n| n.get(k)).map_or("", String::as_str);
                println!("  {k:>5}  {:>12.5}  {name}", values[k]);
            }
        }
        let top: Vec<_> = if vector { classes.iter().map(class).collect() } else { Vec::new() };
        report.push(serde_json::json!({ "name": value.name, "shape": value.shape, "top": top }));
    }
    if args.json {
        let report = serde_json::json!({ "engine": engine.name(), "outputs": report, "digest": digest });
        println!("{report}");
    } else if args.digest {
        println!("{digest}");
    }
    if let Some(path) = &args.output {
        for (k, (&id, values)) in graph.outputs.iter().zip(outputs).enumerate() {
            let path = if k == 0 { path.clone() } else { path.with_extension(format!("{k}.npy")) };
            data::write_npy(&path, &graph.value(id).shape, values)?;
            if !args.json {
                println!("wrote {}", path.display());
            }
        }
    }
    Ok(())
}

/// SHA-256 of all outputs' little-endian bytes, in order.
fn digest(outputs: &[Vec<f32>]) -> String {
    let mut hash = Sha256::new();
    for x in outputs.iter().flatten() {
        hash.update(x.to_le_bytes());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
