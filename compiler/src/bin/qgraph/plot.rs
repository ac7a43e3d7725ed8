//! `qgraph plot`: the graph of a network as a picture.

use crate::Done;
use crate::load::{Model, ShapeArgs, about};
use qgraph_compiler::draw::Diagram;
use qgraph_compiler::{Error, Result, Stage, pipeline};
use std::path::{Path, PathBuf};

/// Draw a network's graph as SVG or DOT
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph plot model.onnx -o model.svg
  qgraph plot model.onnx --stage fused -o fused.dot
  qgraph plot model.qgraph -o int8.svg

An SVG opens in any browser; a box tells more when the pointer rests on it. DOT is for Graphviz.")]
pub(crate) struct Args {
    /// A .qgraph or .onnx
    model: PathBuf,
    /// Which graph [default: what the file holds]
    #[arg(long, value_enum)]
    stage: Option<StageArg>,
    /// Where the picture goes; its name says which it is
    #[arg(short, long, value_name = "OUT.svg|OUT.dot")]
    output: PathBuf,
    #[command(flatten)]
    shapes: ShapeArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum StageArg {
    /// The imported float graph
    Graph,
    /// The fused float graph
    Fused,
    /// The integer graph
    Qgraph,
}

pub(crate) fn main(args: &Args) -> Done {
    let write = format(&args.output)?;
    let model = Model::open(&args.model, &args.shapes)?;
    let diagram = match (&model, args.stage) {
        (Model::Float(graph), None | Some(StageArg::Graph)) => Diagram::from(graph),
        (Model::Float(graph), Some(StageArg::Fused)) => {
            Diagram::from(&pipeline::fuse(graph).map_err(about(&args.model))?.0)
        }
        (Model::Quantized(graph), None | Some(StageArg::Qgraph)) => Diagram::from(graph),
        (Model::Float(_), Some(StageArg::Qgraph)) => {
            return Err(refuse(
                &args.model,
                "is not quantized: make a .qgraph with `qgraph quantize`, or leave out --stage",
            ));
        }
        (Model::Quantized(_), Some(StageArg::Graph | StageArg::Fused)) => {
            return Err(refuse(
                &args.model,
                "a .qgraph holds no float graph: give the .onnx, or leave out --stage",
            ));
        }
    };
    std::fs::write(&args.output, write(&diagram))
        .map_err(|e| refuse(&args.output, &format!("cannot write: {e}")))?;
    Ok(format!("wrote {}\n", args.output.display()))
}

/// What the name of the output asks for.
fn format(output: &Path) -> Result<fn(&Diagram) -> String> {
    match output.extension().and_then(|e| e.to_str()) {
        Some("svg") => Ok(Diagram::svg),
        Some("dot" | "gv") => Ok(Diagram::dot),
        _ => Err(refuse(output, "pictures are SVG or DOT: name it OUT.svg or OUT.dot")),
    }
}

fn refuse(file: &Path, message: &str) -> Error {
    Error::new(Stage::File, file.display().to_string(), message)
}
