//! Operators that move elements, and resize.

use crate::graph::{Coordinates, Interpolation, NearestRounding, Resize, SliceAxis, Tensor};

/// Row-major index strides of a shape.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for k in (0..shape.len().saturating_sub(1)).rev() {
        strides[k] = strides[k + 1] * shape[k + 1];
    }
    strides
}

/// `y[i] = x[start + Σ i_k · step_k]` for every index of `shape`.
fn gather(x: &[f32], shape: &[usize], start: isize, steps: &[isize]) -> Vec<f32> {
    let total: usize = shape.iter().product();
    let mut at = vec![0; shape.len()];
    let mut from = start;
    let mut y = Vec::with_capacity(total);
    for _ in 0..total {
        y.push(x[from as usize]);
        for k in (0..shape.len()).rev() {
            at[k] += 1;
            from += steps[k];
            if at[k] < shape[k] {
                break;
            }
            from -= steps[k] * shape[k] as isize;
            at[k] = 0;
        }
    }
    y
}

pub(super) fn transpose(x: &Tensor, perm: &[usize], shape: &[usize]) -> Tensor {
    let from = strides(&x.shape);
    let steps: Vec<isize> = perm.iter().map(|&p| from[p] as isize).collect();
    Tensor::new(shape, gather(&x.data, shape, 0, &steps))
}

pub(super) fn slice(x: &Tensor, axes: &[SliceAxis], shape: &[usize]) -> Tensor {
    let from = strides(&x.shape);
    let start: usize = axes.iter().zip(&from).map(|(a, s)| a.start * s).sum();
    let steps: Vec<isize> = axes.iter().zip(&from).map(|(a, &s)| a.step * s as isize).collect();
    Tensor::new(shape, gather(&x.data, shape, start as isize, &steps))
}

pub(super) fn pad(x: &Tensor, pads: &[(usize, usize)], value: f32, shape: &[usize]) -> Tensor {
    let to = strides(shape);
    let from = strides(&x.shape);
    let mut y = vec![value; shape.iter().product()];
    for (k, &v) in x.data.iter().enumerate() {
        let index = |axis: usize| k / from[axis] % x.shape[axis] + pads[axis].0;
        y[(0..shape.len()).map(|axis| index(axis) * to[axis]).sum::<usize>()] = v;
    }
    Tensor::new(shape, y)
}

pub(super) fn concat(x: &[&Tensor], axis: usize, shape: &[usize]) -> Tensor {
    let outer: usize = shape[..axis].iter().product();
    let mut y = Vec::with_capacity(shape.iter().product());
    for o in 0..outer {
        for t in x {
            let run: usize = t.shape[axis..].iter().product();
            y.extend_from_slice(&t.data[o * run..][..run]);
        }
    }
    Tensor::new(shape, y)
}

/// Input coordinate of an output position, by the formulas of ONNX.
fn coordinate(r: &Resize, axis: usize, position: usize, input: usize) -> f64 {
    // In f32, as ONNX Runtime computes it: the rounding decides which neighbour a floor takes.
    let (x, scale, output) = (position as f32, r.scales[axis], r.output[axis]);
    f64::from(match r.coordinates {
        Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
        Coordinates::PytorchHalfPixel if output > 1 => (x + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if output > 1 => x * (input - 1) as f32 / (output - 1) as f32,
        Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
        Coordinates::Asymmetric => x / scale,
    })
}

/// Two source indices and the weight of the second, per output position of an axis.
fn taps(r: &Resize, axis: usize, input: usize) -> Vec<(usize, usize, f32)> {
    let last = (input - 1) as f64;
    let tap = |position: usize| {
        let x = coordinate(r, axis, position, input);
        match r.interpolation {
            Interpolation::Nearest(rounding) => {
                let index = match rounding {
                    NearestRounding::RoundPreferFloor => (x - 0.5).ceil(),
                    NearestRounding::RoundPreferCeil => (x + 0.5).floor(),
                    NearestRounding::Floor => x.floor(),
                    NearestRounding::Ceil => x.ceil(),
                };
                let index = index.clamp(0.0, last) as usize;
                (index, index, 0.0)
            }
            Interpolation::Linear => {
                let x = x.clamp(0.0, last);
                let low = x.floor();
                (low as usize, (low + 1.0).min(last) as usize, (x - low) as f32)
            }
        }
    };
    (0..r.output[axis]).map(tap).collect()
}

/// x `[N,C,H,W]`.
pub(super) fn resize(r: &Resize, x: &Tensor, shape: &[usize]) -> Tensor {
    let [h, w] = [x.shape[2], x.shape[3]];
    let (rows, cols) = (taps(r, 0, h), taps(r, 1, w));
    let mut y = Vec::with_capacity(shape.iter().product());
    for plane in x.data.chunks_exact(h * w) {
        for &(top, bottom, v) in &rows {
            for &(left, right, u) in &cols {
                let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
                let row = |i: usize| mix(plane[i * w + left], plane[i * w + right], u);
                y.push(mix(row(top), row(bottom), v));
            }
        }
    }
    Tensor::new(shape, y)
}
