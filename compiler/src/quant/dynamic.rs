//! Layers whose ranges are found at run time: no samples are needed, and nothing is clipped.
//!
//! A layer with weights divides what it reads by the image's largest magnitude, rounds that to bytes, sums integers, and multiplies the sums by
//! the magnitude again, in f32. Everything between layers is f32. An image's result depends on nothing but the image: not on a batch, nor on
//! threads.

use super::conv::Layer;
use super::elementwise::finite_clip;
use super::emit::Emit;
use super::ranges::Grid;
use super::weights::{self, Place, Read};
use crate::graph::{Binary, Graph, Op, PoolKind, Unary, ValueId};
use crate::qgraph::layout::WeightShape;
use crate::qgraph::{Arithmetic, FloatBinary, QConv, QOp, QType};

/// Why the steps around the sums are in float.
pub(super) const AROUND: &str = "around integer sums whose range is found at run time";

const OPEN: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

impl Layer<'_> {
    /// Emits the layer; what it reads is f32.
    pub(super) fn dynamic(&self, e: &mut Emit<'_>) -> Result<(), String> {
        let (graph, node) = (e.graph, &e.graph.nodes[self.node].name);
        let output = e.decisions.output(graph, self.node);
        let name = graph.value(output).name.clone();
        let residual = match self.residual {
            Some(r) => {
                let r = e.f32(r)?;
                Some(e.view(r, &self.shape, &format!("{node}/residual")))
            }
            None => None,
        };
        let grid = grid(graph, self.x_value);
        let [x, peak] = e.normalized(self.x, grid);

        let outputs = self.bias.len();
        let channels = e.builder.value(x).shape[1];
        let shape = WeightShape::of(true, channels, outputs, self.groups, &self.window);
        let place = Place { x: grid, y: None, rounding: e.numbers.rounding };
        let read = Read::default();
        let q = weights::quantize(self.weight, &vec![0.0; outputs], place, e.numbers.scaling, &read)?;
        let [weight, bias, scale] = self.blobs(e, &shape, &q);
        let [lo, hi] = OPEN;
        let arithmetic = Arithmetic::IntegerToFloat { scale, lo, hi };
        let conv = QConv { window: self.window.clone(), groups: self.groups, weight, bias, arithmetic };
        let mut result = e.value(&format!("{name}/sum"), &self.shape, QType::F32);
        e.main(self.node, QOp::Conv(conv), &[x], result);

        let ([lo, hi], function) = self.activation(e);
        let open = |op| QOp::Binary { op, lo: OPEN[0], hi: OPEN[1] };
        let scale = e.builder.add_blob_f32(&format!("{node}/one"), &[outputs], &vec![1.0; outputs]);
        let offset = e.builder.add_blob_f32(&format!("{node}/offset"), &[outputs], self.bias);
        let biased = |[lo, hi]: [f32; 2]| QOp::Affine { scale, offset, lo, hi };
        let mut steps = vec![("scaled", open(FloatBinary::Mul), Some(peak))];
        match residual {
            None => steps.push(("biased", biased([lo, hi]), None)),
            Some(r) => {
                steps.push(("biased", biased(OPEN), None));
                steps.push(("added", QOp::Binary { op: FloatBinary::Add, lo, hi }, Some(r)));
            }
        }
        steps.extend(function.map(|f| ("activation", QOp::Unary(finite_clip(f)), None)));
        let last = steps.len() - 1;
        for (k, (label, op, operand)) in steps.into_iter().enumerate() {
            let inputs: Vec<_> = [Some(result), operand].into_iter().flatten().collect();
            result = match k == last {
                true => self.result(e, output, None),
                false => e.value(&format!("{name}/{label}"), &self.shape, QType::F32),
            };
            e.helper(&format!("{node}/{label}"), op, &inputs, result).float_reason = Some(AROUND.into());
        }
        self.finish(e, output, result, None);
        Ok(())
    }
}

/// The grid of what was divided by its largest magnitude: of 0 to 1 if nothing is negative, else of −1 to 1.
fn grid(graph: &Graph, v: ValueId) -> Grid {
    match never_negative(graph, v) {
        true => Grid { scale: 1.0 / 255.0, zero: 0 },
        false => Grid { scale: 1.0 / 127.0, zero: 128 },
    }
}

/// Whether no element of a value can be less than 0, by what gives it.
fn never_negative(graph: &Graph, v: ValueId) -> bool {
    let Some(node) = graph.producer(v).map(|k| &graph.nodes[k]) else {
        return graph.constant(v).is_some_and(|t| t.data.iter().all(|&x| x >= 0.0));
    };
    let operand = |i: usize| node.inputs.get(i).is_some_and(|&v| never_negative(graph, v));
    let all = || (0..node.inputs.len()).all(operand);
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => {
            node.op.epilogue().and_then(|e| e.activation).is_some_and(gives_no_negative)
        }
        Op::Unary(f) => gives_no_negative(*f),
        Op::Binary(Binary::Add | Binary::Mul | Binary::Div) | Op::Concat { .. } => all(),
        Op::Pool(p) => match p.kind {
            PoolKind::Max | PoolKind::Average { .. } => operand(0),
        },
        Op::GlobalPool(_) | Op::Resize(_) | Op::Lrn { .. } => operand(0),
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Identity | Op::Dropout => operand(0),
        Op::Pad { value, .. } => *value >= 0.0 && operand(0),
        Op::Softmax { .. } => true,
        Op::BatchNorm { .. } | Op::PRelu | Op::Binary(Binary::Sub) | Op::Round(_) => false,
    }
}

fn gives_no_negative(f: Unary) -> bool {
    match f {
        Unary::Clip { lo, .. } => lo >= 0.0,
        Unary::Relu | Unary::Sigmoid | Unary::HardSigmoid { .. } | Unary::Softplus => true,
        Unary::Square | Unary::Sqrt | Unary::Abs | Unary::Exp => true,
        Unary::LeakyRelu { .. } | Unary::Elu { .. } | Unary::HardSwish | Unary::Tanh | Unary::Mish => false,
        Unary::Gelu | Unary::GeluTanh | Unary::Silu | Unary::Erf => false,
    }
}
