//! Opening what the user names: `.onnx` or `.qgraph`, input shapes, preprocessing, engines.

use clap::Args;
use qgraph_compiler::data::{Input, Options, Pick, Samples};
use qgraph_compiler::graph::{Graph, Tensor};
use qgraph_compiler::preprocess::{ChannelOrder, Preprocess};
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::runner::Engine;
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Result, Stage, onnx, pipeline, quant};
use std::path::{Path, PathBuf};

/// How images become inputs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Preprocessing (stored in the .qgraph)")]
pub(crate) struct PreprocessArgs {
    /// Subtracted per channel, after --scale: one number or one per channel
    #[arg(long, value_delimiter = ',', value_name = "R,G,B", allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// Divided by per channel: one number or one per channel
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    std: Option<Vec<f32>>,
    /// Multiplies the 8-bit pixels first
    #[arg(long, value_name = "F")]
    scale: Option<f32>,
    /// Resize so that the shorter side has this length
    #[arg(long, value_name = "N")]
    resize: Option<u32>,
    /// Cut out the centre square of this side
    #[arg(long, value_name = "N")]
    crop: Option<u32>,
    /// Order of the colour channels
    #[arg(long, value_name = "rgb|bgr")]
    order: Option<Order>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Order {
    Rgb,
    Bgr,
}

impl PreprocessArgs {
    /// What was given, over `base`.
    pub(crate) fn over(&self, base: Option<&Preprocess>) -> Preprocess {
        let mut p = base.cloned().unwrap_or_default();
        if let Some(mean) = &self.mean {
            p.mean.clone_from(mean);
        }
        if let Some(std) = &self.std {
            p.std.clone_from(std);
        }
        p.scale = self.scale.unwrap_or(p.scale);
        p.resize = self.resize.or(p.resize);
        p.crop = self.crop.or(p.crop);
        p.order = match self.order {
            Some(Order::Rgb) => ChannelOrder::Rgb,
            Some(Order::Bgr) => ChannelOrder::Bgr,
            None => p.order,
        };
        p
    }
}

/// Shapes of ONNX inputs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ShapeArgs {
    /// Shape of an ONNX input whose dimensions are symbolic; may be given for each input
    #[arg(long = "shape", value_name = "NAME=1x3x224x224", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
}

impl ShapeArgs {
    pub(crate) fn options(&self) -> onnx::Options {
        onnx::Options { shapes: self.shapes.clone() }
    }
}

fn shape(text: &str) -> std::result::Result<(String, Vec<usize>), String> {
    let wrong = || format!("'{text}' is not NAME=1x3x224x224");
    let (name, dims) = text.rsplit_once('=').ok_or_else(wrong)?;
    let dims: Vec<usize> =
        dims.split('x').map(|d| d.parse().map_err(|_| wrong())).collect::<std::result::Result<_, _>>()?;
    if dims.is_empty() || dims.contains(&0) { Err(wrong()) } else { Ok((name.to_string(), dims)) }
}

/// Which engine runs.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineArg {
    /// Machine code (AVX-512 VNNI)
    Jit,
    /// The kernel interpreter
    Interp,
    /// The reference evaluator
    Eval,
}

/// The engine and target to use: what was asked for, else the best here. Says so when the machine cannot run machine code.
pub(crate) fn engine(asked: Option<EngineArg>) -> Result<(Engine, Target)> {
    let target = Target::detect();
    let best = Engine::best(&target);
    let engine = match asked {
        Some(EngineArg::Jit) if best != Engine::Jit => {
            let message = "this CPU has no AVX-512 VNNI, which machine code needs; use --engine interp";
            return Err(Error::new(Stage::Jit, "--engine jit", message));
        }
        Some(EngineArg::Jit) => Engine::Jit,
        Some(EngineArg::Interp) => Engine::Interp,
        Some(EngineArg::Eval) => Engine::Eval,
        None => {
            if best != Engine::Jit {
                eprintln!("qgraph: this CPU has no AVX-512 VNNI: running the portable kernel interpreter");
            }
            best
        }
    };
    Ok((engine, target))
}

/// A model as the user named it.
pub(crate) enum Model {
    /// Float, imported.
    Float(Graph),
    /// Quantized.
    Quantized(QGraph),
}

impl Model {
    /// Opens by content: an ONNX file unless the name ends in `.qgraph`.
    pub(crate) fn open(path: &Path, shapes: &ShapeArgs) -> Result<Model> {
        if path.extension().is_some_and(|e| e == "qgraph") {
            if !shapes.shapes.is_empty() {
                let message = "the shapes of a .qgraph are fixed; give --shape when quantizing";
                return Err(Error::new(Stage::File, path.display().to_string(), message));
            }
            return file::load(path).map(Model::Quantized);
        }
        pipeline::import(path, &shapes.options()).map(Model::Float)
    }

    /// What runs: the file's graph, or the fused float network.
    pub(crate) fn runnable(&self) -> Result<QGraph> {
        match self {
            Model::Float(graph) => pipeline::float(&pipeline::fuse(graph)?.0),
            Model::Quantized(graph) => Ok(graph.clone()),
        }
    }
}

/// The inputs of an integer graph, for reading samples.
pub(crate) fn inputs(graph: &QGraph) -> Vec<Input> {
    let input = |&id| Input { name: graph.value(id).name.clone(), shape: graph.value(id).shape.clone() };
    graph.inputs.iter().map(input).collect()
}

/// Opens samples for a network.
pub(crate) fn samples(
    spec: &str,
    graph: &QGraph,
    preprocess: &Preprocess,
    labels: Option<&PathBuf>,
    pick: Pick,
) -> Result<Samples> {
    let options =
        Options { inputs: inputs(graph), preprocess: preprocess.clone(), labels: labels.cloned(), pick };
    Samples::open(spec, &options)
}

/// Samples as tensors of a float graph, for calibration.
pub(crate) fn tensors(graph: &Graph, samples: Samples) -> impl Iterator<Item = Result<Vec<Tensor>>> {
    let shapes: Vec<Vec<usize>> = graph.inputs.iter().map(|&i| graph.shape(i).to_vec()).collect();
    samples.map(move |sample| {
        let inputs = sample?.inputs.into_iter().zip(&shapes);
        Ok(inputs.map(|(data, shape)| Tensor::new(shape.clone(), data)).collect())
    })
}

/// Says how much runs in integers, and names everything that does not, with the reason.
pub(crate) fn placement(graph: &QGraph) -> String {
    let all = quant::summary(graph);
    let integer = all.iter().filter(|p| p.integer && !p.border).count();
    let borders = all.iter().filter(|p| p.border).count();
    let float = all.len() - integer - borders;
    let mut text = format!("runs       {integer} nodes in int8, {float} in float, {borders} conversions\n");
    for p in all.iter().filter(|p| integer > 0 && !p.integer) {
        let reason = p.reason.as_deref().unwrap_or("at the border of the integer network");
        text.push_str(&format!("  float    {}: {reason}\n", p.node));
    }
    text
}
