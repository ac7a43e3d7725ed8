//! `qgraph explain`: every fusion made, every one declined, and why.

use crate::Done;
use crate::load::ShapeArgs;
use qgraph_compiler::{fuse, pipeline};
use std::path::PathBuf;

/// Show what fusion does to a float network: each fusion made, and each declined with the reason
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  qgraph explain model.onnx")]
pub(crate) struct Args {
    /// The float network
    model: PathBuf,
    /// Machine-readable result: an array of events
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let graph = pipeline::import(&args.model, &args.shapes.options())?;
    let (fused, events) = pipeline::fuse(&graph)?;
    if args.json {
        let event = |e: &fuse::Event| serde_json::json!({ "pass": e.pass, "node": e.node, "message": e.message, "done": e.done });
        println!("{}", serde_json::Value::Array(events.iter().map(event).collect()));
        return Ok(());
    }
    print!("{}", fuse::report(&events));
    println!("{} nodes became {}", graph.nodes.len(), fused.nodes.len());
    Ok(())
}
