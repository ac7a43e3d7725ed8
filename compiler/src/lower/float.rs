//! Operators that run as runtime functions: in f32 elementary functions, softmax, LRN, magnitudes, bilinear resize; in u8 a table for each channel.

use super::draft::Place;
use super::layout::{Dim, Layout, canonical};
use super::{At, Lower};
use crate::qgraph::{BlobId, QNode};
use qgraph_runtime::functions::{Function, Tap, Unary};

impl Lower<'_> {
    pub(super) fn unary(&mut self, node: &QNode, unary: Unary) {
        match unary {
            Unary::Relu => return self.clamp(node, 0.0, f32::INFINITY),
            Unary::Clip { lo, hi } => return self.clamp(node, lo, hi),
            Unary::LeakyRelu { .. }
            | Unary::Elu { .. }
            | Unary::Sigmoid
            | Unary::HardSigmoid { .. }
            | Unary::HardSwish
            | Unary::Tanh
            | Unary::Softplus
            | Unary::Mish
            | Unary::Gelu
            | Unary::GeluTanh
            | Unary::Silu
            | Unary::Square
            | Unary::Sqrt
            | Unary::Abs
            | Unary::Exp
            | Unary::Erf => {}
        }
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let dims = both(&y.layout, &x.layout);
        // Contiguous elements are a row; the loop around them is the function's, any further ones are steps.
        let (len, rest) = match dims.split_last() {
            Some((d, rest)) if d.steps == [4, 4] => (d.extent, rest),
            _ => (1, &dims[..]),
        };
        let (rows, rest) = match rest.split_last() {
            Some((d, rest)) => (d.clone(), rest),
            None => (Dim { extent: 1, steps: vec![0, 0] }, rest),
        };
        let function = Function::Unary {
            unary,
            rows: rows.extent,
            len,
            src_stride: rows.steps[1] as usize,
            dst_stride: rows.steps[0] as usize,
        };
        for (dst, src) in points(rest, y.first(), x.first()) {
            self.draft.function(&node.name, "function", function.clone(), vec![src, dst]);
        }
    }

    pub(super) fn softmax(&mut self, node: &QNode, axis: usize) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let others = (0..y.layout.shape.len()).filter(|&k| k != axis);
        let dims = canonical(others.map(|k| Dim {
            extent: y.layout.shape[k],
            steps: vec![y.layout.strides[k] as i64, x.layout.strides[k] as i64],
        }));
        let (rest, inner) = dims.split_at(dims.len().saturating_sub(3));
        let (mut outer, mut src_outer, mut dst_outer) = ([1; 3], [0; 3], [0; 3]);
        for (k, d) in inner.iter().enumerate() {
            (outer[k], dst_outer[k], src_outer[k]) = (d.extent, d.steps[0] as usize, d.steps[1] as usize);
        }
        let function = Function::Softmax {
            outer,
            src_outer,
            dst_outer,
            len: y.layout.shape[axis],
            src_stride: x.layout.strides[axis],
            dst_stride: y.layout.strides[axis],
        };
        for (dst, src) in points(rest, y.first(), x.first()) {
            self.draft.function(&node.name, "softmax", function.clone(), vec![src, dst]);
        }
    }

    pub(super) fn lrn(&mut self, node: &QNode, size: usize, alpha: f32, beta: f32, bias: f32) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let [n, channels, h, w] = [0, 1, 2, 3].map(|k| y.layout.shape[k]);
        let steps = |p: &Place| [p.layout.row(), p.layout.pixel()];
        let function = Function::Lrn {
            outer: [h, w],
            src_outer: steps(&x),
            dst_outer: steps(&y),
            channels,
            steps: [4, 4],
            size,
            alpha,
            beta,
            bias,
        };
        for image in 0..n {
            let args =
                vec![x.first().plus(image * x.layout.image()), y.first().plus(image * y.layout.image())];
            self.draft.function(&node.name, "lrn", function.clone(), args);
        }
    }

    pub(super) fn peak(&mut self, node: &QNode) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let [n, channels, h, w] = [0, 1, 2, 3].map(|k| x.layout.shape[k]);
        let function =
            Function::Peak { outer: [h, w], src_outer: [x.layout.row(), x.layout.pixel()], channels };
        for image in 0..n {
            let args =
                vec![x.first().plus(image * x.layout.image()), y.first().plus(image * y.layout.image())];
            self.draft.function(&node.name, "peak", function.clone(), args);
        }
    }

    /// A table for each channel: lanes of a vector would all read from different ones.
    pub(super) fn tables(&mut self, node: &QNode, tables: BlobId) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let [n, channels, h, w] = [0, 1, 2, 3].map(|k| y.layout.shape[k]);
        let steps = |p: &Place| [p.layout.row(), p.layout.pixel()];
        let function =
            Function::Lookup { outer: [h, w], src_outer: steps(&x), dst_outer: steps(&y), channels };
        let tables = self.draft.constant(self.graph.blob_bytes(tables).to_vec());
        for image in 0..n {
            let [src, dst] = [&x, &y].map(|p| p.first().plus(image * p.layout.image()));
            self.draft.function(&node.name, "tables", function.clone(), vec![src, dst, tables]);
        }
    }

    pub(super) fn resize_linear(&mut self, node: &QNode, rows: &[Tap], cols: &[Tap]) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let bytes = |taps: &[Tap]| -> Vec<u8> {
            let words = |t: &Tap| [t.lo, t.hi, t.frac.to_bits()];
            taps.iter().flat_map(words).flat_map(u32::to_le_bytes).collect()
        };
        let (row_taps, col_taps) = (self.draft.constant(bytes(rows)), self.draft.constant(bytes(cols)));
        let steps = |p: &Place| [p.layout.row(), p.layout.pixel(), 4];
        let function = Function::ResizeLinear {
            output: [rows.len(), cols.len()],
            channels: y.layout.shape[1],
            src_strides: steps(&x),
            dst_strides: steps(&y),
            input: [x.layout.shape[2], x.layout.shape[3]],
        };
        for image in 0..y.layout.shape[0] {
            let args = vec![
                x.first().plus(image * x.layout.image()),
                y.first().plus(image * y.layout.image()),
                row_taps,
                col_taps,
            ];
            self.draft.function(&node.name, "resize", function.clone(), args);
        }
    }
}

/// The loops over all elements of two layouts of one shape.
fn both(y: &Layout, x: &Layout) -> Vec<Dim> {
    let dim = |k: usize| Dim { extent: y.shape[k], steps: vec![y.strides[k] as i64, x.strides[k] as i64] };
    canonical((0..y.shape.len()).map(dim))
}

/// The addresses of all points of some loops.
fn points(loops: &[Dim], y: At, x: At) -> Vec<(At, At)> {
    loops.iter().fold(vec![(y, x)], |points, d| {
        let step =
            |(y, x): (At, At), k: usize| (y.plus(k * d.steps[0] as usize), x.plus(k * d.steps[1] as usize));
        points.into_iter().flat_map(|p| (0..d.extent).map(move |k| step(p, k))).collect()
    })
}
