//! How inputs enter: what the caller gives in each [`InputFormat`], and how it becomes the network's values.
//!
//! A value that only quantizations read is quantized from where the caller has it; for any other reader it is first copied to the arena
//! (staged). Bytes are converted by [`super::pixels`].

use super::draft::{At, Base, DraftCall, Place};
use super::elementwise::{Elementwise, bytes_out, order_vector, splat};
use super::layout::Layout;
use super::{InputFormat, Lower, Options, Space};
use crate::error::{Error, Result, Stage};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand, Reg};
use crate::plan::{GridDim, Io};
use crate::preprocess::{InputLayout, Preprocess};
use crate::qgraph::{QGraph, QNode, QValueId};
use crate::target::Target;
use qgraph_runtime::Dtype;
use qgraph_runtime::requant::Rounding;
use std::borrow::Cow;

/// What a model made with these options takes. Errors: inputs that are not images where the format is one of images.
pub fn inputs(graph: &QGraph, options: &Options) -> Result<Vec<Io>> {
    let format = options.input;
    let dtype = match format {
        InputFormat::F32 | InputFormat::F32Nhwc => Dtype::F32,
        InputFormat::U8Nhwc => Dtype::U8,
    };
    let input = |&id: &QValueId| {
        let v = graph.value(id);
        if format != InputFormat::F32 {
            image(graph, id, format).map_err(|what| Error::new(Stage::Schedule, &v.name, what))?;
        }
        let shape = order(graph, v.shape.len(), format).map(|axis| v.shape[axis]).collect();
        Ok(describe(&v.name, dtype, shape, options.batch))
    };
    graph.inputs.iter().map(input).collect()
}

/// An input or output whose shape for one image is `shape`.
pub(super) fn describe(name: &str, dtype: Dtype, mut shape: Vec<usize>, batch: usize) -> Io {
    let image_bytes = shape.iter().product::<usize>() * dtype.size();
    if let Some(n) = shape.first_mut() {
        *n *= batch;
    }
    Io { name: name.into(), dtype, shape, image_bytes }
}

/// How images become inputs of this graph.
pub(super) fn preprocess(graph: &QGraph) -> Cow<'_, Preprocess> {
    graph.preprocess.as_ref().map_or_else(|| Cow::Owned(Preprocess::default()), Cow::Borrowed)
}

/// Which axes of the network's images are channels, rows, columns.
pub(super) fn axes(graph: &QGraph) -> [usize; 3] {
    match preprocess(graph).layout {
        InputLayout::Nchw => [1, 2, 3],
        InputLayout::Nhwc => [3, 1, 2],
    }
}

/// Why an input cannot be given in a format of images.
fn image(graph: &QGraph, id: QValueId, format: InputFormat) -> std::result::Result<(), String> {
    let shape = &graph.value(id).shape;
    if shape.len() != 4 {
        return Err(format!(
            "the shape {shape:?} is no image of four axes: give inputs as f32 in the order of the network"
        ));
    }
    let channels = shape[axes(graph)[0]];
    if format == InputFormat::U8Nhwc {
        if channels != 1 && channels != 3 {
            return Err(format!(
                "the shape {shape:?} has {channels} channels, pixels have 1 or 3: give inputs as f32"
            ));
        }
        preprocess(graph).validate(channels)?;
    }
    Ok(())
}

/// The network's axes in the order in which the caller gives them.
fn order(graph: &QGraph, rank: usize, format: InputFormat) -> impl DoubleEndedIterator<Item = usize> {
    let [channel, row, column] = axes(graph);
    (0..rank).map(move |k| if format == InputFormat::F32 { k } else { [0, row, column, channel][k] })
}

impl Lower<'_> {
    /// Where the caller has input `k`.
    fn given(&self, k: usize) -> Place {
        let shape = &self.graph.value(self.graph.inputs[k]).shape;
        let esz = if self.format == InputFormat::U8Nhwc { 1 } else { 4 };
        let mut layout = Layout::dense(shape, esz);
        let mut step = esz;
        for axis in order(self.graph, shape.len(), self.format).rev() {
            layout.strides[axis] = step;
            step *= shape[axis];
        }
        Place { base: At { base: Base::Fixed(Space::Input(k)), offset: 0 }, layout }
    }

    /// Graph inputs that something other than a quantization reads get a copy in arena layout.
    pub(super) fn stage_inputs(&mut self) {
        for (k, &id) in self.graph.inputs.iter().enumerate() {
            if !self.memory.staged[id.0 as usize] {
                continue;
            }
            let name = self.graph.value(id).name.clone();
            let (given, to) = (self.given(k), self.place(id).clone());
            self.fill_halo(&name, id);
            if self.format != InputFormat::U8Nhwc {
                self.copy(&name, "stage input", &given, &to);
            } else if !self.normalize(&name, &given, &to) {
                let from = self.normalized(&name, &given);
                self.copy(&name, "stage input", &from, &to);
            }
        }
    }

    pub(super) fn quantize(&mut self, node: &QNode) {
        let y = self.place(node.output).clone();
        let id = node.inputs[0];
        let staged = self.memory.staged[id.0 as usize];
        let input = self.graph.inputs.iter().position(|&i| i == id && !staged);
        let mut x = input.map_or_else(|| self.place(id).clone(), |k| self.given(k));
        if x.layout.esz == 1 {
            if self.quantize_pixels(node, &x, &y) {
                return;
            }
            x = self.normalized(&node.name, &x);
        }
        let strides = &x.layout.strides;
        if x.layout.shape.len() != 4 || x.layout.shape[1] == 1 || strides[1] <= strides[3] {
            return self.quantize_elements(node, x, y);
        }
        if x.layout.shape[1] <= 3 && y.layout.pixel() == x.layout.shape[1] {
            return self.join_planes(node, &x, &y);
        }
        // Quantize in their own order, then move bytes.
        let bytes = self.temporary(Layout::dense(&x.layout.shape, 1));
        let flat = |p: &Place| {
            let count = p.layout.shape.iter().product();
            Place { layout: Layout::dense(&[count], p.layout.esz), ..p.clone() }
        };
        self.quantize_elements(node, flat(&x), flat(&bytes));
        self.copy(&node.name, "planes to pixels", &bytes, &y);
    }

    /// Constant vectors of a quantization to this value: the scale or its inverse, zero point and bounds, for [`quantize_lanes`]; and the
    /// order in which bytes are packed.
    pub(super) fn quantize_constants(&self, y: QValueId) -> [Vec<u8>; 5] {
        let ((scale, zero_point), t) = (self.affine(y), self.target);
        let zero = f32::from(zero_point);
        let [scale, zero, lo, hi] = match self.graph.rounding {
            Rounding::Fused => [1.0 / scale, zero, 0.0, 255.0],
            Rounding::ZeroLast => [scale, f32::from_bits(zero_point.into()), -zero, 255.0 - zero],
        }
        .map(|x| splat(t, x));
        [scale, zero, lo, hi, order_vector(t)]
    }

    /// f32 to u8, both in one order.
    fn quantize_elements(&mut self, node: &QNode, x: Place, y: Place) {
        let chunk = 4 * self.target.lanes;
        let (constants, rounding) = (self.quantize_constants(node.output).concat(), self.graph.rounding);
        let e = Elementwise { name: "quantize", y, x: vec![x], constants, table: false, registers: 6, chunk };
        self.elementwise(node, "quantize", e, |b, k, count| {
            bytes_out(b, k, count, 4, None, |b, v, at, n| {
                k.load_f32(b, v.clone(), 0, at, n);
                let zero = k.constant_register(b, 1, k.t.at(5));
                quantize_lanes(b, rounding, &v, zero, [0, 2, 3].map(|at| k.constant(at)));
            });
        });
    }

    /// Two or three f32 planes (N, C, H, W) to dense u8 pixels (N, H, W, C), joined in the dwords of a register.
    fn join_planes(&mut self, node: &QNode, x: &Place, y: &Place) {
        let target = self.target.clone();
        let [n, c, h, w] = [0, 1, 2, 3].map(|k| y.layout.shape[k]);
        let [scale, zero, lo, hi, _] = self.quantize_constants(node.output);
        let constants = [scale, zero, lo, hi, join_control(&target, c), join_order(&target, c)].concat();
        let constants = self.draft.constant(constants);
        let (lanes, plane) = (target.lanes, h * w * 4);
        let (whole, rest) = (w / lanes, w % lanes);
        let mut calls = Vec::new();
        for (first, count, pixels) in [(0, whole, lanes), (whole, usize::from(rest > 0), rest)] {
            if count == 0 {
                continue;
            }
            let kernel = planes_kernel(&target, self.graph.rounding, c, plane, pixels, count);
            let kernel = self.draft.kernel(kernel);
            let skip = first * lanes;
            let args = vec![y.first().plus(skip * c), x.first().plus(skip * 4), constants];
            let grid = [
                GridDim { extent: n, advance: vec![y.layout.image() as i64, (c * plane) as i64, 0] },
                GridDim { extent: h, advance: vec![y.layout.row() as i64, (w * 4) as i64, 0] },
            ];
            calls.push(DraftCall { kernel, args, grid: grid.into_iter().filter(|d| d.extent > 1).collect() });
        }
        self.draft.step(&node.name, "quantize", 0, calls);
    }
}

/// Bytes 0..c of every dword of a 16-byte block, moved to its front.
fn join_control(target: &Target, c: usize) -> Vec<u8> {
    let mut block: Vec<u8> = (0..4).flat_map(|d| (0..c).map(move |k| (4 * d + k) as u8)).collect();
    block.resize(16, 0x80);
    block.repeat(target.lanes / 4)
}

/// The `c` leading dwords of every 16-byte block, moved to the front.
pub(super) fn join_order(target: &Target, c: usize) -> Vec<u8> {
    let mut order: Vec<u32> =
        (0..target.lanes / 4).flat_map(|block| (0..c).map(move |k| (4 * block + k) as u32)).collect();
    order.resize(target.lanes, 3);
    order.iter().flat_map(|d| d.to_le_bytes()).collect()
}

/// f32 lanes to integers in 0..=255, by vectors of [`Lower::quantize_constants`]: the zero point, and scale and bounds.
pub(super) fn quantize_lanes(
    b: &mut KernelBuilder,
    rounding: Rounding,
    v: &Reg,
    zero: Reg,
    [scale, lo, hi]: [Operand<Reg, Addr>; 3],
) {
    let v = || v.clone();
    b.op(match rounding {
        Rounding::Fused => Instr::FmaMul { x: v(), m: scale, c: zero.clone() },
        Rounding::ZeroLast => Instr::DivF32 { dst: v(), a: v(), b: scale },
    });
    b.op(Instr::MaxF32 { dst: v(), a: v(), b: lo });
    b.op(Instr::MinF32 { dst: v(), a: v(), b: hi });
    b.op(Instr::CvtF32I32 { dst: v(), src: v() });
    match rounding {
        Rounding::Fused => {}
        Rounding::ZeroLast => b.op(Instr::AddI32 { dst: v(), a: v(), b: zero.into() }),
    }
}

fn planes_kernel(
    target: &Target,
    rounding: Rounding,
    c: usize,
    plane: usize,
    pixels: usize,
    count: usize,
) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new(format!("quantize_nchw{c}_{pixels}_{}", target.name), target.lanes);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    let table = b.param("c", Access::Read);
    let v = b.array("v", c);
    let constants = b.array("k", 6);
    (0..6).for_each(|k| b.op(Instr::Load { dst: constants.at(k), src: Addr::new(table, k * bytes), bytes }));
    let [scale, zero, lo, hi, control, order] = [0, 1, 2, 3, 4, 5].map(|k| constants.at(k));
    b.loop_(count, [(y, (target.lanes * c) as i64), (x, bytes as i64)], |b| {
        for k in 0..c {
            let r = v.at(k);
            b.op(Instr::Load { dst: r.clone(), src: Addr::new(x, k * plane), bytes: 4 * pixels });
            let vectors = [&scale, &lo, &hi].map(|r| r.clone().into());
            quantize_lanes(b, rounding, &r, zero.clone(), vectors);
            if k > 0 {
                b.op(Instr::ShlI32 { dst: r.clone(), a: r.clone(), by: 8 * k as u32 });
                b.op(Instr::Or { dst: v.at(0), a: v.at(0), b: r.into() });
            }
        }
        let out = v.at(0);
        b.op(Instr::Shuffle8 { dst: out.clone(), src: out.clone(), control: control.into() });
        if target.lanes > 4 {
            b.op(Instr::Permute32 { dst: out.clone(), src: out.clone(), index: order });
        }
        b.op(Instr::Store { dst: Addr::new(y, 0), src: out, bytes: pixels * c });
    });
    b.finish()
}
