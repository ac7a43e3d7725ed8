//! Opening what the user names: `.onnx` or `.qgraph`, input shapes, preprocessing, engines, targets.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use qgraph_compiler::data::{Input, Options, Pick, Samples};
use qgraph_compiler::graph::{Graph, Tensor};
use qgraph_compiler::lower::{Choices, InputFormat};
use qgraph_compiler::magic::{MAGIC_BYTES, Magic};
use qgraph_compiler::preprocess::{ChannelOrder, InputLayout, Preprocess};
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::runner::Engine;
use qgraph_compiler::target::Target;
use qgraph_compiler::tune::{Cache, Machine};
use qgraph_compiler::{Error, Result, Stage, onnx, pipeline, quant};
use std::fs::File;
use std::io::Read;
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
    #[arg(long, value_name = "rgb|bgr", hide_possible_values = true)]
    order: Option<Order>,
    /// Order of the input's axes
    #[arg(long, value_name = "nchw|nhwc", hide_possible_values = true)]
    layout: Option<Layout>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Order {
    Rgb,
    Bgr,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Layout {
    Nchw,
    Nhwc,
}

impl PreprocessArgs {
    /// What was given, if anything was.
    pub(crate) fn given(&self) -> Option<Preprocess> {
        let p = self.over(None);
        (p != Preprocess::default()).then_some(p)
    }

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
        p.layout = match self.layout {
            Some(Layout::Nchw) => InputLayout::Nchw,
            Some(Layout::Nhwc) => InputLayout::Nhwc,
            None => p.layout,
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

/// How layers are cut.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TuneArgs {
    /// Cut layers as the file says that `bench --tune` has made; results do not depend on it
    #[arg(long, value_name = "FILE")]
    pub(crate) tune_cache: Option<PathBuf>,
}

impl TuneArgs {
    /// What the file says for this machine; nothing without a file.
    pub(crate) fn choices(&self, target: &Target) -> Result<Choices> {
        let Some(path) = &self.tune_cache else { return Ok(Choices::default()) };
        Ok(Cache::load(path)?.choices(&Machine::here(target), path))
    }
}

/// Which engine runs.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineArg {
    /// Machine code (AVX2, AVX-VNNI or AVX-512 VNNI)
    Jit,
    /// The kernel interpreter
    Interp,
    /// The reference evaluator
    Eval,
}

/// How images are given to a network.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct InputArgs {
    /// How images are given: f32 in the network's axis order, f32 or 8-bit pixels as rows of interleaved channels
    #[arg(
        long,
        value_enum,
        default_value = "f32",
        hide_possible_values = true,
        value_name = "f32|f32-nhwc|u8"
    )]
    input: Format,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    F32,
    F32Nhwc,
    U8,
}

impl InputArgs {
    pub(crate) fn name(self) -> &'static str {
        match self.input {
            Format::F32 => "f32",
            Format::F32Nhwc => "f32-nhwc",
            Format::U8 => "u8",
        }
    }

    pub(crate) fn format(self) -> InputFormat {
        match self.input {
            Format::F32 => InputFormat::F32,
            Format::F32Nhwc => InputFormat::F32Nhwc,
            Format::U8 => InputFormat::U8Nhwc,
        }
    }
}

/// For which instruction set kernels are made.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TargetArgs {
    /// What kernels are made for; integer results do not depend on it [default: the best here]
    #[arg(long, value_name = "NAME", value_parser = target_names())]
    target: Option<Target>,
}

pub(crate) fn target_names() -> impl TypedValueParser<Value = Target> {
    PossibleValuesParser::new(Target::ALL.map(|t| t.name))
        .map(|name| Target::named(&name).expect("the names of all targets"))
}

impl TargetArgs {
    /// What was asked for.
    pub(crate) fn asked(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// What was asked for, else the best here.
    pub(crate) fn target(&self) -> Target {
        self.target.clone().unwrap_or_else(Target::detect)
    }

    /// The same for listings: where there is no machine code for the best here, AVX-512 VNNI.
    pub(crate) fn target_of_code(&self) -> Target {
        let here = || Some(Target::detect()).filter(|t| t.needs().is_some());
        self.target.clone().or_else(here).unwrap_or(Target::avx512vnni())
    }
}

/// The engine and target to use: what was asked for, else the best here. Says so when the machine cannot run machine code.
pub(crate) fn engine(asked: Option<EngineArg>, target: &TargetArgs) -> Result<(Engine, Target)> {
    let target = target.target();
    let best = Engine::best(&target);
    let choice = choose(asked, best, || match target.needs() {
        Some(needs) => format!("this CPU has no {needs}"),
        None if Target::detect() == target => "this CPU has no AVX2 and FMA".into(),
        None => format!("there is no machine code for target {target}"),
    });
    choice.map(|engine| (engine, target))
}

/// What was asked for, if this machine can, whose best engine is `best`; `why` says why that is not machine code.
fn choose(asked: Option<EngineArg>, best: Engine, why: impl Fn() -> String) -> Result<Engine> {
    match asked {
        Some(EngineArg::Jit) if best != Engine::Jit => {
            Err(Error::new(Stage::Jit, "--engine jit", format!("{}: use --engine interp", why())))
        }
        Some(EngineArg::Jit) => Ok(Engine::Jit),
        Some(EngineArg::Interp) => Ok(Engine::Interp),
        Some(EngineArg::Eval) => Ok(Engine::Eval),
        None => {
            if best != Engine::Jit {
                crate::warn(format!("{}: running the kernel interpreter, which is slow", why()));
            }
            Ok(best)
        }
    }
}

/// Names the model in errors about its nodes. Errors about data and files name those already.
pub(crate) fn about(model: &Path) -> impl Fn(Error) -> Error + Copy {
    move |e| if matches!(e.stage, Stage::Data | Stage::File) { e } else { e.in_file(model) }
}

/// A model as the user named it.
pub(crate) enum Model {
    /// Imported, float or quantized already.
    Float(Graph),
    /// Quantized.
    Quantized(QGraph),
}

impl Model {
    /// Opens a file that is what its name ends in, `.qgraph` or `.onnx` (if its content is the other, the reader says so), else what
    /// its content begins like.
    pub(crate) fn open(path: &Path, shapes: &ShapeArgs) -> Result<Model> {
        let quantized = match path.extension().and_then(|e| e.to_str()) {
            Some("qgraph") => true,
            Some("onnx") => false,
            _ => magic(path) == Some(Magic::Safetensors),
        };
        if !quantized {
            return pipeline::import(path, &shapes.options()).map(Model::Float);
        }
        if !shapes.shapes.is_empty() {
            let message = "the shapes of a .qgraph are fixed; give --shape when quantizing";
            return Err(Error::new(Stage::File, path.display().to_string(), message));
        }
        file::load(path).map(Model::Quantized)
    }

    /// What runs: the file's graph, the fused float network, or the integers of a model that is quantized already.
    pub(crate) fn runnable(&self) -> Result<QGraph> {
        match self {
            Model::Float(graph) => {
                let (fused, _) = pipeline::fuse(graph)?;
                match fused.is_quantized() {
                    true => pipeline::quantize_given(&fused, &quant::Options::default()),
                    false => pipeline::float(&fused),
                }
            }
            Model::Quantized(graph) => Ok(graph.clone()),
        }
    }
}

/// What a file begins like, if it can be read: whoever reads it says why not.
fn magic(path: &Path) -> Option<Magic> {
    if !path.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(MAGIC_BYTES as u64).read_to_end(&mut start).ok()?;
    Some(Magic::of(&start))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_vnni_interprets_and_refuses_machine_code() {
        let best = Engine::Interp;
        let why = || "this CPU has no VNNI".to_string();
        let refused = choose(Some(EngineArg::Jit), best, why).unwrap_err().to_string();
        assert_eq!(refused, format!("jit: --engine jit: {}: use --engine interp", why()));
        assert_eq!(choose(None, best, why), Ok(Engine::Interp));
        assert_eq!(choose(Some(EngineArg::Eval), best, why), Ok(Engine::Eval));
        assert_eq!(choose(None, Engine::Jit, why), Ok(Engine::Jit));
        assert_eq!(choose(Some(EngineArg::Interp), Engine::Jit, why), Ok(Engine::Interp));
        // Portable kernels are never run by machine code, on no machine.
        assert_eq!(Engine::best(&Target::portable()), Engine::Interp);
    }

    #[test]
    fn shapes_are_a_name_and_extents() {
        assert_eq!(shape("x=1x3x8x8"), Ok(("x".into(), vec![1, 3, 8, 8])));
        assert_eq!(shape("a=b=7"), Ok(("a=b".into(), vec![7])));
        for wrong in ["x", "x=", "x=1x", "x=1x0", "x=1x-3", "x=1,3", "x=99999999999999999999"] {
            assert!(shape(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
