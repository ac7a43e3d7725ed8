//! Resize and Upsample over H and W.
//!
//! In: a node in one of three dialects: Upsample (opsets 7, 9), Resize 10, Resize since 11. Out: one Resize with stated
//! output and scales. Holds: N and C are not resized. Not here: cubic interpolation, regions of interest (an operand that
//! only one refused coordinate mode reads).

use super::Outcome;
use super::context::{NodeContext, axis_in};
use super::conv::{extent, spatial};
use crate::graph::{Coordinates, Interpolation, NearestRounding, Op, Resize};

/// What is asked for, per axis.
enum Target {
    Scales(Vec<f32>),
    Sizes(Vec<i64>),
}

/// Resize, Upsample.
pub(super) fn resize(node: &mut NodeContext) -> Outcome {
    let input = spatial(node, 0)?;
    let shape = node.shape(0)?;
    let modern = node.opset() >= 11 && node.op_type() == "Resize";
    let target = if modern { modern_target(node)? } else { Target::Scales(old_scales(node)?) };
    let axes = match node.ints("axes")?.filter(|_| modern) {
        Some(axes) => axes.iter().map(|&a| axis_in(a, 4)).collect::<Outcome<Vec<_>>>()?,
        None => vec![0, 1, 2, 3],
    };
    let (mut scales, mut output) = ([1.0f32; 4], [shape[0], shape[1], shape[2], shape[3]]);
    match target {
        Target::Scales(given) => {
            if given.len() != axes.len() {
                return Err(format!("has {} scales for {} axes", given.len(), axes.len()));
            }
            for (&axis, &scale) in axes.iter().zip(&given) {
                if !(scale.is_finite() && scale > 0.0) {
                    return Err(format!("scale {scale} is not a positive number"));
                }
                scales[axis] = scale;
                // In f32, as ONNX Runtime has it; the cast saturates and shape inference has the last word.
                output[axis] = (shape[axis] as f32 * scale) as usize;
            }
        }
        Target::Sizes(given) => {
            if given.len() != axes.len() {
                return Err(format!("has {} sizes for {} axes", given.len(), axes.len()));
            }
            if node.string("keep_aspect_ratio_policy", "stretch")? != "stretch" {
                return Err("keeps the aspect ratio, which is not supported: give both sizes".into());
            }
            for (&axis, &size) in axes.iter().zip(&given) {
                output[axis] = extent(size, "sizes")?;
                scales[axis] = output[axis] as f32 / shape[axis] as f32;
            }
        }
    }
    if scales[0] != 1.0 || scales[1] != 1.0 {
        return Err(format!("resizes N or C ({scales:?}); only H and W are supported"));
    }
    let scales = [scales[2], scales[3]];
    let output = [output[2], output[3]];
    let x = node.input(0)?;
    if scales == [1.0; 2] {
        return node.finish(Op::Identity, [x]);
    }
    let coordinates = coordinates(node, modern, input, scales)?;
    let interpolation = match node.string("mode", "nearest")? {
        "nearest" => Interpolation::Nearest(rounding(node, modern, scales)?),
        "linear" | "bilinear" => {
            if node.int("antialias", 0)? != 0 && scales.iter().any(|&s| s < 1.0) {
                return Err("shrinks with antialiasing, which is not supported".into());
            }
            Interpolation::Linear
        }
        other => return Err(format!("mode {other:?} is not supported: nearest and linear are")),
    };
    node.finish(Op::Resize(Resize { interpolation, coordinates, scales, output }), [x])
}

/// Operand 1 since opset 9, an attribute before.
fn old_scales(node: &NodeContext) -> Outcome<Vec<f32>> {
    if node.opset() < 9 {
        return Ok(node.floats("scales")?.ok_or("has no scales")?.to_vec());
    }
    let scales = node.required(1, "scales")?;
    Ok(scales.as_floats().ok_or("the scales are not floats")?.to_vec())
}

/// Operands: x, region, scales or nothing, sizes or nothing. An empty tensor stands for nothing in old models.
fn modern_target(node: &NodeContext) -> Outcome<Target> {
    if node.has(2) {
        let scales = node.required(2, "scales")?;
        let scales = scales.as_floats().ok_or("the scales are not floats")?;
        if !scales.is_empty() {
            return Ok(Target::Scales(scales.to_vec()));
        }
    }
    match node.int_list(3, "sizes")? {
        Some(sizes) if !sizes.is_empty() => Ok(Target::Sizes(sizes)),
        _ => Err("has neither scales nor sizes".into()),
    }
}

fn coordinates(
    node: &NodeContext,
    modern: bool,
    input: [usize; 2],
    scales: [f32; 2],
) -> Outcome<Coordinates> {
    if !modern {
        return Ok(Coordinates::Asymmetric);
    }
    match node.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Ok(Coordinates::HalfPixel),
        // Differs only where the scale does not give a whole number of elements.
        "half_pixel_symmetric" if (0..2).all(|k| (input[k] as f32 * scales[k]).fract() == 0.0) => {
            Ok(Coordinates::HalfPixel)
        }
        "pytorch_half_pixel" => Ok(Coordinates::PytorchHalfPixel),
        "align_corners" => Ok(Coordinates::AlignCorners),
        "asymmetric" => Ok(Coordinates::Asymmetric),
        other => Err(format!(
            "the coordinate mode {other:?} is not supported: half_pixel, pytorch_half_pixel, align_corners and \
             asymmetric are"
        )),
    }
}

fn rounding(node: &NodeContext, modern: bool, scales: [f32; 2]) -> Outcome<NearestRounding> {
    if !modern {
        // The old operators leave this open; ONNX Runtime rounds up where it shrinks and down elsewhere.
        return match scales.map(|s| s < 1.0) {
            [false, false] => Ok(NearestRounding::Floor),
            [true, true] => Ok(NearestRounding::Ceil),
            _ => {
                Err("shrinks one axis and stretches the other, which nearest mode supports since opset 11"
                    .into())
            }
        };
    }
    match node.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Ok(NearestRounding::RoundPreferFloor),
        "round_prefer_ceil" => Ok(NearestRounding::RoundPreferCeil),
        "floor" => Ok(NearestRounding::Floor),
        "ceil" => Ok(NearestRounding::Ceil),
        other => Err(format!("nearest mode {other:?} is not known to ONNX")),
    }
}
