//! Models that contradict themselves, or that integers cannot follow: what is said.

use super::*;
use crate::support::model_builder::{float_tensor, int};
use qgraph_compiler::onnx::proto::TensorProto;

/// What import says about a model that rounds x with these constants and dequantizes the result with the same.
fn said(scale: TensorProto, zero: Option<TensorProto>) -> String {
    let mut operands = vec!["x", "s"];
    let mut model = Model::new(13).input("x", &[1, 3]).constant("s", scale);
    if let Some(zero) = zero {
        model = model.constant("z", zero);
        operands.push("z");
    }
    let model = model.node("QuantizeLinear", &operands, &["q"], &[]).named("Q");
    operands[0] = "q";
    refusal(&model.node("DequantizeLinear", &operands, &["y"], &[]).output("y"))
}

fn refusal(model: &Model) -> String {
    import_bytes(&model.bytes(), &Options::default()).expect_err("the model is wrong").to_string()
}

fn zero(ty: i32, data: &[i32]) -> Option<TensorProto> {
    let dims = if data.len() == 1 { vec![] } else { vec![data.len() as i64] };
    Some(TensorProto { dims, data_type: ty, int32_data: data.to_vec(), ..Default::default() })
}

#[test]
fn scales_and_zero_points() {
    for (scale, text) in
        [(0.0, "0.0"), (-0.5, "-0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (1e-45, "1e-45")]
    {
        let message = said(float_tensor(&[], &[scale]), zero(UINT8, &[3]));
        let wanted = format!(
            "import: Q (QuantizeLinear): its scale {text} is not a positive normal number: quantize the model again"
        );
        assert_eq!(message, wanted);
    }
    let one = || float_tensor(&[], &[0.5]);
    let message = said(float_tensor(&[3], &[0.5; 3]), zero(UINT8, &[0; 3]));
    assert!(message.contains("has 3 scales for a tensor that is computed: only weights"), "{message}");
    let message = said(one(), zero(UINT8, &[0; 3]));
    assert!(message.contains("has 1 scales but 3 zero points"), "{message}");
    let message = said(one(), zero(UINT16, &[0]));
    assert!(
        message.contains("quantizes to uint16 (the type of its zero point): activations of 8 bits"),
        "{message}"
    );
    let message = said(one(), Some(float_tensor(&[], &[0.0])));
    assert!(message.contains("its zero point holds floats"), "{message}");
    let message =
        refusal(&Model::new(13).input("x", &[1]).node("QuantizeLinear", &["x"], &["q"], &[]).output("q"));
    assert!(message.contains("has no scale (input 1)"), "{message}");
    let computed = Model::new(13).input("x", &[1]).input("s", &[]);
    let message = refusal(&computed.node("QuantizeLinear", &["x", "s"], &["q"], &[]).output("q"));
    assert!(message.contains("the scale is computed at run time"), "{message}");
}

#[test]
fn integers_read_otherwise_than_they_were_made() {
    let model = started(X).levels("other", 0.03, UINT8, 120);
    let message =
        refusal(&model.node("DequantizeLinear", &["q", "other_s", "other_z"], &["y"], &[]).output("y"));
    assert!(
        message.contains(
            "reads input 0 with scale 0.03, zero point 120 (uint8), but it was quantized with scale 0.02, zero point 120 (uint8)"
        ),
        "{message}"
    );
    let message = refusal(&started(X).node("Relu", &["q"], &["y"], &[]).output("y"));
    assert!(
        message.contains("computes with the integers of \"q\" as they are: put DequantizeLinear before it"),
        "{message}"
    );
    let message = refusal(&started(X).output("q"));
    assert!(message.contains("is an output of integers: only float outputs are supported"), "{message}");
    let message =
        refusal(&started(X).node("DequantizeLinear", &["x", "x_s", "x_z"], &["y"], &[]).output("y"));
    assert!(message.contains("its input 0 is not a tensor of integers"), "{message}");
}

/// What is said about dequantizing a weight `[4, 3, 3, 3]`.
fn weight(ty: i32, scales: &[f32], zero_ty: i32, axis: i64) -> String {
    let n = scales.len() as i64;
    refusal(
        &started(X)
            .integers("wq", ty, &[4, 3, 3, 3], &[1; 108])
            .floats("w_s", &[n], scales)
            .integers("w_z", zero_ty, &[n], &vec![0; scales.len()])
            .node("DequantizeLinear", &["q", "x_s", "x_z"], &["xd"], &[])
            .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[int("axis", axis)])
            .named("D")
            .node("Conv", &["xd", "w"], &["y"], &PADDED())
            .output("y"),
    )
}

#[test]
fn weights() {
    let message = weight(INT8, &[0.1; 4], INT8, 1);
    assert!(
        message.contains("D (DequantizeLinear): has 4 scales for axis 1 of [4, 3, 3, 3], which has 3"),
        "{message}"
    );
    let message = weight(INT8, &[0.1; 4], INT8, 7);
    assert!(message.contains("axis 7 does not exist"), "{message}");
    let message = weight(INT8, &[0.1; 4], UINT8, 0);
    assert!(message.contains("its integers are int8, but their zero point is uint8"), "{message}");
    let message = weight(INT16, &[0.1; 4], INT16, 0);
    assert!(message.contains("reads constants of int16: uint8, int8 and int32 are supported"), "{message}");
    let message = weight(INT8, &[0.1, 0.1, 0.0, 0.1], INT8, 0);
    assert!(message.contains("its scale 0.0 is not"), "{message}");
}

#[test]
fn layers_on_integers() {
    let layer = |w: &[i32], shape: &[i64], bias: &[i32]| {
        started(X)
            .levels("y", 0.1, UINT8, 3)
            .integers("w", INT8, shape, w)
            .levels("w", 0.01, INT8, 0)
            .integers("b", INT32, &[bias.len() as i64], bias)
            .node("QLinearConv", &["q", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z", "b"], &["r"], &[])
            .named("L")
            .node("DequantizeLinear", &["r", "y_s", "y_z"], &["y"], &[])
            .output("y")
    };
    let message = refusal(&layer(&[1; 6], &[2, 3, 1, 1], &[0; 5]));
    assert!(message.contains("L (QLinearConv): its bias is not 2 integers of int32"), "{message}");
    // What only quantization can see.
    let graph = fused(&layer(&[1; 3], &[1, 3, 1, 1], &[i32::MAX]));
    let message = pipeline::quantize_given(&graph, &quant::Options::default()).unwrap_err().to_string();
    assert!(
        message.contains("L: output channel 0: its sum does not fit 32 bits; keep this layer in float"),
        "{message}"
    );
}

#[test]
fn given_models_are_not_calibrated_and_float_models_are() {
    let model = started(X).node("DequantizeLinear", &["q", "x_s", "x_z"], &["d"], &[]).node(
        "Relu",
        &["d"],
        &["y"],
        &[],
    );
    let given = fused(&model.output("y"));
    let float = fused(&Model::new(13).input("x", &[1, 3]).node("Relu", &["x"], &["y"], &[]).output("y"));
    let message = pipeline::quantize_given(&float, &quant::Options::default()).unwrap_err().to_string();
    assert!(message.contains("is not quantized: calibrate it first"), "{message}");
    let options = quant::Options::default().correct_biases(false);
    let message = pipeline::quantize_given(&given, &options).unwrap_err().to_string();
    assert!(message.contains("is quantized already: weights, activations"), "{message}");
}
