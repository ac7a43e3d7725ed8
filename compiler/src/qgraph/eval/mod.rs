//! The definition of what an integer graph computes: a verified graph and f32 inputs go in, f32 outputs come out.
//!
//! Plain loops over dense row-major data in logical shapes; all arithmetic of activations is
//! [`qgraph_runtime::requant`]'s. Every other engine must give these bits for u8 values, and these numbers to rounding for
//! f32 ones. Layouts, halos and instruction sets are not here.
//!
//! - `conv`: convolutions.
//! - `elementwise`: functions of one element, or of two with broadcasting.
//! - `pool`: maxima and averages over windows.
//! - `moves`: what only moves elements.
//! - `x86`: the same inner product, faster.
//! - `float`: softmax, normalization, interpolation, magnitudes.

mod conv;
mod elementwise;
mod float;
mod moves;
mod pool;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::{QGraph, QNode, QOp, QType, QValueId};
use crate::error::{Error, Result, Stage};

/// A computed value: dense, row-major in the value's logical shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Real numbers.
    F32(Vec<f32>),
    /// Quantized.
    U8(Vec<u8>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(x) => x.len(),
            Data::U8(x) => x.len(),
        }
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The real numbers; panics for quantized data, which the verifier has excluded where this is called.
    fn f32(&self) -> &[f32] {
        match self {
            Data::F32(x) => x,
            Data::U8(_) => unreachable!("verified to be f32"),
        }
    }

    /// The quantized numbers; panics for real ones, which the verifier has excluded where this is called.
    fn u8(&self) -> &[u8] {
        match self {
            Data::U8(x) => x,
            Data::F32(_) => unreachable!("verified to be u8"),
        }
    }
}

/// Applies a function that is generic in the element type.
macro_rules! either {
    ($data:expr, $x:ident => $result:expr) => {
        match $data {
            Data::F32($x) => Data::F32($result),
            Data::U8($x) => Data::U8($result),
        }
    };
}

/// Runs the graph, which must be free of [`verify`](super::verify::verify)'s problems, on f32 inputs in the order of
/// [`QGraph::inputs`]; gives the f32 outputs in the order of [`QGraph::outputs`]. `observe` sees every value with its name, in the
/// order of computation. Errors: number or size of inputs.
pub fn eval(
    graph: &QGraph,
    inputs: &[Vec<f32>],
    observe: &mut dyn FnMut(&str, &Data),
) -> Result<Vec<Vec<f32>>> {
    if inputs.len() != graph.inputs.len() {
        let message = format!("{} inputs given, but the network takes {}", inputs.len(), graph.inputs.len());
        return Err(Error::new(Stage::Run, &graph.name, message));
    }
    let mut values: Vec<Option<Data>> = vec![None; graph.values.len()];
    for (&id, data) in graph.inputs.iter().zip(inputs) {
        let v = graph.value(id);
        if v.shape.iter().product::<usize>() != data.len() {
            let message = format!("{} numbers given for shape {:?}", data.len(), v.shape);
            return Err(Error::new(Stage::Run, &v.name, message));
        }
        let data = Data::F32(data.clone());
        observe(&v.name, &data);
        values[id.0 as usize] = Some(data);
    }
    let mut readers = vec![0u32; graph.values.len()];
    for id in graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs) {
        readers[id.0 as usize] += 1;
    }
    for node in &graph.nodes {
        let result = Site { graph, node, values: &values }.run();
        debug_assert_eq!(result.len(), graph.value(node.output).shape.iter().product::<usize>());
        observe(&graph.value(node.output).name, &result);
        values[node.output.0 as usize] = Some(result);
        // What nobody reads any more is dropped: large networks fit in memory.
        for id in &node.inputs {
            readers[id.0 as usize] -= 1;
            if readers[id.0 as usize] == 0 {
                values[id.0 as usize] = None;
            }
        }
    }
    let get = |id: &QValueId| values[id.0 as usize].as_ref().expect("outputs are kept").f32().to_vec();
    Ok(graph.outputs.iter().map(get).collect())
}

/// A node with the values of its operands.
struct Site<'a> {
    graph: &'a QGraph,
    node: &'a QNode,
    values: &'a [Option<Data>],
}

impl<'a> Site<'a> {
    /// Operand `i`.
    fn data(&self, i: usize) -> &'a Data {
        self.values[self.node.inputs[i].0 as usize].as_ref().expect("operands are computed and kept")
    }

    /// Shape of operand `i`.
    fn shape(&self, i: usize) -> &'a [usize] {
        &self.graph.value(self.node.inputs[i]).shape
    }

    /// Shape of the result.
    fn result(&self) -> &'a [usize] {
        &self.graph.value(self.node.output).shape
    }

    /// Scale and zero point of operand `i`; 1 and 0 for f32.
    fn scale(&self, i: usize) -> (f32, u8) {
        scale_of(self.graph.value(self.node.inputs[i]).ty)
    }

    /// Scale and zero point of the result; 1 and 0 for f32.
    fn result_scale(&self) -> (f32, u8) {
        scale_of(self.graph.value(self.node.output).ty)
    }

    fn run(&self) -> Data {
        let (shape, result) = (|i| self.shape(i), self.result());
        match &self.node.op {
            QOp::Quantize => elementwise::quantize(self),
            QOp::Dequantize => elementwise::dequantize(self),
            QOp::Conv(c) => conv::conv(self, c),
            QOp::Affine { scale, offset, lo, hi } => elementwise::affine(self, *scale, *offset, *lo, *hi),
            QOp::Add { a, b, k, lo, hi } => elementwise::add(self, [*a, *b, *k], *lo, *hi),
            QOp::Mul { scale, lo, hi } => elementwise::mul(self, *scale, *lo, *hi),
            QOp::Binary { op, lo, hi } => elementwise::binary(self, *op, *lo, *hi),
            QOp::Table(table) => elementwise::table(self, *table),
            QOp::Unary(f) => elementwise::unary(self, *f),
            QOp::PRelu(slope) => elementwise::prelu(self, *slope),
            QOp::MaxPool(w) => either!(self.data(0), x => pool::max(x, shape(0), w, result)),
            QOp::AvgPool { window, count_include_pad, ratio } => {
                pool::average(self, window, *count_include_pad, *ratio)
            }
            QOp::Concat { axis } => {
                let parts = 0..self.node.inputs.len();
                match self.data(0) {
                    Data::F32(_) => {
                        Data::F32(moves::concat(parts.map(|i| (self.data(i).f32(), shape(i))), *axis, result))
                    }
                    Data::U8(_) => {
                        Data::U8(moves::concat(parts.map(|i| (self.data(i).u8(), shape(i))), *axis, result))
                    }
                }
            }
            QOp::Slice(slices) => either!(self.data(0), x => moves::slice(x, shape(0), slices)),
            QOp::Pad { pads, fill } => match self.data(0) {
                Data::F32(x) => Data::F32(moves::pad(x, shape(0), pads, *fill, result)),
                Data::U8(x) => Data::U8(moves::pad(x, shape(0), pads, *fill as u8, result)),
            },
            QOp::Transpose(perm) => either!(self.data(0), x => moves::transpose(x, shape(0), perm)),
            QOp::Reshape => self.data(0).clone(),
            QOp::DepthToSpace { block, crop } => {
                either!(self.data(0), x => moves::depth_to_space(x, shape(0), *block, *crop, result))
            }
            QOp::ResizeNearest { rows, cols } => {
                either!(self.data(0), x => moves::resize_nearest(x, shape(0), rows, cols))
            }
            QOp::ResizeLinear { rows, cols } => float::resize(self, rows, cols),
            QOp::Softmax { axis } => float::softmax(self, *axis),
            QOp::Lrn { size, alpha, beta, bias } => float::lrn(self, *size, *alpha, *beta, *bias),
            QOp::Peak => float::peak(self),
            QOp::Constant(blob) => match self.graph.value(self.node.output).ty {
                QType::F32 => Data::F32(self.graph.blob_f32(*blob)),
                QType::U8 { .. } => Data::U8(self.graph.blob_bytes(*blob).to_vec()),
            },
        }
    }
}

fn scale_of(ty: QType) -> (f32, u8) {
    match ty {
        QType::U8 { scale, zero_point } => (scale, zero_point),
        QType::F32 => (1.0, 0),
    }
}

/// The clamp of f32 results: maximum, then minimum, each giving the bound where the comparison is false (so NaN gives the
/// bound). An infinite bound does nothing.
fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if lo == f32::NEG_INFINITY || x > lo { x } else { lo };
    if hi == f32::INFINITY || x < hi { x } else { hi }
}

#[cfg(test)]
mod tests;
