//! `qgraph explain`: every fusion made, every one declined, and why.

use crate::Done;
use crate::load::{ShapeArgs, about};
use clap::builder::{PossibleValue, PossibleValuesParser};
use qgraph_compiler::{fuse, pipeline};
use std::path::PathBuf;

/// Show what fusion does to a float network: each fusion made, and each declined with the reason
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph explain model.onnx
  qgraph explain model.onnx --without residual,activation
  qgraph explain model.onnx --shape data=1x3x224x224 --json")]
pub(crate) struct Args {
    /// The float network
    model: PathBuf,
    /// Machine-readable result: an array of events
    #[arg(long)]
    json: bool,
    /// Fusion passes to leave out
    #[arg(long, value_name = "PASS[,PASS]", value_delimiter = ',', value_parser = passes())]
    without: Vec<String>,
    #[command(flatten)]
    shapes: ShapeArgs,
}

fn passes() -> PossibleValuesParser {
    PossibleValuesParser::new(fuse::PASSES.iter().map(|p| PossibleValue::new(p.name).help(p.about)))
}

pub(crate) fn main(args: &Args) -> Done {
    let graph = pipeline::import(&args.model, &args.shapes.options())?;
    let mut options = fuse::Options::default();
    for pass in &args.without {
        options.set(pass, false)?;
    }
    let (fused, events) = fuse::fuse_with(&graph, &options).map_err(about(&args.model))?;
    if args.json {
        let event = |e: &fuse::Event| serde_json::json!({ "pass": e.pass, "node": e.node, "message": e.message, "done": e.done });
        return Ok(format!("{}\n", serde_json::Value::Array(events.iter().map(event).collect())));
    }
    let report = fuse::report(&events);
    Ok(format!("{report}{} nodes became {}\n", graph.nodes.len(), fused.nodes.len()))
}
