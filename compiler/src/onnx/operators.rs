//! Which handler takes which operator.
//!
//! In: a node. Out: its handler, or why there is none, with the cure where there is one. Holds: whether an operator is
//! known does not depend on its operands, so that unsupported ones are found even behind others. Not here: what handlers do.

use super::context::NodeContext;
use super::proto::NodeProto;
use super::quantized::{Reads, reads};
use super::{Outcome, arithmetic, conv, dense, fold, layout, normalize, pool, quantized, resize, select};

/// Imports one node: adds to the graph what gives its results.
pub(super) type Handler = fn(&mut NodeContext) -> Outcome;

/// What is known about an operator.
pub(super) enum Lookup {
    /// This imports it.
    Handler(Handler),
    /// Why nothing does.
    Unsupported(String),
}

/// Finds the handler of `node`.
pub(super) fn lookup(node: &NodeProto) -> Lookup {
    let standard = matches!(&node.domain[..], "" | "ai.onnx");
    // These mean the same as in the standard, or are ONNX Runtime's forms for integers.
    let microsoft =
        node.domain == "com.microsoft" && (node.op_type == "Gelu" || reads(&node.op_type) == Reads::Integers);
    if !standard && !microsoft {
        let cure = match &node.domain[..] {
            "com.microsoft" => ": export the model without ONNX Runtime's graph optimizations",
            _ => "",
        };
        return Lookup::Unsupported(format!(
            "operators of the domain {:?} are not supported{cure}",
            node.domain
        ));
    }
    match handler(&node.op_type) {
        Some(handler) => Lookup::Handler(handler),
        None => Lookup::Unsupported(unsupported(&node.op_type)),
    }
}

fn handler(op_type: &str) -> Option<Handler> {
    Some(match op_type {
        "Conv" => conv::conv,
        "ConvTranspose" => conv::conv_transpose,
        "Gemm" => dense::gemm,
        "MatMul" => dense::matmul,
        "MaxPool" | "AveragePool" => pool::pool,
        "GlobalAveragePool" | "GlobalMaxPool" => pool::global_pool,
        "ReduceMean" | "ReduceMax" => pool::reduce,
        "BatchNormalization" => normalize::batch_normalization,
        "LRN" => normalize::lrn,
        "Softmax" => normalize::softmax,
        "Dropout" => normalize::dropout,
        "Relu" | "LeakyRelu" | "Elu" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Tanh" | "Softplus"
        | "Mish" | "Gelu" => arithmetic::activation,
        "Sqrt" | "Abs" | "Exp" | "Erf" | "Neg" | "Reciprocal" => arithmetic::function,
        "Clip" => arithmetic::clip,
        "PRelu" => arithmetic::prelu,
        "Pow" => arithmetic::pow,
        "Add" | "Sub" | "Mul" | "Div" => arithmetic::binary,
        "Sum" => arithmetic::sum,
        "Min" | "Max" => arithmetic::bound,
        "Identity" => layout::identity,
        "Cast" => layout::cast,
        "Flatten" => layout::flatten,
        "Reshape" => layout::reshape,
        "Squeeze" => layout::squeeze,
        "Unsqueeze" => layout::unsqueeze,
        "Transpose" => layout::transpose,
        "SpaceToDepth" => layout::space_to_depth,
        "DepthToSpace" => layout::depth_to_space,
        "Concat" => select::concat,
        "Pad" => select::pad,
        "Slice" => select::slice,
        "Split" => select::split,
        "Gather" => select::gather,
        "Expand" => select::expand,
        "Resize" | "Upsample" => resize::resize,
        "QuantizeLinear" => quantized::quantize,
        "DequantizeLinear" => quantized::dequantize,
        "QLinearConv" => quantized::conv,
        "QLinearMatMul" => quantized::matmul,
        "QGemm" => quantized::gemm,
        "QLinearAdd" | "QLinearMul" => quantized::binary,
        "QLinearConcat" => quantized::concat,
        "QLinearAveragePool" | "QLinearGlobalAveragePool" | "QLinearSigmoid" | "QLinearLeakyRelu" => {
            quantized::unary
        }
        "Shape" | "Size" => fold::shape,
        "Constant" => fold::constant,
        "ConstantOfShape" => fold::constant_of_shape,
        "Range" => fold::range,
        "Floor" | "Ceil" => fold::rounding,
        "Mod" | "Equal" | "Less" | "Greater" => fold::integer_binary,
        "Where" => fold::select,
        "ReduceProd" | "ReduceSum" => fold::reduce,
        _ => return None,
    })
}

fn unsupported(op_type: &str) -> String {
    let why = match op_type {
        "DynamicQuantizeLinear" | "ConvInteger" | "MatMulInteger" => {
            "the model is quantized for ranges that are found at run time: quantize it statically, or give the float model"
        }
        "If" | "Loop" | "Scan" => {
            "control flow is not supported: export the model with fixed shapes, or run a simplifier"
        }
        "NonMaxSuppression" | "TopK" | "ArgMax" | "ArgMin" | "NonZero" => {
            "this post-processing is not supported: export the model without it"
        }
        "LSTM" | "GRU" | "RNN" => "recurrent networks are not supported",
        _ => "this operator is not supported",
    };
    why.to_owned()
}
