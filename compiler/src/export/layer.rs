//! Convolutions: weights and biases as integers with their scales, then what the sum becomes.
//!
//! Holds: scale of weights times scale of input, over scale of output, gives the multiplier of the graph again.

use super::function::clamp;
use super::levels;
use super::writer::{Writer, int, ints};
use crate::onnx::proto::data_type;
use crate::qgraph::layout::WeightShape;
use crate::qgraph::{Arithmetic, QConv, QNode};
use qgraph_runtime::requant::{dequantize, given_multiplier};

/// Writes a convolution.
pub(super) fn conv(w: &mut Writer<'_>, node: &QNode, conv: &QConv) -> Result<(), String> {
    let graph = w.graph;
    let (x, y) = (node.inputs[0], node.output);
    let name = graph.value(y).name.clone();
    let (channels, outputs) = (graph.value(x).shape[1], graph.blob(conv.bias).len());
    let integer = !matches!(conv.arithmetic, Arithmetic::Float { .. });
    let shape = WeightShape::of(integer, channels, outputs, conv.groups, &conv.window);
    let [kh, kw] = conv.window.kernel;
    let dims = [outputs, shape.ci, kh, kw];
    let order: Vec<usize> = (0..dims.iter().product())
        .map(|i| shape.index(i / (shape.ci * kh * kw), i / (kh * kw) % shape.ci, i / kw % kh, i % kw))
        .collect();
    let (weight, bias) = match levels(graph.value(x).ty) {
        Some((step, zero)) if integer => {
            let bytes = graph.blob_bytes(conv.weight);
            let q: Vec<u8> = order.iter().map(|&i| bytes[i]).collect();
            let scales = scales(w, conv, step, levels(graph.value(y).ty).map(|(step, _)| step))?;
            let taps = q.len() / outputs;
            let unfolded = graph.blob_i32(conv.bias).into_iter().enumerate().map(|(c, b)| {
                let sum: i64 = q[c * taps..][..taps].iter().map(|&q| i64::from(q as i8)).sum();
                i32::try_from(i64::from(b) + i64::from(zero) * sum)
            });
            let bias = unfolded.collect::<Result<Vec<_>, _>>().map_err(|_| "a bias does not fit 32 bits")?;
            let sums: Vec<f32> = scales.iter().map(|s| (f64::from(*s) * step) as f32).collect();
            if let Some(bad) = sums.iter().chain(&scales).find(|s| !s.is_normal()) {
                return Err(format!("the scale {bad:e} of a channel is not a normal number"));
            }
            let bias = bias.iter().flat_map(|b| b.to_le_bytes()).collect();
            let weight = dequantized(w, &format!("{}/weight", node.name), data_type::INT8, &dims, q, &scales);
            let bias =
                dequantized(w, &format!("{}/bias", node.name), data_type::INT32, &[outputs], bias, &sums);
            (weight, bias)
        }
        _ => {
            let blob = graph.blob_f32(conv.weight);
            let weight: Vec<f32> = order.iter().map(|&i| blob[i]).collect();
            let weight = w.floats(&format!("{}/weight", node.name), &dims, &weight);
            (weight, w.floats(&format!("{}/bias", node.name), &[outputs], &graph.blob_f32(conv.bias)))
        }
    };
    let window = vec![
        ints("kernel_shape", &conv.window.kernel),
        ints("strides", &conv.window.strides),
        ints("dilations", &conv.window.dilations),
        ints("pads", &conv.window.pads),
        int("group", conv.groups),
    ];
    let operand = w.real(x);
    let operands = [&operand[..], &weight, &bias];
    let (lo, hi, residual) = match &conv.arithmetic {
        Arithmetic::Integer { residual, lo, hi, .. } => {
            let (lo, hi) = bounds(w, y, *lo, *hi);
            (lo, hi, residual.is_some())
        }
        Arithmetic::IntegerToFloat { lo, hi, .. } => (*lo, *hi, false),
        Arithmetic::Float { residual, lo, hi } => (*lo, *hi, *residual),
    };
    let clamped = lo > f32::NEG_INFINITY || hi < f32::INFINITY;
    if !clamped && !residual {
        w.named(&node.name, "Conv", &operands, &name, window);
    } else {
        let mut sum = w.fresh(&format!("{name}/sum"));
        w.named(&node.name, "Conv", &operands, &sum, window);
        if residual {
            let other = w.real(node.inputs[1]);
            if clamped {
                sum = w.step(&format!("{name}/added"), "Add", &[&sum, &other], vec![]);
            } else {
                let add = format!("{}/add", node.name);
                w.helper(&add, "Add", &[&sum, &other], &name);
            }
        }
        if clamped {
            let sum = w.apart(sum, y);
            clamp(w, &node.name, &sum, lo, hi, &name);
        }
    }
    w.finish(y);
    Ok(())
}

/// A clamp of integers in real numbers, open where it says nothing.
pub(super) fn bounds(w: &Writer<'_>, y: crate::qgraph::QValueId, lo: u8, hi: u8) -> (f32, f32) {
    let Some((step, zero)) = levels(w.graph.value(y).ty) else { return (f32::NEG_INFINITY, f32::INFINITY) };
    let real = |q: u8| dequantize(q, step as f32, zero);
    let lo = if lo == 0 { f32::NEG_INFINITY } else { real(lo) };
    (lo, if hi == 255 { f32::INFINITY } else { real(hi) })
}

/// The scale of each output channel's weights.
fn scales(w: &Writer<'_>, conv: &QConv, x: f64, y: Option<f64>) -> Result<Vec<f32>, String> {
    let (Arithmetic::Integer { scale, .. } | Arithmetic::IntegerToFloat { scale, .. }) = &conv.arithmetic
    else {
        return Err("is a float layer on integers; this is a bug".into());
    };
    let (multipliers, rounding) = (w.graph.blob_f32(*scale), w.graph.rounding);
    let of = |(c, &m): (usize, &f32)| {
        let near = (f64::from(m) * y.unwrap_or(1.0) / x) as f32;
        let again = |s: f32| match y {
            Some(y) => given_multiplier(rounding, x as f32, s, y as f32),
            None => Some((x * f64::from(s)) as f32),
        };
        [near, near.next_down(), near.next_up(), near.next_down().next_down(), near.next_up().next_up()]
            .into_iter()
            .find(|&s| again(s) == Some(m))
            .ok_or_else(|| format!("no scale in f32 gives the multiplier {m:e} of output channel {c}"))
    };
    multipliers.iter().enumerate().map(of).collect()
}

/// Integers with a scale for each index of axis 0, dequantized; gives the name of the result.
fn dequantized(
    w: &mut Writer<'_>,
    name: &str,
    ty: i32,
    dims: &[usize],
    raw: Vec<u8>,
    scales: &[f32],
) -> String {
    let q = w.constant(&format!("{name}/q"), ty, dims, raw);
    let scale = w.floats(&format!("{name}/scale"), &[scales.len()], scales);
    let width = if ty == data_type::INT32 { 4 } else { 1 };
    let zero = w.constant(&format!("{name}/zero_point"), ty, &[scales.len()], vec![0; width * scales.len()]);
    w.step(name, "DequantizeLinear", &[&q, &scale, &zero], vec![int("axis", 0)])
}
