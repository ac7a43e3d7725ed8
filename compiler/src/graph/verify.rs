//! The rules of the float graph, as prose and as checks.
//!
//! 1. Every id names a value. Value names are unique and not empty; so are node names.
//! 2. Nodes stand in topological order: a node reads inputs, constants, and outputs of earlier nodes only.
//! 3. A value has exactly one origin: it is a graph input, a constant, or the output of one node. Dead values (which have
//!    none of these) may exist as long as nobody reads them.
//! 4. The content of a constant has the constant's shape, fills it, and is finite.
//! 5. Shapes have positive extents and at most [`MAX_ELEMENTS`](super::shape::MAX_ELEMENTS) elements, and a node's output has
//!    the shape that [`infer`] gives.
//! 6. The graph has outputs, each computed by a node, an input, or a constant.
//! 7. Weights, biases, parameters of a batch normalization and slopes are constants.
//! 8. Attributes are numbers: no NaN, no infinity except the bounds of a clip, whose order is lo ≤ hi. Scales of grids are normal and positive.
//! 9. As many integers stand behind a constant as it has elements.
//!
//! In: any graph. Out: every violation, each with the node or value it is about. Not here: whether later stages support what
//! the graph says.

use super::{Graph, Node, Op, Unary, ValueId, shape::infer};
use crate::error::Problem;
use std::collections::HashSet;

/// All violations; empty for a valid graph. Passes call it in debug builds and tests.
pub fn verify(graph: &Graph) -> Vec<Problem> {
    let mut problems = Problems(vec![]);
    check_ids(graph, &mut problems);
    if !problems.0.is_empty() {
        return problems.0; // The other rules look values up.
    }
    check_values(graph, &mut problems);
    check_order(graph, &mut problems);
    for node in &graph.nodes {
        check_node(graph, node, &mut problems);
    }
    problems.0
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, subject: &str, message: impl Into<String>) {
        self.0.push(Problem { subject: subject.to_owned(), message: message.into() });
    }
}

fn check_ids(graph: &Graph, problems: &mut Problems) {
    let valid = |id: &ValueId| (id.0 as usize) < graph.values.len();
    for node in &graph.nodes {
        for id in node.inputs.iter().chain([&node.output]).filter(|id| !valid(id)) {
            problems.add(&node.name, format!("value {} does not exist", id.0));
        }
    }
    for id in graph.inputs.iter().chain(&graph.outputs).filter(|id| !valid(id)) {
        problems.add("", format!("value {} does not exist", id.0));
    }
}

fn check_values(graph: &Graph, problems: &mut Problems) {
    let mut names = HashSet::new();
    for value in &graph.values {
        if value.name.is_empty() || !names.insert(&value.name[..]) {
            problems.add(&value.name, "the name of a value is empty or taken");
        }
        // Identity accepts what any operator accepts: positive extents, not too many elements.
        if let Err(e) = infer(&Op::Identity, &[&value.shape]) {
            problems.add(&value.name, e);
        }
        let Some(data) = &value.data else { continue };
        if data.shape != value.shape {
            problems.add(
                &value.name,
                format!("content of shape {:?} in a value of {:?}", data.shape, value.shape),
            );
        }
        if data.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(data.data.len()) {
            problems.add(&value.name, format!("{} elements do not fill {:?}", data.data.len(), data.shape));
        }
        if data.integers.as_ref().is_some_and(|i| i.q.len() != data.data.len()) {
            problems.add(&value.name, "has another number of integers than of elements");
        }
        if let Some(x) = data.data.iter().find(|x| !x.is_finite()) {
            problems.add(&value.name, format!("a constant holds {x}"));
        }
    }
    let mut names = HashSet::new();
    for node in &graph.nodes {
        if node.name.is_empty() || !names.insert(&node.name[..]) {
            problems.add(&node.name, "the name of a node is empty or taken");
        }
    }
}

fn check_order(graph: &Graph, problems: &mut Problems) {
    let mut known: Vec<bool> = graph.values.iter().map(|v| v.data.is_some()).collect();
    let mut define = |id: ValueId, problems: &mut Problems| {
        if std::mem::replace(&mut known[id.0 as usize], true) {
            let name = &graph.value(id).name;
            problems.add(name, "has two origins: it must be an input, a constant or the output of one node");
        }
    };
    for &id in &graph.inputs {
        define(id, problems);
    }
    for &id in graph.nodes.iter().map(|n| &n.output) {
        define(id, problems);
    }
    // Now in order, for what is read before it is computed.
    let mut known: Vec<bool> = graph.values.iter().map(|v| v.data.is_some()).collect();
    graph.inputs.iter().for_each(|id| known[id.0 as usize] = true);
    for node in &graph.nodes {
        for &id in node.inputs.iter().filter(|id| !known[id.0 as usize]) {
            problems.add(&node.name, format!("reads {} before anything computes it", graph.value(id).name));
        }
        known[node.output.0 as usize] = true;
    }
    if graph.outputs.is_empty() {
        problems.add("", "the graph has no output");
    }
    for &id in graph.outputs.iter().filter(|id| !known[id.0 as usize]) {
        problems.add(&graph.value(id).name, "is an output that nothing computes");
    }
}

fn check_node(graph: &Graph, node: &Node, problems: &mut Problems) {
    let shapes: Vec<&[usize]> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
    match infer(&node.op, &shapes) {
        Ok(shape) if shape == graph.shape(node.output) => {}
        Ok(shape) => {
            let stored = graph.shape(node.output);
            problems.add(&node.name, format!("the output is stored as {stored:?} but is {shape:?}"));
        }
        Err(e) => problems.add(&node.name, e),
    }
    for k in constant_operands(&node.op) {
        if let Some(&id) = node.inputs.get(k).filter(|&&id| graph.constant(id).is_none()) {
            problems.add(&node.name, format!("input {k} ({}) must be a constant", graph.value(id).name));
        }
    }
    if !attributes_are_numbers(&node.op) {
        problems.add(&node.name, format!("an attribute is not a number that means something: {}", node.op));
    }
    if let Some(Some(activation)) = node.op.epilogue().map(|e| e.activation)
        && !unary_is_sound(activation)
    {
        problems.add(&node.name, format!("an attribute of the activation makes no sense: {activation}"));
    }
}

/// Positions of the operands that [`Op`] says are constants.
pub fn constant_operands(op: &Op) -> std::ops::Range<usize> {
    match op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => 1..3,
        Op::BatchNorm { .. } => 1..5,
        Op::PRelu => 1..2,
        Op::Unary(_)
        | Op::Binary(_)
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
        | Op::Round(_) => 0..0,
    }
}

fn attributes_are_numbers(op: &Op) -> bool {
    match op {
        Op::BatchNorm { epsilon } => epsilon.is_finite(),
        Op::Unary(unary) => unary_is_sound(*unary),
        Op::Pad { value, .. } => value.is_finite(),
        Op::Round(grid) => grid.scale.is_normal() && grid.scale > 0.0,
        Op::Lrn { size: _, alpha, beta, bias } => [alpha, beta, bias].iter().all(|x| x.is_finite()),
        // The scales of a resize are checked with its shape.
        Op::Resize(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Dense(_)
        | Op::PRelu
        | Op::Binary(_)
        | Op::Concat { .. }
        | Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Softmax { .. }
        | Op::Identity
        | Op::Dropout => true,
    }
}

fn unary_is_sound(unary: Unary) -> bool {
    match unary {
        Unary::Clip { lo, hi } => lo <= hi,
        Unary::LeakyRelu { alpha } | Unary::Elu { alpha } => alpha.is_finite(),
        Unary::HardSigmoid { alpha, beta } => alpha.is_finite() && beta.is_finite(),
        Unary::Relu
        | Unary::Sigmoid
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
        | Unary::Erf => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Epilogue, Tensor};

    /// x → dense → relu.
    fn graph() -> Graph {
        let mut g = Graph::new("g");
        let x = g.add_input("x", [1, 2]);
        let w = g.add_constant("w", Tensor::new([3, 2], vec![1.0; 6]));
        let b = g.add_constant("b", Tensor::new([3], vec![0.0; 3]));
        let y = g.add_node("dense", Op::Dense(Epilogue::default()), [x, w, b]).unwrap();
        let z = g.add_node("relu", Op::Unary(Unary::Relu), [y]).unwrap();
        g.outputs = vec![z];
        g
    }

    /// The graph after a change breaks at least one rule, and the message says which.
    fn breaks(change: impl Fn(&mut Graph), word: &str) {
        let mut g = graph();
        change(&mut g);
        let problems = verify(&g);
        assert!(problems.iter().any(|p| p.message.contains(word)), "nothing says {word:?}: {problems:?}");
    }

    #[test]
    fn every_rule_rejects() {
        assert_eq!(verify(&graph()), vec![]);
        breaks(|g| g.nodes[0].inputs[0] = ValueId(99), "does not exist");
        breaks(|g| g.outputs[0] = ValueId(99), "does not exist");
        breaks(|g| g.values[1].name = "x".into(), "taken");
        breaks(|g| g.nodes[1].name = "dense".into(), "taken");
        breaks(|g| g.nodes.swap(0, 1), "before anything");
        breaks(|g| g.nodes[1].output = g.nodes[0].output, "two origins");
        breaks(|g| g.inputs.push(g.inputs[0]), "two origins");
        breaks(|g| g.inputs.push(ValueId(1)), "two origins");
        breaks(|g| g.values[1].data = Some(Tensor::new([6], vec![1.0; 6])), "content of shape");
        breaks(|g| g.values[1].data.as_mut().unwrap().data = vec![1.0; 5].into(), "fill");
        breaks(|g| g.values[1].data.as_mut().unwrap().data = vec![f32::NAN; 6].into(), "NaN");
        breaks(|g| g.values[4].shape = vec![1, 4], "stored");
        breaks(|g| g.values[0].shape = vec![1, 4], "does not fit");
        breaks(|g| g.values[0].shape = vec![0, 2], "empty");
        breaks(|g| g.outputs.clear(), "no output");
        breaks(|g| g.nodes.truncate(1), "nothing computes");
        breaks(
            |g| {
                g.values[2].data = None;
                g.inputs.push(ValueId(2));
            },
            "must be a constant",
        );
        breaks(|g| g.nodes[1].op = Op::Unary(Unary::Clip { lo: 1.0, hi: 0.0 }), "attribute");
        let elu = Some(Unary::Elu { alpha: f32::INFINITY });
        breaks(|g| g.nodes[0].op = Op::Dense(Epilogue { residual: false, activation: elu }), "activation");
    }

    #[test]
    fn dead_values_are_allowed() {
        let mut g = graph();
        g.add_value("dead", [3]);
        assert_eq!(verify(&g), vec![]);
    }
}
