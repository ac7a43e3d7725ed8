//! Functions of one or two elements, and normalizations.

use crate::graph::{Binary, Tensor};
use qgraph_runtime::functions::Function;

/// f of every element.
pub(super) fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> Tensor {
    Tensor::new(x.shape.clone(), x.data.iter().map(|&v| f(v)).collect::<Vec<_>>())
}

/// Index strides of an operand along the axes of `shape`: 0 where it is broadcast.
fn strides(x: &Tensor, shape: &[usize]) -> Vec<usize> {
    let missing = shape.len() - x.shape.len();
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    for (k, &extent) in x.shape.iter().enumerate().rev() {
        if extent > 1 {
            strides[missing + k] = step;
        }
        step *= extent;
    }
    strides
}

/// f of every pair, broadcast to `shape`.
pub(super) fn zip(a: &Tensor, b: &Tensor, shape: &[usize], f: impl Fn(f32, f32) -> f32) -> Tensor {
    if a.shape == b.shape && a.shape == shape {
        let data = a.data.iter().zip(b.data.iter()).map(|(&a, &b)| f(a, b)).collect::<Vec<_>>();
        return Tensor::new(shape, data);
    }
    let (sa, sb) = (strides(a, shape), strides(b, shape));
    let mut at = vec![0; shape.len()];
    let (mut ia, mut ib) = (0, 0);
    let total: usize = shape.iter().product();
    let mut y = Vec::with_capacity(total);
    for _ in 0..total {
        y.push(f(a.data[ia], b.data[ib]));
        // The next index, innermost axis first.
        for k in (0..shape.len()).rev() {
            at[k] += 1;
            (ia, ib) = (ia + sa[k], ib + sb[k]);
            if at[k] < shape[k] {
                break;
            }
            (ia, ib) = (ia - sa[k] * shape[k], ib - sb[k] * shape[k]);
            at[k] = 0;
        }
    }
    Tensor::new(shape, y)
}

pub(super) fn binary(op: Binary, a: &Tensor, b: &Tensor, shape: &[usize]) -> Tensor {
    match op {
        Binary::Add => zip(a, b, shape, |a, b| a + b),
        Binary::Sub => zip(a, b, shape, |a, b| a - b),
        Binary::Mul => zip(a, b, shape, |a, b| a * b),
        Binary::Div => zip(a, b, shape, |a, b| a / b),
    }
}

/// Operands: x, gamma, beta, mean, var. Scale and shift are formed in f64.
pub(super) fn batch_norm(x: &[&Tensor], epsilon: f32) -> Tensor {
    let [x, gamma, beta, mean, var] = [x[0], x[1], x[2], x[3], x[4]];
    let inner: usize = x.shape[2..].iter().product();
    let channels = x.shape[1];
    let affine: Vec<(f32, f32)> = (0..channels)
        .map(|c| {
            let scale = f64::from(gamma.data[c]) / (f64::from(var.data[c]) + f64::from(epsilon)).sqrt();
            (scale as f32, (f64::from(beta.data[c]) - f64::from(mean.data[c]) * scale) as f32)
        })
        .collect();
    let rows = x.data.chunks_exact(inner).enumerate();
    let data = rows.flat_map(|(k, row)| {
        let (scale, shift) = affine[k % channels];
        row.iter().map(move |v| v * scale + shift)
    });
    Tensor::new(x.shape.clone(), data.collect::<Vec<_>>())
}

pub(super) fn softmax(x: &Tensor, axis: usize) -> Tensor {
    let (outer, inner) = (x.shape[..axis].iter().product(), x.shape[axis + 1..].iter().product::<usize>());
    let steps = [4 * inner * x.shape[axis], 4, 0];
    let function = Function::Softmax {
        outer: [outer, inner, 1],
        src_outer: steps,
        dst_outer: steps,
        len: x.shape[axis],
        src_stride: 4 * inner,
        dst_stride: 4 * inner,
    };
    let mut y = vec![0.0; x.data.len()];
    function.run_on(&x.data, &mut y, [&[], &[]]);
    Tensor::new(x.shape.clone(), y)
}

/// x `[N,C,H,W]`, or any rank with channels along axis 1.
pub(super) fn lrn(x: &Tensor, size: usize, [alpha, beta, bias]: [f32; 3]) -> Tensor {
    let inner: usize = x.shape[2..].iter().product();
    let image = x.shape[1] * inner;
    let function = Function::Lrn {
        outer: [1, inner],
        src_outer: [0, 4],
        dst_outer: [0, 4],
        channels: x.shape[1],
        steps: [4 * inner, 4 * inner],
        size,
        alpha,
        beta,
        bias,
    };
    let mut y = vec![0.0; x.data.len()];
    for (x, y) in x.data.chunks_exact(image).zip(y.chunks_exact_mut(image)) {
        function.run_on(x, y, [&[], &[]]);
    }
    Tensor::new(x.shape.clone(), y)
}
