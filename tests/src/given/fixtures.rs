//! Small models that ONNX Runtime quantized, with what it computes: made by `tests/peers/given.py`, which needs Python; the test does not.

use super::*;
use crate::support::workspace_root;
use qgraph_compiler::onnx::import;

/// The f32 of a little-endian file.
fn numbers(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(workspace_root().join("tests/given").join(name)).expect("a committed file");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The integer graph of a form.
fn graph(form: &str) -> QGraph {
    let path = workspace_root().join(format!("tests/given/{form}.onnx"));
    let imported = import(&path, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let fused = pipeline::fuse(&imported).unwrap_or_else(|e| panic!("{e}")).0;
    pipeline::quantize_given(&fused, &quant::Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    for form in ["qdq", "qlinear", "qdq_s8"] {
        let graph = graph(form);
        assert_eq!(floats(&graph), [""; 0], "{form}");
        let (inputs, expected) = (numbers("inputs.f32"), numbers(&format!("{form}.f32")));
        let step = expected[0];
        let images: Vec<&[f32]> = inputs.chunks(3 * 16 * 16).collect();
        let outputs: Vec<&[f32]> = expected[1..].chunks(10).collect();
        assert_eq!(images.len(), outputs.len());
        for (k, (image, expected)) in images.iter().zip(&outputs).enumerate() {
            let image = [image.to_vec()];
            assert_equal(&graph, &image, form);
            let found: Vec<f32> = evaluate(&graph, &image)[0].iter().map(|f| f32::from_bits(*f)).collect();
            // In steps: how a step is multiplied is no question of integers.
            let steps = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| (x / step).round()).collect() };
            assert_eq!(steps(&found), steps(expected), "{form}: image {k}");
        }
        exported::assert_same(&graph, &[images[0].to_vec()]);
    }
}
