//! Pooling.

use crate::graph::{GlobalPool, Pool, PoolKind, Tensor};

/// x `[N,C,H,W]`.
pub(super) fn pool(p: &Pool, x: &Tensor, shape: &[usize]) -> Tensor {
    let [h, w] = [x.shape[2], x.shape[3]];
    let [oh, ow] = [shape[2], shape[3]];
    let mut y = Vec::with_capacity(shape.iter().product());
    for plane in x.data.chunks_exact(h * w) {
        for o in 0..oh * ow {
            let at = [o / ow, o % ow];
            // Positions of a window's elements along an axis, before clipping.
            let tap = |axis: usize, k: usize| {
                (at[axis] * p.strides[axis] + k * p.dilations[axis]) as isize - p.pads[axis] as isize
            };
            let inside = |axis: usize, extent: usize| {
                (0..p.kernel[axis]).map(move |k| tap(axis, k)).filter(move |&t| t >= 0 && t < extent as isize)
            };
            let values =
                inside(0, h).flat_map(|r| inside(1, w).map(move |c| plane[r as usize * w + c as usize]));
            y.push(match p.kind {
                PoolKind::Max => values.fold(f32::NEG_INFINITY, f32::max),
                PoolKind::Average { count_include_pad } => {
                    let count = |axis: usize, extent: usize| {
                        let end = extent as isize + p.pads[axis + 2] as isize;
                        let start = -(p.pads[axis] as isize);
                        (0..p.kernel[axis]).filter(|&k| (start..end).contains(&tap(axis, k))).count()
                    };
                    let n = if count_include_pad {
                        count(0, h) * count(1, w)
                    } else {
                        inside(0, h).count() * inside(1, w).count()
                    };
                    values.sum::<f32>() / n.max(1) as f32
                }
            });
        }
    }
    Tensor::new(shape, y)
}

/// x `[N,C,H,W]` → `[N,C,1,1]`.
pub(super) fn global(kind: GlobalPool, x: &Tensor, shape: &[usize]) -> Tensor {
    let plane = x.shape[2] * x.shape[3];
    let reduce = |v: &[f32]| match kind {
        GlobalPool::Max => v.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        GlobalPool::Average => v.iter().sum::<f32>() / plane as f32,
    };
    Tensor::new(shape, x.data.chunks_exact(plane).map(reduce).collect::<Vec<f32>>())
}
