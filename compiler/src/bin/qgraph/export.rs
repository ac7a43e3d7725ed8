//! `qgraph export-onnx`: `.qgraph` in, ONNX in QDQ form out.

use crate::Done;
use crate::load::about;
use qgraph_compiler::qgraph::file;
use qgraph_compiler::quant::Rounding;
use qgraph_compiler::{Error, Result, Stage, pipeline};
use std::path::{Path, PathBuf};

/// Write an int8 network as ONNX that other runtimes read (QDQ form)
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph export-onnx model.qgraph -o model.int8.onnx

Every integer layer is a float operator between DequantizeLinear and QuantizeLinear, with the integers, scales and zero points of the
network. `qgraph quantize model.int8.onnx -o again.qgraph` reads it back. ONNX Runtime computes the same integers if the network was
quantized with `--rounding onnx`, else some that differ by single steps: the command says which.")]
pub(crate) struct Args {
    /// The int8 network
    model: PathBuf,
    /// Where the ONNX model goes
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
}

pub(crate) fn main(args: &Args) -> Done {
    let graph = file::load(&args.model)?;
    check_output(&args.output)?;
    let bytes = pipeline::export(&graph).map_err(about(&args.model))?;
    let fail = |e: std::io::Error| {
        Error::new(Stage::File, args.output.display().to_string(), format!("cannot write: {e}"))
    };
    std::fs::write(&args.output, bytes).map_err(fail)?;
    let there = if pipeline::exports_exactly(&graph) {
        "the same in ONNX Runtime"
    } else if graph.rounding == Rounding::Fused || graph.adds_residuals() {
        "in ONNX Runtime they differ by single steps; `qgraph quantize --rounding onnx` avoids that"
    } else {
        "the same in ONNX Runtime, but for single steps behind what it computes in float"
    };
    Ok(format!("integers   {there}\nwrote {}\n", args.output.display()))
}

/// Refuses a name that would mislead.
fn check_output(path: &Path) -> Result<()> {
    match path.extension().is_some_and(|e| e == "qgraph") {
        true => Err(Error::new(
            Stage::File,
            path.display().to_string(),
            "would be an ONNX model: name it OUT.onnx",
        )),
        false => Ok(()),
    }
}
