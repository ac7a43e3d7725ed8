//! Functions that always run in f32, by the routines of the runtime.

use super::{Data, Site};
use qgraph_runtime::functions::{Function, Tap};

/// Runs a function from the operand's data to `len` new elements.
fn run(site: &Site, len: usize, images: usize, function: &Function, taps: [&[Tap]; 2]) -> Data {
    let x = site.data(0).f32();
    let mut y = vec![0.0; len];
    // One image after the other: functions know a single one.
    for (x, y) in x.chunks_exact(x.len() / images).zip(y.chunks_exact_mut(len / images)) {
        function.run_on(x, y, taps);
    }
    Data::F32(y)
}

pub(super) fn softmax(site: &Site, axis: usize) -> Data {
    let shape = site.shape(0);
    let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product::<usize>());
    let steps = [4 * inner * shape[axis], 4, 0];
    let function = Function::Softmax {
        outer: [outer, inner, 1],
        src_outer: steps,
        dst_outer: steps,
        len: shape[axis],
        src_stride: 4 * inner,
        dst_stride: 4 * inner,
    };
    run(site, shape.iter().product(), 1, &function, [&[], &[]])
}

pub(super) fn lrn(site: &Site, size: usize, alpha: f32, beta: f32, bias: f32) -> Data {
    let shape = site.shape(0);
    let [h, w] = [shape[2], shape[3]];
    let plane = 4 * h * w;
    let function = Function::Lrn {
        outer: [h, w],
        src_outer: [4 * w, 4],
        dst_outer: [4 * w, 4],
        channels: shape[1],
        steps: [plane, plane],
        size,
        alpha,
        beta,
        bias,
    };
    run(site, shape.iter().product(), shape[0], &function, [&[], &[]])
}

pub(super) fn peak(site: &Site) -> Data {
    let [n, c, h, w] = [0, 1, 2, 3].map(|k| site.shape(0)[k]);
    let function = Function::Peak { outer: [1, 1], src_outer: [0, 4 * c * h * w], channels: c * h * w };
    run(site, n, n, &function, [&[], &[]])
}

pub(super) fn resize(site: &Site, rows: &[Tap], cols: &[Tap]) -> Data {
    let shape = site.shape(0);
    let [n, c, h, w] = [shape[0], shape[1], shape[2], shape[3]];
    let [oh, ow] = [rows.len(), cols.len()];
    let function = Function::ResizeLinear {
        output: [oh, ow],
        channels: c,
        src_strides: [4 * w, 4, 4 * h * w],
        dst_strides: [4 * ow, 4, 4 * oh * ow],
        input: [h, w],
    };
    run(site, n * c * oh * ow, n, &function, [rows, cols])
}
