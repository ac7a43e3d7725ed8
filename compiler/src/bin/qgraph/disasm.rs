//! `qgraph disasm`: the machine code of one layer.

use crate::Done;
use crate::load::{Model, ShapeArgs, TargetArgs, about};
use qgraph_compiler::jit::{self, Code};
use qgraph_compiler::lower::Options;
use qgraph_compiler::plan::{Plan, Work};
use qgraph_compiler::{Error, Stage, pipeline};
use std::path::PathBuf;

/// Show the machine code that runs for a layer: its loop over the grid, and the kernels it calls
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph disasm model.qgraph Conv_c1
  qgraph disasm model.onnx Conv_c1 --target avx2

`qgraph bench --profile` names the layers, with the time of each.")]
pub(crate) struct Args {
    /// A .qgraph, or a float .onnx (which is fused)
    model: PathBuf,
    /// Name of the layer
    layer: String,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let about = about(&args.model);
    let graph = Model::open(&args.model, &args.shapes)?.runnable().map_err(about)?;
    // Code can be made on any machine, if not run.
    let target = args.target.target_of_code();
    let plan = pipeline::schedule(&graph, &target, &Options::default()).map_err(about)?;
    let code = Code::assemble(&plan, &jit::Options::default()).map_err(about)?;
    listing(&plan, &code, &args.layer).ok_or_else(|| unknown(&plan, &args.layer).in_file(&args.model))
}

/// All steps of a layer, then their kernels, each once.
fn listing(plan: &Plan, code: &Code, layer: &str) -> Option<String> {
    let steps: Vec<usize> = (0..plan.steps.len()).filter(|&i| plan.steps[i].layer == layer).collect();
    let mut names: Vec<String> = Vec::new();
    for &i in &steps {
        names.push(format!("step {i}: {layer}: {}", plan.steps[i].what));
    }
    for &i in &steps {
        if let Work::Kernels(calls) = &plan.steps[i].work {
            for call in calls {
                let name = &plan.kernels[call.kernel].name;
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
    }
    let listings: Option<Vec<String>> = names.iter().map(|name| code.disassemble(name)).collect();
    listings.filter(|l| !l.is_empty()).map(|l| l.join("\n"))
}

fn unknown(plan: &Plan, layer: &str) -> Error {
    let mut layers: Vec<&str> = plan.steps.iter().filter(|s| s.macs > 0).map(|s| s.layer.as_str()).collect();
    layers.dedup();
    let message = format!("no layer of this name runs as machine code; there are {}", layers.join(", "));
    Error::new(Stage::Jit, layer, message)
}
