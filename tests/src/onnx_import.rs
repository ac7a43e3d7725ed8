//! ONNX import held against the format: every operator in every dialect, real models, shapes, and hostile files.

mod arithmetic;
mod hostile;
mod interface;
mod layout;
mod problems;
mod real;
mod windows;

use crate::support::model_builder::*;
use qgraph_compiler::error::{Error, Stage};
use qgraph_compiler::graph::Graph;
use qgraph_compiler::graph::verify::verify;
use qgraph_compiler::onnx::proto::AttributeProto;
use qgraph_compiler::onnx::{Options, import_bytes};

/// Imports, and checks what holds of every imported graph.
fn import(model: &Model) -> Graph {
    let graph = import_bytes(&model.bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(verify(&graph), []);
    graph
}

/// The lines of the imported graph's text, one per node.
fn lines(model: &Model) -> Vec<String> {
    import(model).to_string().lines().skip(1).map(|l| l.trim().to_owned()).collect()
}

/// What import says against the model.
fn error(model: &Model) -> String {
    let error: Error =
        import_bytes(&model.bytes(), &Options::default()).expect_err("import must refuse this");
    assert_eq!(error.stage, Stage::Import);
    assert!(!error.problems.is_empty());
    error.to_string()
}

/// A model of one node that gives `y` from its inputs.
fn one(opset: i64, op: &str, inputs: &[&str], attributes: &[AttributeProto]) -> Model {
    Model::new(opset).node(op, inputs, &["y"], attributes).output("y")
}

/// Checks the text of the graph, line by line.
#[track_caller]
fn gives(model: Model, expected: &[&str]) {
    assert_eq!(lines(&model), expected);
}

/// Checks that import refuses with a message that has these words in it.
#[track_caller]
fn refuses(model: Model, words: &[&str]) {
    let message = error(&model);
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}
