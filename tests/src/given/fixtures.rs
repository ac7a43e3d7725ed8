//! Small models that ONNX Runtime quantized, with what it computes: made by `tests/peers/given.py`, which needs Python; the test does not.

use super::*;
use crate::support::workspace_root;
use qgraph_compiler::onnx::import;

/// The f32 of a little-endian file.
fn numbers(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(workspace_root().join("tests/given").join(name)).expect("a committed file");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn outputs_are_within_one_step_of_onnx_runtime() {
    for form in ["qdq", "qlinear", "qdq_s8"] {
        let path = workspace_root().join(format!("tests/given/{form}.onnx"));
        let graph =
            pipeline::fuse(&import(&path, &Options::default()).unwrap_or_else(|e| panic!("{e}"))).unwrap().0;
        let graph =
            pipeline::quantize_given(&graph, &quant::Options::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(floats(&graph), [""; 0], "{form}");
        let (inputs, expected) = (numbers("inputs.f32"), numbers(&format!("{form}.f32")));
        let step = expected[0];
        let images: Vec<&[f32]> = inputs.chunks(3 * 16 * 16).collect();
        let outputs: Vec<&[f32]> = expected[1..].chunks(10).collect();
        assert_eq!(images.len(), outputs.len());
        let mut far = 0;
        for (image, expected) in images.iter().zip(&outputs) {
            let image = [image.to_vec()];
            assert_equal(&graph, &image, form);
            let found = &evaluate(&graph, &image)[0];
            far += found
                .iter()
                .zip(*expected)
                .filter(|(f, e)| (f32::from_bits(**f) - **e).abs() > 1.01 * step)
                .count();
        }
        assert!(far * 100 <= 10 * outputs.len(), "{form}: {far} of {} are further off", 10 * outputs.len());
    }
}
