//! `qgraph emit`: the text of any stage.

use crate::Done;
use crate::load::{Model, ShapeArgs};
use qgraph_compiler::lower::Options;
use qgraph_compiler::pipeline::{self, Emit};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Stage};
use std::io::Write;
use std::path::PathBuf;

/// Print a stage of the compiler as text
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph emit fused model.onnx
  qgraph emit plan model.qgraph --target portable
  qgraph emit asm model.qgraph -o model.s

A float .onnx is fused and scheduled in f32 for plan, kernels and asm.")]
pub(crate) struct Args {
    /// Which text
    #[arg(value_enum)]
    what: What,
    /// A .qgraph, or a float .onnx
    model: PathBuf,
    /// What kernels are written for [default: the best here]
    #[arg(long, value_enum)]
    target: Option<TargetArg>,
    /// Images per run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Write to a file instead of stdout
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    shapes: ShapeArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum What {
    /// The imported float graph
    Graph,
    /// The fused float graph
    Fused,
    /// The integer graph
    Qgraph,
    /// Steps and addresses
    Plan,
    /// The kernels, in the kernel IR
    Kernels,
    /// Disassembled machine code
    Asm,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum TargetArg {
    /// Plain 128-bit vectors
    Portable,
    /// AVX-512 with VNNI
    Avx512vnni,
}

pub(crate) fn main(args: &Args) -> Done {
    let model = Model::open(&args.model, &args.shapes)?;
    let target = match args.target {
        Some(TargetArg::Portable) => Target::portable(),
        Some(TargetArg::Avx512vnni) => Target::avx512vnni(),
        None => Target::detect(),
    };
    let from_plan = |what| -> Result<String, Error> {
        let options = Options { batch: args.batch.into(), ..Options::default() };
        pipeline::emit(pipeline::schedule(&model.runnable()?, &target, &options)?, what)
    };
    let text = match (args.what, &model) {
        (What::Graph, Model::Float(graph)) => graph.to_string(),
        (What::Fused, Model::Float(graph)) => pipeline::fuse(graph)?.0.to_string(),
        (What::Graph | What::Fused, Model::Quantized(_)) => {
            let message = "a .qgraph holds no float graph: give the .onnx, or emit qgraph";
            return Err(Error::new(Stage::File, args.model.display().to_string(), message).into());
        }
        (What::Qgraph, model) => model.runnable()?.to_string(),
        (What::Plan, _) => from_plan(Emit::Plan)?,
        (What::Kernels, _) => from_plan(Emit::Kernels)?,
        (What::Asm, _) => from_plan(Emit::Asm)?,
    };
    match &args.output {
        Some(path) => {
            std::fs::write(path, text)?;
            println!("wrote {}", path.display());
        }
        None => writeln!(std::io::stdout().lock(), "{}", text.trim_end())?,
    }
    Ok(())
}
