//! Which nodes run in integers. Fused graph in, a [`Run`] per node out.
//!
//! A node without an integer form stays in float. From the outputs backwards, so does every move and elementwise function
//! whose result is only ever wanted in float, and a convolution or average there gives float directly: the last layer
//! loses nothing to eight bits. Everything else runs in integers. A reason goes with every node kept in float.

use super::elementwise::{Channel, affine};
use crate::graph::{Binary, GlobalPool, Graph, Interpolation, Node, Op, PoolKind, Unary, ValueId};

/// Why a node that could run in integers does not.
const OUTPUT: &str = "output: leads only to outputs, which are float";
const BETWEEN: &str = "feeds only layers that run in float";
const DYNAMIC: &str = "stands between layers whose ranges are found at run time";

/// How a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// u8 in, u8 out.
    Integer,
    /// u8 in, f32 out, without rounding to eight bits.
    IntegerToFloat,
    /// f32 in, f32 out; integers inside, on a grid that is found at run time.
    Dynamic,
    /// f32 in, f32 out. In an otherwise integer network with the reason.
    Float(Option<String>),
    /// Not at all: dead, or a clamp merged into its producer.
    Skip,
}

/// A clamp that a node takes over from the node behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    /// What the clamp gives: the merged node's output.
    pub(super) output: ValueId,
    /// May be −∞.
    pub(super) lo: f32,
    /// May be ∞.
    pub(super) hi: f32,
}

/// The decisions for every node, by index.
pub(super) struct Decisions {
    pub(super) run: Vec<Run>,
    pub(super) clamp: Vec<Option<Clamp>>,
    /// How many nodes that run read a value, by value.
    pub(super) readers: Vec<usize>,
}

/// In what form the consumers of a value want it.
#[derive(Clone, Copy, Default)]
struct Demand {
    integer: bool,
    float: bool,
    /// Some float consumer is not on the way to an output.
    island: bool,
}

impl Decisions {
    /// Everything that is alive in float.
    pub(super) fn float(graph: &Graph) -> Self {
        Self::decide(graph, vec![None; graph.nodes.len()], |_, _| Run::Float(None))
    }

    /// Integers wherever they are exact enough, but where a reason says otherwise (by node).
    pub(super) fn integer(graph: &Graph, excluded: &[Option<String>]) -> Self {
        Self::decide(graph, merge_clamps(graph, excluded), |k, demand| match &excluded[k] {
            Some(reason) => Run::Float(Some(reason.clone())),
            None => place(graph, &graph.nodes[k], demand),
        })
    }

    /// Layers with weights in integers whose grids are found at run time, everything else in float.
    pub(super) fn dynamic(graph: &Graph, excluded: &[Option<String>]) -> Self {
        Self::decide(graph, merge_clamps(graph, excluded), |k, _| match &excluded[k] {
            Some(reason) => Run::Float(Some(reason.clone())),
            // They are what has an epilogue.
            None if graph.nodes[k].op.epilogue().is_some() => Run::Dynamic,
            None => Run::Float(Some(DYNAMIC.into())),
        })
    }

    /// As the model says, node by node; dead nodes do not run.
    pub(super) fn given(graph: &Graph, clamp: Vec<Option<Clamp>>, runs: &[Run]) -> Self {
        Self::decide(graph, clamp, |k, _| runs[k].clone())
    }

    fn decide(graph: &Graph, clamp: Vec<Option<Clamp>>, place: impl Fn(usize, Demand) -> Run) -> Self {
        let mut d = Decisions {
            run: vec![Run::Skip; graph.nodes.len()],
            clamp,
            readers: vec![0; graph.values.len()],
        };
        let merged: Vec<ValueId> = d.clamp.iter().flatten().map(|c| c.output).collect();
        let mut demand = vec![Demand::default(); graph.values.len()];
        for &o in &graph.outputs {
            demand[o.0 as usize].float = true;
        }
        for (k, node) in graph.nodes.iter().enumerate().rev() {
            let wanted = demand[d.output(graph, k).0 as usize];
            let taken = merged.contains(&node.output);
            if taken || !(wanted.integer || wanted.float) {
                continue;
            }
            d.run[k] = place(k, wanted);
            for &i in &node.inputs {
                d.readers[i.0 as usize] += 1;
                let demand = &mut demand[i.0 as usize];
                match &d.run[k] {
                    Run::Float(reason) => {
                        demand.float = true;
                        demand.island |= reason.as_deref() != Some(OUTPUT);
                    }
                    Run::Dynamic => demand.float = true,
                    Run::Integer | Run::IntegerToFloat => demand.integer = true,
                    Run::Skip => {}
                }
            }
        }
        d
    }

    /// The value that node `k` gives: its own output, or that of the clamp merged into it.
    pub(super) fn output(&self, graph: &Graph, k: usize) -> ValueId {
        self.clamp[k].map_or(graph.nodes[k].output, |c| c.output)
    }
}

/// Relu and Clip behind a node whose result nobody else sees become that node's clamp, but for those excluded by themselves. By the index
/// of the node.
pub(super) fn merge_clamps(graph: &Graph, excluded: &[Option<String>]) -> Vec<Option<Clamp>> {
    let mut clamps = vec![None; graph.nodes.len()];
    let mut uses = vec![0; graph.values.len()];
    for v in graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs) {
        uses[v.0 as usize] += 1;
    }
    for (node, excluded) in graph.nodes.iter().zip(excluded) {
        let Op::Unary(unary) = node.op else { continue };
        let (Some((lo, hi)), &[x]) = (unary.as_clamp(), &node.inputs[..]) else { continue };
        let Some(producer) = graph.producer(x).filter(|_| uses[x.0 as usize] == 1) else { continue };
        let takes = match &graph.nodes[producer].op {
            Op::Conv(c) => c.epilogue.activation.is_none(),
            Op::ConvTranspose(c) => c.epilogue.activation.is_none(),
            Op::Dense(e) => e.activation.is_none(),
            Op::BatchNorm { .. } | Op::Binary(_) => true,
            Op::Unary(_)
            | Op::PRelu
            | Op::Concat { .. }
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Pad { .. }
            | Op::Resize(_)
            | Op::Slice(_)
            | Op::Softmax { .. }
            | Op::Lrn { .. }
            | Op::Identity
            | Op::Dropout
            | Op::Round(_) => false,
        };
        if takes && excluded.is_none() {
            clamps[producer] = Some(Clamp { output: node.output, lo, hi });
        }
    }
    clamps
}

/// Integer or float, given who wants the result.
fn place(graph: &Graph, node: &Node, demand: Demand) -> Run {
    if let Some(reason) = no_integer_form(graph, node) {
        return Run::Float(Some(reason.into()));
    }
    if demand.integer {
        return Run::Integer;
    }
    match &node.op {
        // A residual is added in u8 units.
        Op::Conv(c) if c.epilogue.residual => Run::Integer,
        Op::Dense(e) if e.residual => Run::Integer,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => Run::IntegerToFloat,
        Op::Pool(p) => match p.kind {
            PoolKind::Average { .. } => Run::IntegerToFloat,
            PoolKind::Max => Run::Integer,
        },
        Op::GlobalPool(GlobalPool::Average) => Run::IntegerToFloat,
        Op::GlobalPool(GlobalPool::Max) => Run::Integer,
        Op::BatchNorm { .. }
        | Op::Unary(_)
        | Op::PRelu
        | Op::Binary(_)
        | Op::Concat { .. }
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Pad { .. }
        | Op::Resize(_)
        | Op::Slice(_)
        | Op::Softmax { .. }
        | Op::Lrn { .. }
        | Op::Identity
        | Op::Dropout
        | Op::Round(_) => Run::Float(Some(if demand.island { BETWEEN } else { OUTPUT }.into())),
    }
}

/// Why an operator cannot run in integers, if so.
pub(super) fn no_integer_form(graph: &Graph, node: &Node) -> Option<&'static str> {
    match &node.op {
        Op::Softmax { .. } => Some("softmax has no integer form"),
        Op::Lrn { .. } => Some("local response normalization has no integer form"),
        Op::PRelu => scalar_slope(graph, node).is_none().then_some("per-channel prelu has no integer form"),
        Op::Resize(r) => match r.interpolation {
            Interpolation::Linear => Some("linear resize has no integer form"),
            Interpolation::Nearest(_) => None,
        },
        Op::Binary(b) => {
            let constants = node.inputs.iter().filter(|&&i| graph.constant(i).is_some()).count();
            let is_affine = Channel::of(graph, node).is_some_and(|c| affine(*b, &c).is_some());
            match b {
                _ if constants == 2 => Some("both operands are constant"),
                Binary::Div if !is_affine => Some("division by a tensor has no integer form"),
                Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => None,
            }
        }
        Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Dense(_)
        | Op::BatchNorm { .. }
        | Op::Unary(_)
        | Op::Concat { .. }
        | Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Pad { .. }
        | Op::Slice(_)
        | Op::Identity
        | Op::Dropout
        | Op::Round(_) => None,
    }
}

/// The slope of a PRelu with one slope for all elements, as the function of one element that it is.
pub(super) fn scalar_slope(graph: &Graph, node: &Node) -> Option<Unary> {
    let slopes = &graph.constant(*node.inputs.get(1)?)?.data;
    let &alpha = slopes.first()?;
    slopes.iter().all(|&s| s == alpha).then_some(Unary::LeakyRelu { alpha })
}
