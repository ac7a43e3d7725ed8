//! Convolutions, dense layers and transposed convolutions: all become one ordinary convolution, and maybe a move.
//!
//! - A dense layer `[.., K] → [.., M]` is a 1×1 convolution on `[rows, K, 1, 1]`. If its input was flattened from `[rows, C, H, W]`, it is an
//!   H×W convolution on that: same weights in the same order, and the flattening disappears.
//! - A transposed convolution gives every phase of its output grid as channels of its own: see [`transposed`].
//! - Activations that are no clamp follow as a table (u8) or a function (f32); the value between is called `{output}/pre`.

use super::decide::Run;
use super::elementwise::{finite_clip, table, tables};
use super::emit::{Emit, IMAGE};
use super::equalize::Multiples;
use super::ranges::Grid;
use super::transposed::{self, Phases};
use super::weights::{self, Channels, Place, Read, pack};
use crate::graph::{Conv, ConvTranspose, Epilogue, Graph, Node, Op, Tensor, Unary, ValueId};
use crate::qgraph::layout::WeightShape;
use crate::qgraph::{Arithmetic, BlobId, QConv, QOp, QType, QValueId, Residual, Window};
use qgraph_runtime::requant::given_multiplier;

/// An ordinary convolution, ready to be given an arithmetic.
pub(super) struct Layer<'a> {
    /// Index of the float node.
    pub(super) node: usize,
    /// `[N, C, H, W]`.
    pub(super) x: QValueId,
    /// Grid of x is that of this float value.
    pub(super) x_value: ValueId,
    /// `[M, C/groups, kh, kw]`.
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) window: Window,
    pub(super) groups: usize,
    pub(super) residual: Option<ValueId>,
    /// Result of the convolution: `[N, M, H', W']`.
    pub(super) shape: [usize; 4],
    activation: Option<Unary>,
    finish: Finish,
}

/// How the result of the convolution becomes the node's output.
pub(super) enum Finish {
    /// It is the output.
    None,
    /// Same elements, other shape.
    Reshape,
    /// Channels to space.
    Phases { block: [usize; 2], crop: [usize; 2] },
}

/// Emits a Conv, ConvTranspose or Dense.
pub(super) fn emit(e: &mut Emit<'_>, k: usize) -> Result<(), String> {
    let graph = e.graph;
    let node = &graph.nodes[k];
    let constant = |i: usize| {
        let id = node.inputs.get(i).copied();
        id.and_then(|id| graph.constant(id)).ok_or("weights and bias must be constants; run fusion first")
    };
    let (weight, bias) = (constant(1)?, constant(2)?);
    let x = e.operand(k, node.inputs[0])?;
    match &node.op {
        Op::Conv(conv) => convolution(e, k, x, conv, weight, bias),
        Op::Dense(epilogue) => dense(e, k, x, epilogue, weight, bias),
        Op::ConvTranspose(conv) => transpose(e, k, x, conv, weight, bias),
        _ => Err("is not a layer with weights; this is a bug".into()),
    }
}

fn convolution(
    e: &mut Emit<'_>,
    k: usize,
    x: QValueId,
    conv: &Conv,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let layer = Layer {
        node: k,
        x,
        x_value: node.inputs[0],
        weight: &weight.data,
        bias: &bias.data,
        window: Window {
            kernel: conv.kernel,
            strides: conv.strides,
            dilations: conv.dilations,
            pads: conv.pads,
        },
        groups: conv.groups,
        residual: residual(e, k, &conv.epilogue)?,
        shape: image(e.graph.shape(node.output))?,
        activation: conv.epilogue.activation,
        finish: Finish::None,
    };
    layer.emit(e)
}

fn dense(
    e: &mut Emit<'_>,
    k: usize,
    x: QValueId,
    epilogue: &Epilogue,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let (depth, units) = (weight.data.len() / bias.data.len().max(1), bias.data.len());
    let rows = e.graph.shape(node.output).iter().product::<usize>() / units.max(1);
    let rank = e.graph.shape(node.inputs[0]).len();
    // Only a matrix [rows, K] can be a flattened image; with more axes K is the last of them alone.
    let flattened = if rank == 2 { e.unflattened(x, rows) } else { None };
    let (x, kernel) = match flattened {
        Some(image) => {
            let shape = &e.builder.value(image).shape;
            (image, [shape[2], shape[3]])
        }
        None => (e.view(x, &[rows, depth, 1, 1], &format!("{}/in", node.name)), [1, 1]),
    };
    let layer = Layer {
        node: k,
        x,
        x_value: node.inputs[0],
        weight: &weight.data,
        bias: &bias.data,
        window: Window { kernel, strides: [1, 1], dilations: [1, 1], pads: [0; 4] },
        groups: 1,
        residual: residual(e, k, epilogue)?,
        shape: [rows, units, 1, 1],
        activation: epilogue.activation,
        finish: Finish::Reshape,
    };
    layer.emit(e)
}

fn transpose(
    e: &mut Emit<'_>,
    k: usize,
    x: QValueId,
    conv: &ConvTranspose,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    if conv.epilogue.residual {
        return Err("a residual cannot be added inside a transposed convolution".into());
    }
    let [n, _, height, width] = image(e.graph.shape(node.output))?;
    let channels = image(e.graph.shape(node.inputs[0]))?[1];
    let phases = phases(e.graph, node, conv)?;
    let outputs = bias.data.len();
    let block = conv.strides;
    let count = block[0] * block[1];
    let weight = transposed::weights(conv, &phases, &weight.data, channels, outputs);
    let bias: Vec<f32> = (0..count).flat_map(|_| bias.data.iter().copied()).collect();
    let shape = [n, count * outputs, phases.positions[0], phases.positions[1]];
    let whole = count == 1 && phases.crop == [0, 0] && phases.positions == [height, width];
    let layer = Layer {
        node: k,
        x,
        x_value: node.inputs[0],
        weight: &weight,
        bias: &bias,
        window: Window { kernel: phases.kernel, strides: [1, 1], dilations: [1, 1], pads: phases.pads },
        groups: 1,
        residual: None,
        shape,
        activation: conv.epilogue.activation,
        finish: if whole { Finish::None } else { Finish::Phases { block, crop: phases.crop } },
    };
    layer.emit(e)
}

/// `weight·x + bias` per channel of `x`, an image: a convolution of one tap.
pub(super) fn channelwise(
    e: &mut Emit<'_>,
    k: usize,
    x: ValueId,
    weight: &[f32],
    bias: &[f32],
) -> Result<(), String> {
    let layer = Layer {
        node: k,
        x: e.operand(k, x)?,
        x_value: x,
        weight,
        bias,
        window: Window { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0; 4] },
        groups: bias.len(),
        residual: None,
        shape: image(e.graph.shape(e.graph.nodes[k].output))?,
        activation: None,
        finish: Finish::None,
    };
    layer.emit(e)
}

/// The phases of a transposed convolution.
pub(super) fn phases(graph: &Graph, node: &Node, conv: &ConvTranspose) -> Result<Phases, String> {
    let [_, _, height, width] = image(graph.shape(node.output))?;
    let [_, _, rows, cols] = image(graph.shape(node.inputs[0]))?;
    Ok(Phases::of(conv, [rows, cols], [height, width]))
}

/// The residual operand, if the epilogue has one.
fn residual(e: &Emit<'_>, k: usize, epilogue: &Epilogue) -> Result<Option<ValueId>, String> {
    match e.graph.nodes[k].inputs.get(3) {
        Some(&v) if epilogue.residual => Ok(Some(v)),
        None if epilogue.residual => Err("its residual operand is missing".into()),
        _ => Ok(None),
    }
}

fn image(shape: &[usize]) -> Result<[usize; 4], String> {
    shape.try_into().map_err(|_| format!("the shape {shape:?} is not [N, C, H, W]"))
}

impl Layer<'_> {
    /// What follows the sum: a clamp, and an activation that is none.
    pub(super) fn activation(&self, e: &Emit<'_>) -> ([f32; 2], Option<Unary>) {
        let merged = e.decisions.clamp[self.node].map(|c| (c.lo, c.hi));
        let clamp = merged.or(self.activation.and_then(Unary::as_clamp));
        let (lo, hi) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        ([lo, hi], self.activation.filter(|f| f.as_clamp().is_none()))
    }

    /// The value that the last node before [`Layer::finish`] gives.
    pub(super) fn result(&self, e: &mut Emit<'_>, output: ValueId, grid: Option<Grid>) -> QValueId {
        let suffix = match self.finish {
            Finish::None => return e.define(output, grid),
            Finish::Reshape => IMAGE,
            Finish::Phases { .. } => "/phases",
        };
        let name = format!("{}{suffix}", e.graph.value(output).name);
        e.value(&name, &self.shape, grid.map_or(QType::F32, Grid::ty))
    }

    /// Makes the output of that value, if it is not the same.
    pub(super) fn finish(&self, e: &mut Emit<'_>, output: ValueId, result: QValueId, grid: Option<Grid>) {
        let op = match self.finish {
            Finish::None => return,
            Finish::Reshape => QOp::Reshape,
            Finish::Phases { block, crop } => QOp::DepthToSpace { block, crop },
        };
        let id = e.define(output, grid);
        let name = format!("{}/out", e.graph.nodes[self.node].name);
        e.helper(&name, op, &[result], id);
    }

    /// Weights, biases and scales in the file.
    pub(super) fn blobs(&self, e: &mut Emit<'_>, shape: &WeightShape, q: &Channels) -> [BlobId; 3] {
        let name = &e.graph.nodes[self.node].name;
        let outputs = [self.bias.len()];
        [
            e.builder.add_blob_i8(&format!("{name}/weight"), &shape.dims(), &pack(shape, &q.weight)),
            e.builder.add_blob_i32(&format!("{name}/bias"), &outputs, &q.bias),
            e.builder.add_blob_f32(&format!("{name}/scale"), &outputs, &q.scale),
        ]
    }

    fn emit(self, e: &mut Emit<'_>) -> Result<(), String> {
        if e.decisions.run[self.node] == Run::Dynamic {
            return self.dynamic(e);
        }
        let output = e.decisions.output(e.graph, self.node);
        let name = e.graph.value(output).name.clone();
        let node_name = e.graph.nodes[self.node].name.clone();
        let ([lo, hi], function) = self.activation(e);
        let grid = e.grid(self.node)?;
        // The convolution's own grid, if it gives u8: with a table behind it, that of the value before.
        let sum_grid = match (grid, function) {
            (Some(_), Some(_)) => Some(e.scales.before_activation(output)?),
            (grid, _) => grid,
        };

        let mut inputs = vec![self.x];
        if let Some(r) = self.residual {
            let q = e.operand(self.node, r)?;
            inputs.push(e.view(q, &self.shape, &format!("{node_name}/residual")));
        }
        let op = self.operation(e, sum_grid, lo, hi)?;
        // Between convolution and output stand: {name}/pre (in the shape of the sum), then what is finished.
        let multiples = e.scales.multiples(output);
        let mut result = match function {
            Some(_) => {
                let ty = sum_grid.map_or(QType::F32, |g| g.ty());
                let sum = e.value(&format!("{name}/pre"), &self.shape, ty);
                if let Some(before) = multiples.and_then(|m| m.before.as_ref()) {
                    e.builder.set_factors(sum, before);
                }
                sum
            }
            None => self.result(e, output, grid),
        };
        e.main(self.node, op, &inputs, result);
        if let Some(f) = function {
            let from = result;
            result = self.result(e, output, grid);
            let op = match (sum_grid, grid) {
                (Some(from), Some(to)) => {
                    let name = format!("{node_name}/table");
                    QOp::Table(match multiples {
                        Some(Multiples { before: Some(before), after }) => {
                            tables(e, &name, from, to, f, [before, after])
                        }
                        _ => table(e, &name, from, to, f),
                    })
                }
                _ => QOp::Unary(finite_clip(f)),
            };
            let label = format!("{node_name}/activation");
            // After an integer sum this is the one step in float.
            let in_float = grid.is_none() && e.decisions.run[self.node] == Run::IntegerToFloat;
            let node = e.helper(&label, op, &[from], result);
            if in_float {
                node.float_reason = Some("output: the activation of a layer that gives float".into());
            }
        }
        self.finish(e, output, result, grid);
        Ok(())
    }

    /// What the taps read, as far as the weights' rounding asks for it and calibration knows it.
    fn read(&self, e: &Emit<'_>) -> Read {
        let value = e.graph.value(self.x_value);
        let numbers = &e.numbers;
        let channels = numbers.channels.and_then(|channels| channels.get(&value.name));
        // A dense layer reads the last axis, which are no channels of an image.
        let is_dense = matches!(e.graph.nodes[self.node].op, Op::Dense(_));
        let Some(channels) = channels.filter(|_| !is_dense || value.shape.len() != 4) else {
            return Read::default();
        };
        let list = |of: &dyn Fn(usize) -> f64| self.taps(e, &(0..channels.len()).map(of).collect::<Vec<_>>());
        let mean = |c: usize| f64::from(channels.mean[c]);
        let square = |c: usize| f64::from(channels.rms[c]).powi(2);
        Read {
            means: if numbers.correct_biases { list(&mean) } else { None },
            squares: if numbers.scaling.clip { list(&square) } else { None },
        }
    }

    /// A mean of every channel as one of every tap, group by group.
    fn taps(&self, e: &Emit<'_>, means: &[f64]) -> Option<Vec<f64>> {
        let shape = &e.builder.value(self.x).shape;
        let [kh, kw] = self.window.kernel;
        let (channels, taps) = (shape[1], kh * kw);
        // A flattened image has a mean for each of its elements, as its layer has a tap.
        if means.len() == channels * taps && taps > 1 {
            return Some(means.to_vec());
        }
        if means.len() != channels {
            return None;
        }
        // A tap reads padding, which is 0, at some positions.
        let share = |axis: usize, tap: usize| {
            let (extent, positions) = (shape[2 + axis], self.shape[2 + axis]);
            let at = |p: usize| p * self.window.strides[axis] + tap * self.window.dilations[axis];
            let inside =
                |p: &usize| (self.window.pads[axis]..self.window.pads[axis] + extent).contains(&at(*p));
            (0..positions).filter(inside).count() as f64 / positions as f64
        };
        let shares: Vec<f64> = (0..taps).map(|tap| share(0, tap / kw) * share(1, tap % kw)).collect();
        Some(means.iter().flat_map(|&m| shares.iter().map(move |s| s * m)).collect())
    }

    /// The convolution in the arithmetic that the node runs in.
    fn operation(&self, e: &mut Emit<'_>, to: Option<Grid>, lo: f32, hi: f32) -> Result<QOp, String> {
        let name = e.graph.nodes[self.node].name.clone();
        let channels = e.builder.value(self.x).shape[1];
        let outputs = self.bias.len();
        let integer = !matches!(e.decisions.run[self.node], Run::Float(_));
        let shape = WeightShape::of(integer, channels, outputs, self.groups, &self.window);
        let (weight, bias, arithmetic);
        if integer {
            let from = e.scales.of(self.x_value)?;
            let place = Place { x: from, y: to, rounding: e.numbers.rounding };
            let q = match e.numbers.given {
                true => weights::given(e.graph, &e.graph.nodes[self.node])?.channels(place)?,
                false => weights::quantize(self.weight, self.bias, place, e.numbers.scaling, &self.read(e))?,
            };
            let scale;
            [weight, bias, scale] = self.blobs(e, &shape, &q);
            arithmetic = match to {
                Some(to) => {
                    let residual = match self.residual {
                        None => None,
                        Some(r) => {
                            let r = e.scales.of(r)?;
                            let scale = ratio(e, r.scale, 1.0, to.scale)?;
                            let k = (to.offset() - r.offset() * f64::from(scale)) as f32;
                            Some(Residual { scale, k })
                        }
                    };
                    let (lo, hi) = to.clamp(lo, hi);
                    Arithmetic::Integer { scale, residual, lo, hi }
                }
                None => Arithmetic::IntegerToFloat { scale, lo, hi },
            };
        } else {
            weight =
                e.builder.add_blob_f32(&format!("{name}/weight"), &shape.dims(), &pack(&shape, self.weight));
            bias = e.builder.add_blob_f32(&format!("{name}/bias"), &[outputs], self.bias);
            arithmetic = Arithmetic::Float { residual: self.residual.is_some(), lo, hi };
        }
        Ok(QOp::Conv(QConv { window: self.window.clone(), groups: self.groups, weight, bias, arithmetic }))
    }
}

/// The multiplier of an operand of step `x`, times `w`, in steps of the result.
pub(super) fn ratio(e: &Emit<'_>, x: f32, w: f32, y: f32) -> Result<f32, String> {
    given_multiplier(e.numbers.rounding, x, w, y).ok_or_else(|| {
        let s = f64::from(x) * f64::from(w) / f64::from(y);
        format!("an operand's step is {s:e} steps of the result, beyond 2^8; keep this layer in float")
    })
}
