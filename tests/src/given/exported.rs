//! An exported model, imported again, is the same network: the same bits from the same constants.

use super::*;
use qgraph_compiler::qgraph::{BlobType, file};

/// Constants by name, integers and multipliers alike.
fn constants(graph: &QGraph) -> Vec<(&str, BlobType, &[u8])> {
    let blob = |k: usize| {
        let blob = &graph.blobs[k];
        (&blob.name[..], blob.ty, &graph.data[blob.offset..blob.offset + blob.bytes()])
    };
    let mut all: Vec<_> = (0..graph.blobs.len()).map(blob).collect();
    all.sort_by_key(|(name, ..)| *name);
    all
}

#[track_caller]
pub(crate) fn assert_same(graph: &QGraph, inputs: &[Vec<f32>]) -> QGraph {
    let again = again(graph).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    assert!(evaluate(graph, inputs) == evaluate(&again, inputs), "{graph}\n{again}");
    assert!(constants(graph) == constants(&again), "{graph}\n{again}");
    again
}

#[test]
fn the_demo_network() {
    let path = crate::support::workspace_root().join("examples/embedded/digits.qgraph");
    let graph = file::load(&path).unwrap();
    let count = graph.value(graph.inputs[0]).shape.iter().product();
    let second = assert_same(&graph, &[noise(count, 5)]);
    // What is exported is a fixed point.
    assert_eq!(pipeline::export(&graph).unwrap(), pipeline::export(&second).unwrap());
}

#[test]
fn models_that_were_given() {
    let (inputs, _) = input(X);
    let reads =
        [("GlobalAveragePool", vec![]), ("MaxPool", vec![ints("kernel_shape", &[2, 2])]), ("Relu", vec![])];
    for (op, attributes) in reads {
        let model = started(X)
            .node("DequantizeLinear", &["q", "x_s", "x_z"], &["d"], &[])
            .node(op, &["d"], &["c"], &attributes)
            .levels("y", 0.02, UINT8, 120)
            .node("QuantizeLinear", &["c", "y_s", "y_z"], &["r"], &[])
            .node("DequantizeLinear", &["r", "y_s", "y_z"], &["y"], &[])
            .output("y");
        assert_same(&quantized(&model), &inputs);
    }
}
