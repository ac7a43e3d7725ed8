//! Convolutions and dense layers. The inner loop runs along a row of outputs, so that it vectorizes.

use crate::graph::{Conv, ConvTranspose, Tensor};
use std::ops::Range;

/// Output positions along an axis for which `position·stride + offset − pad` lies in `0..extent`.
fn valid(outputs: usize, stride: usize, offset: usize, pad: usize, extent: usize) -> Range<usize> {
    let first = pad.saturating_sub(offset).div_ceil(stride);
    let end = (extent + pad).saturating_sub(offset).div_ceil(stride).min(outputs);
    first..end.max(first)
}

/// Operands: x `[N,C,H,W]`, weight `[M,C/groups,kh,kw]`, bias `[M]`.
pub(super) fn conv(c: &Conv, operands: &[&Tensor], shape: &[usize]) -> Tensor {
    let (x, weight, bias) = (operands[0], operands[1], operands[2]);
    let (channels, [h, w]) = (x.shape[1], [x.shape[2], x.shape[3]]);
    let (outputs, [oh, ow]) = (shape[1], [shape[2], shape[3]]);
    let (per_group, taps) = (weight.shape[1], c.kernel[0] * c.kernel[1]);
    let mut y = vec![0.0; shape.iter().product()];
    for (plane, out) in y.chunks_exact_mut(oh * ow).enumerate() {
        let (n, m) = (plane / outputs, plane % outputs);
        out.fill(bias.data[m]);
        let group = m / (outputs / c.groups);
        for k in 0..per_group {
            let channel = n * channels + group * per_group + k;
            let input = &x.data[channel * h * w..][..h * w];
            for tap in 0..taps {
                let (ky, kx) = (tap / c.kernel[1] * c.dilations[0], tap % c.kernel[1] * c.dilations[1]);
                let weight = weight.data[(m * per_group + k) * taps + tap];
                let cols = valid(ow, c.strides[1], kx, c.pads[1], w);
                if cols.is_empty() {
                    continue;
                }
                for row in valid(oh, c.strides[0], ky, c.pads[0], h) {
                    let from = (row * c.strides[0] + ky - c.pads[0]) * w + cols.start * c.strides[1] + kx
                        - c.pads[1];
                    let out = &mut out[row * ow..][cols.clone()];
                    if c.strides[1] == 1 {
                        let input = &input[from..][..out.len()];
                        out.iter_mut().zip(input).for_each(|(y, x)| *y += weight * x);
                    } else {
                        let input = input[from..].iter().step_by(c.strides[1]);
                        out.iter_mut().zip(input).for_each(|(y, x)| *y += weight * x);
                    }
                }
            }
        }
    }
    Tensor::new(shape, y)
}

/// Operands: x `[N,C,H,W]`, weight `[C,M/groups,kh,kw]`, bias `[M]`.
pub(super) fn transposed(c: &ConvTranspose, operands: &[&Tensor], shape: &[usize]) -> Tensor {
    let (x, weight, bias) = (operands[0], operands[1], operands[2]);
    let (channels, [h, w]) = (x.shape[1], [x.shape[2], x.shape[3]]);
    let (outputs, [oh, ow]) = (shape[1], [shape[2], shape[3]]);
    let (in_group, out_group) = (channels / c.groups, outputs / c.groups);
    let taps = c.kernel[0] * c.kernel[1];
    let mut y: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| bias.data[i / (oh * ow) % outputs]).collect();
    for plane in 0..shape[0] * outputs {
        let (n, m) = (plane / outputs, plane % outputs);
        let out = &mut y[plane * oh * ow..][..oh * ow];
        let group = m / out_group;
        for channel in group * in_group..(group + 1) * in_group {
            let input = &x.data[(n * channels + channel) * h * w..][..h * w];
            for tap in 0..taps {
                let (ky, kx) = (tap / c.kernel[1] * c.dilations[0], tap % c.kernel[1] * c.dilations[1]);
                let weight = weight.data[(channel * out_group + m % out_group) * taps + tap];
                // Input position i lands on output i·stride + k − pad, if that exists.
                let land = |i: usize, axis: usize, k: usize, extent: usize| {
                    (i * c.strides[axis] + k).checked_sub(c.pads[axis]).filter(|&o| o < extent)
                };
                for iy in 0..h {
                    let Some(oy) = land(iy, 0, ky, oh) else { continue };
                    for ix in 0..w {
                        if let Some(ox) = land(ix, 1, kx, ow) {
                            out[oy * ow + ox] += weight * input[iy * w + ix];
                        }
                    }
                }
            }
        }
    }
    Tensor::new(shape, y)
}

/// Operands: x `[.., K]`, weight `[M, K]`, bias `[M]`.
pub(super) fn dense(operands: &[&Tensor], shape: &[usize]) -> Tensor {
    let (x, weight, bias) = (operands[0], operands[1], operands[2]);
    let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
    let mut y = Vec::with_capacity(shape.iter().product());
    for row in x.data.chunks_exact(inputs) {
        for m in 0..outputs {
            let w = &weight.data[m * inputs..][..inputs];
            y.push(bias.data[m] + dot(row, w));
        }
    }
    Tensor::new(shape, y)
}

/// Eight partial sums: fast, and more exact than one.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    sums.iter().sum::<f32>() + rest
}
