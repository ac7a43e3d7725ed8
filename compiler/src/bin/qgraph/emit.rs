//! `qgraph emit`: the text of any stage.

use crate::Done;
use crate::load::{Model, ShapeArgs, TargetArgs, about};
use qgraph_compiler::lower::Options;
use qgraph_compiler::pipeline::{self, Emit};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Stage};
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
    /// Images per run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Machine code, as an assembler takes it (global_asm! with options(raw))
    Asm,
}

pub(crate) fn main(args: &Args) -> Done {
    let model = Model::open(&args.model, &args.shapes)?;
    let target = if args.what == What::Asm { args.target.target_of_code() } else { args.target.target() };
    if args.what == What::Asm && target.needs().is_none() {
        let names: Vec<_> = Target::ALL.iter().filter(|t| t.needs().is_some()).map(|t| t.name).collect();
        let message =
            format!("there is no machine code for {target}: name {}, or emit kernels", names.join(", "));
        return Err(Error::new(Stage::Jit, "--target", message).in_file(&args.model));
    }
    let from_plan = |what| -> Result<String, Error> {
        let options = Options { batch: args.batch.into(), ..Options::default() };
        pipeline::emit(pipeline::schedule(&model.runnable()?, &target, &options)?, what)
    };
    let about = about(&args.model);
    let text = match (args.what, &model) {
        (What::Graph, Model::Float(graph)) => graph.to_string(),
        (What::Fused, Model::Float(graph)) => pipeline::fuse(graph).map_err(about)?.0.to_string(),
        (What::Graph | What::Fused, Model::Quantized(_)) => {
            let message = "a .qgraph holds no float graph: give the .onnx, or emit qgraph";
            return Err(Error::new(Stage::File, args.model.display().to_string(), message));
        }
        (What::Qgraph, model) => model.runnable().map_err(about)?.to_string(),
        (What::Plan, _) => from_plan(Emit::Plan).map_err(about)?,
        (What::Kernels, _) => from_plan(Emit::Kernels).map_err(about)?,
        (What::Asm, _) => from_plan(Emit::Asm).map_err(about)?,
    };
    let text = format!("{}\n", text.trim_end());
    let Some(path) = &args.output else { return Ok(text) };
    std::fs::write(path, text)
        .map_err(|e| Error::new(Stage::File, path.display().to_string(), format!("cannot write: {e}")))?;
    Ok(format!("wrote {}\n", path.display()))
}
