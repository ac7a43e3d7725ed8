//! Quantization of a model that is quantized already: nothing is measured, nothing chosen. Fused graph with roundings in; decisions,
//! grids and a graph without the roundings that its nodes make by themselves out.
//!
//! Holds: a node runs in integers only if all that it reads lies on grids, its weights are integers of the model, and the model rounds its
//! result (or it moves elements, or gives float as well). Whatever else the model has runs in float and says why. A rounding stays as a node
//! where no node makes it: between two grids, and of values that are computed in float.

use super::decide::{Clamp, Decisions, Run, merge_clamps, no_integer_form};
use super::ranges::{Grid, Scales, operands};
use super::weights::given;
use crate::graph::{GlobalPool, Graph, Node, Op, PoolKind, Tensor, ValueId};
use std::collections::{HashMap, HashSet};

const NOT_ROUNDED: &str = "the model does not round its result to integers";

/// What quantization goes on with.
pub(super) struct Given {
    pub(super) graph: Graph,
    pub(super) decisions: Decisions,
    pub(super) scales: Scales,
}

/// See the module. `excluded` has a reason for each node that the user keeps in float.
pub(super) fn read(graph: &Graph, excluded: &[Option<String>]) -> Given {
    let mut reading = Reading::new(graph, excluded);
    for (k, excluded) in excluded.iter().enumerate() {
        reading.node(k, excluded.as_deref());
    }
    reading.finish()
}

struct Reading<'a> {
    graph: &'a Graph,
    clamps: Vec<Option<Clamp>>,
    /// Nodes that read a value, by value.
    readers: Vec<Vec<usize>>,
    grids: Vec<Option<Grid>>,
    runs: Vec<Run>,
    rescaled: HashSet<(usize, usize)>,
    /// Roundings that go, from the value that they give to the one that they take.
    made: HashMap<ValueId, ValueId>,
    /// New names of values: outputs of the network that a rounding gave.
    renamed: HashMap<ValueId, ValueId>,
}

impl<'a> Reading<'a> {
    fn new(graph: &'a Graph, excluded: &[Option<String>]) -> Self {
        let mut readers = vec![vec![]; graph.values.len()];
        for (k, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|v| readers[v.0 as usize].push(k));
        }
        let mut reading = Reading {
            graph,
            clamps: merge_clamps(graph, excluded),
            readers,
            grids: vec![None; graph.values.len()],
            runs: vec![Run::Skip; graph.nodes.len()],
            rescaled: HashSet::new(),
            made: HashMap::new(),
            renamed: HashMap::new(),
        };
        for v in (0..graph.values.len() as u32).map(ValueId) {
            reading.grids[v.0 as usize] = match graph.constant(v) {
                Some(tensor) => constant_grid(tensor),
                None if graph.inputs.contains(&v) => reading.wanted(v),
                None => None,
            };
        }
        reading
    }

    fn grid(&self, v: ValueId) -> Option<Grid> {
        self.grids[v.0 as usize]
    }

    /// The grid to which every reader of a value rounds it, at once or after it was moved, if nobody sees it otherwise.
    fn wanted(&self, v: ValueId) -> Option<Grid> {
        let mut found = None;
        let mut next = vec![v];
        while let Some(v) = next.pop() {
            let readers = &self.readers[v.0 as usize];
            if readers.is_empty() || self.graph.is_output(v) {
                return None;
            }
            for node in readers.iter().map(|&k| &self.graph.nodes[k]) {
                match node.op {
                    Op::Round(grid) if found.is_none_or(|f| f == grid) => found = Some(grid),
                    Op::Reshape(_) | Op::Transpose(_) => next.push(node.output),
                    _ => return None,
                }
            }
        }
        found
    }

    fn node(&mut self, k: usize, excluded: Option<&str>) {
        let node = &self.graph.nodes[k];
        if let Op::Round(grid) = node.op {
            return self.round(k, node, grid);
        }
        if self.clamps.iter().flatten().any(|c| c.output == node.output) {
            return; // Its producer does it.
        }
        let out = self.clamps[k].map_or(node.output, |c| c.output);
        (self.runs[k], self.grids[out.0 as usize]) = match excluded {
            Some(reason) => (Run::Float(Some(reason.to_owned())), None),
            None => self.place(k, node, out).unwrap_or_else(|reason| (Run::Float(Some(reason)), None)),
        };
    }

    /// A rounding goes if what it takes lies on its grid.
    fn round(&mut self, k: usize, node: &Node, grid: Grid) {
        let (y, mut x) = (node.output, node.inputs[0]);
        while let Some(&from) = self.made.get(&x) {
            x = from;
        }
        self.runs[k] = Run::Integer;
        self.grids[y.0 as usize] = Some(grid);
        let visible = self.graph.is_output(y);
        let fixed =
            self.graph.inputs.contains(&x) || self.graph.is_output(x) || self.renamed.contains_key(&x);
        if self.grid(x) != Some(grid) || visible && (fixed || self.graph.constant(x).is_some()) {
            return;
        }
        self.made.insert(y, x);
        self.runs[k] = Run::Skip;
        if visible {
            self.renamed.insert(x, y);
        }
    }

    /// How a node runs, and the grid of its result. The error is why it runs in float.
    fn place(&mut self, k: usize, node: &Node, out: ValueId) -> Result<(Run, Option<Grid>), String> {
        if let Some(reason) = no_integer_form(self.graph, node) {
            return Err(reason.into());
        }
        let operands = operands(self.graph, node);
        if let Some(v) = operands.iter().find(|&&v| self.grid(v).is_none()) {
            return Err(format!("the model gives it '{}' in float", self.graph.value(*v).name));
        }
        let wanted = self.wanted(out);
        if node.op.copies() {
            let grid = self.grid(node.inputs[0]);
            return match (&node.op, grid) {
                (Op::Pad { value, .. }, Some(grid)) if grid.round(*value) != *value => {
                    Err(format!("it pads with {value}, which is between integers"))
                }
                _ => Ok((Run::Integer, grid)),
            };
        }
        if let Op::Concat { .. } = node.op {
            let first = self.grid(operands[0]);
            let same = operands.iter().all(|&v| self.grid(v) == first);
            let grid = wanted.or(first.filter(|_| same)).ok_or(NOT_ROUNDED)?;
            for (position, &v) in operands.iter().enumerate() {
                if self.grid(v) != Some(grid) {
                    self.rescaled.insert((k, position));
                }
            }
            return Ok((Run::Integer, Some(grid)));
        }
        if node.op.epilogue().is_some() {
            given(self.graph, node)?;
        }
        // A function that is no clamp is applied to a sum that the model does not round: in float.
        let function = node.op.epilogue().and_then(|e| e.activation).filter(|f| f.as_clamp().is_none());
        match wanted.filter(|_| function.is_none()) {
            Some(grid) => Ok((Run::Integer, Some(grid))),
            None if gives_float(&node.op) => Ok((Run::IntegerToFloat, None)),
            None => Err(NOT_ROUNDED.into()),
        }
    }

    fn finish(self) -> Given {
        let Reading { graph, clamps, mut grids, runs, rescaled, made, renamed, .. } = self;
        let renamed = |v: ValueId| renamed.get(&v).copied().unwrap_or(v);
        let resolve = |mut v: ValueId| {
            while let Some(&from) = made.get(&v) {
                v = from;
            }
            renamed(v)
        };
        for v in (0..graph.values.len() as u32).map(ValueId) {
            grids[renamed(v).0 as usize] = grids[renamed(v).0 as usize].or(grids[v.0 as usize]);
        }
        let mut new = graph.clone();
        new.nodes.clear();
        let (mut new_clamps, mut new_runs, mut new_rescaled) = (vec![], vec![], HashSet::new());
        for (k, node) in graph.nodes.iter().enumerate() {
            if made.contains_key(&node.output) {
                continue;
            }
            let to = new.nodes.len();
            new_rescaled
                .extend(rescaled.iter().filter(|(n, _)| *n == k).map(|&(_, position)| (to, position)));
            new_clamps.push(clamps[k].map(|c| Clamp { output: renamed(c.output), ..c }));
            new_runs.push(runs[k].clone());
            let inputs = node.inputs.iter().map(|&v| resolve(v)).collect();
            new.nodes.push(Node { inputs, output: renamed(node.output), ..node.clone() });
        }
        let decisions = Decisions::given(&new, new_clamps, &new_runs);
        Given { graph: new, decisions, scales: Scales::given(grids, new_rescaled) }
    }
}

/// True if a node without a rounding behind it may give float from integers.
fn gives_float(op: &Op) -> bool {
    match op {
        Op::Pool(p) => matches!(p.kind, PoolKind::Average { .. }),
        Op::GlobalPool(p) => *p == GlobalPool::Average,
        other => other.epilogue().is_some_and(|e| !e.residual),
    }
}

/// A grid on which a constant lies, if it is given as integers of one step that 8 bits hold.
fn constant_grid(tensor: &Tensor) -> Option<Grid> {
    let integers = tensor.integers.as_ref()?;
    let scale = integers.uniform_step()?;
    let (least, most) = (integers.q.iter().min()?, integers.q.iter().max()?);
    let zero = u8::try_from((-i64::from(*least)).max(0)).ok()?;
    (i64::from(*most) + i64::from(zero) <= 255).then_some(Grid { scale, zero })
}
