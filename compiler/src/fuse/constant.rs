//! Computes nodes whose operands are all constant, by the definition of what a graph computes.

use super::event::{Event, left, made};
use super::rewrite::shown;
use crate::graph::{Graph, Node, Tensor, eval::eval};

pub(super) const PASS: &str = "constant";

/// Folding may not make a model file much larger: a constant that a small one expands to stays computed.
const MAX_GROWTH: usize = 1 << 20;

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    let mut kept = Vec::new();
    let before = graph.nodes.len();
    for node in std::mem::take(&mut graph.nodes) {
        if !node.inputs.iter().all(|&i| graph.constant(i).is_some()) {
            kept.push(node);
            continue;
        }
        match compute(graph, &node) {
            Ok(tensor) => {
                graph.value_mut(node.output).data = Some(tensor);
                made(events, PASS, &node.name, format!("computed {} now", shown(graph, node.output)));
            }
            Err(reason) => {
                left(events, PASS, &node.name, reason);
                kept.push(node);
            }
        }
    }
    graph.nodes = kept;
    graph.nodes.len() < before
}

fn compute(graph: &Graph, node: &Node) -> Result<Tensor, String> {
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    let given: usize = node.inputs.iter().map(|&i| elements(graph.shape(i))).sum();
    let result = elements(graph.shape(node.output));
    if result > given.saturating_add(MAX_GROWTH) {
        return Err(format!("would turn {given} constant elements into {result}"));
    }
    let mut alone = Graph::new(PASS);
    let constant = |&i| graph.constant(i).cloned().map(|t| alone.add_constant("c", t));
    let inputs: Vec<_> = node.inputs.iter().filter_map(constant).collect();
    let output = alone.add_node("n", node.op.clone(), inputs)?;
    alone.outputs = vec![output];
    let mut tensors = eval(&alone, &[], &mut |_, _| {}).map_err(|e| e.to_string())?;
    let tensor = tensors.pop().ok_or("gives nothing")?;
    if tensor.data.iter().any(|x| !x.is_finite()) {
        return Err("the result holds NaN or infinity".into());
    }
    Ok(tensor)
}
