//! `qgraph inspect`: what is in a file.

use crate::Done;
use crate::load::{self, Model, ShapeArgs, about};
use qgraph_compiler::lower::Options;
use qgraph_compiler::pipeline;
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::target::Target;
use std::path::PathBuf;

/// Show a network's inputs, outputs, preprocessing, sizes, and what runs in int8 or float
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph inspect model.qgraph
  qgraph inspect model.onnx --json")]
pub(crate) struct Args {
    /// A .qgraph or .onnx
    model: PathBuf,
    /// Machine-readable result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let model = Model::open(&args.model, &args.shapes)?;
    let graph = model.runnable().map_err(about(&args.model))?;
    let plan = pipeline::schedule(&graph, &Target::detect(), &Options::default());
    let plan = plan.map_err(about(&args.model))?;
    let io = |ids: &[qgraph_compiler::qgraph::QValueId]| -> Vec<_> {
        let one = |&id| {
            let v = graph.value(id);
            serde_json::json!({ "name": v.name, "shape": v.shape, "type": "f32" })
        };
        ids.iter().map(one).collect()
    };
    let report = serde_json::json!({
        "name": graph.name,
        "quantized": matches!(model, Model::Quantized(_)),
        "inputs": io(&graph.inputs),
        "outputs": io(&graph.outputs),
        "preprocess": graph.preprocess,
        "nodes": graph.nodes.len(),
        "weight_bytes": graph.data.len(),
        "gmac": plan.macs() as f64 / 1e9,
        "arena_bytes": plan.arena_bytes,
        "target": plan.target.name,
        "steps": plan.steps.len(),
        "kernels": plan.kernels.len(),
    });
    if args.json {
        return Ok(format!("{report}\n"));
    }
    Ok(text(&report, &graph))
}

fn text(report: &serde_json::Value, graph: &QGraph) -> String {
    let field = |k: &str| report[k].to_string();
    let kind = if report["quantized"] == true { "int8" } else { "float, fused" };
    let mut text = format!("{} ({kind})\n", graph.name);
    for (kind, ids) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for &id in ids {
            let v = graph.value(id);
            text += &format!("{kind:<10} {} {:?} f32\n", v.name, v.shape);
        }
    }
    if let Some(p) = &graph.preprocess {
        text += &format!("preprocess {}\n", serde_json::to_string(p).unwrap_or_default());
    }
    text += &format!(
        "size       {} nodes, {} bytes of weights, {} GMAC\n",
        field("nodes"),
        field("weight_bytes"),
        field("gmac")
    );
    let (steps, kernels) = (field("steps"), field("kernels"));
    text += &format!(
        "plan       {}: {steps} steps, {kernels} kernels, {} bytes of arena\n",
        report["target"].as_str().unwrap_or(""),
        field("arena_bytes")
    );
    text + &load::placement(graph)
}
