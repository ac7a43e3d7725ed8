//! Operations that only move elements: generic in what they move.

use super::super::QSlice;

/// Strides of a dense row-major tensor, in elements.
pub(super) fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as isize;
    }
    strides
}

/// Positions `start + Σ index·stride` for all indices within `shape` in row-major order. None may be negative.
pub(super) fn offsets(shape: &[usize], strides: &[isize], start: usize) -> impl Iterator<Item = usize> {
    let total = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    let mut offset = start as isize;
    (0..total).map(move |_| {
        let here = offset as usize;
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis] as isize;
            index[axis] = 0;
        }
        here
    })
}

pub(super) fn concat<'a, T: Copy + Default + 'a>(
    parts: impl Iterator<Item = (&'a [T], &'a [usize])>,
    axis: usize,
    result: &[usize],
) -> Vec<T> {
    let mut out = vec![T::default(); result.iter().product()];
    let strides = row_major(result);
    let mut start = 0;
    for (x, shape) in parts {
        for (o, &x) in offsets(shape, &strides, start).zip(x) {
            out[o] = x;
        }
        start += shape[axis] * strides[axis] as usize;
    }
    out
}

pub(super) fn slice<T: Copy>(x: &[T], shape: &[usize], slices: &[QSlice]) -> Vec<T> {
    let strides = row_major(shape);
    let start = slices.iter().zip(&strides).map(|(s, &stride)| s.start * stride as usize).sum();
    let counts: Vec<_> = slices.iter().map(|s| s.count).collect();
    // The step of an axis with one index is free, so it may be too large to multiply.
    let step = |s: &QSlice| if s.count == 1 { 0 } else { s.step };
    let steps: Vec<_> = slices.iter().zip(&strides).map(|(s, &stride)| step(s) * stride).collect();
    offsets(&counts, &steps, start).map(|o| x[o]).collect()
}

pub(super) fn pad<T: Copy>(
    x: &[T],
    shape: &[usize],
    pads: &[(usize, usize)],
    fill: T,
    result: &[usize],
) -> Vec<T> {
    let mut out = vec![fill; result.iter().product()];
    let strides = row_major(result);
    let start = pads.iter().zip(&strides).map(|(&(before, _), &stride)| before * stride as usize).sum();
    for (o, &x) in offsets(shape, &strides, start).zip(x) {
        out[o] = x;
    }
    out
}

pub(super) fn transpose<T: Copy>(x: &[T], shape: &[usize], perm: &[usize]) -> Vec<T> {
    let strides = row_major(shape);
    let extents: Vec<_> = perm.iter().map(|&p| shape[p]).collect();
    let strides: Vec<_> = perm.iter().map(|&p| strides[p]).collect();
    offsets(&extents, &strides, 0).map(|o| x[o]).collect()
}

pub(super) fn depth_to_space<T: Copy>(
    x: &[T],
    shape: &[usize],
    [r, s]: [usize; 2],
    [top, left]: [usize; 2],
    result: &[usize],
) -> Vec<T> {
    let [channels, h, w] = [shape[1], shape[2], shape[3]];
    let [n, c, rows, cols] = [result[0], result[1], result[2], result[3]];
    let mut out = Vec::with_capacity(n * c * rows * cols);
    for (n, c0) in (0..n).flat_map(|n| (0..c).map(move |c| (n, c))) {
        for (i, j) in (top..top + rows).flat_map(|i| (left..left + cols).map(move |j| (i, j))) {
            let channel = (i % r * s + j % s) * c + c0;
            out.push(x[((n * channels + channel) * h + i / r) * w + j / s]);
        }
    }
    out
}

pub(super) fn resize_nearest<T: Copy>(x: &[T], shape: &[usize], rows: &[u32], cols: &[u32]) -> Vec<T> {
    let (h, w) = (shape[2], shape[3]);
    let image = |image: &[T]| -> Vec<T> {
        let row = |&i: &u32| cols.iter().map(move |&j| i as usize * w + j as usize);
        rows.iter().flat_map(row).map(|o| image[o]).collect()
    };
    x.chunks_exact(h * w).flat_map(image).collect()
}
