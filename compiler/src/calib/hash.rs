//! The identity of a graph: what a profile belongs to.
//!
//! SHA-256 over the inputs, nodes and outputs in order, with names, shapes and attributes of everything that is computed (a profile
//! finds its ranges by these names) and the bits of every constant (by content: constants' names and all ids do not matter).

use crate::graph::{Graph, Node, Tensor, Value, ValueId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// SHA-256 of the graph in hex. Equal for graphs that differ only in ids, dead values, the model's name and the names of nodes and constants.
pub fn graph_hash(graph: &Graph) -> String {
    // Hashed once each, however many readers they have.
    let constants: HashMap<ValueId, [u8; 32]> =
        used(graph).filter_map(|id| Some((id, constant(graph.constant(id)?)))).collect();
    let mut hash = Sha256::new();
    text(&mut hash, "qgraph graph 1");
    let operand = |hash: &mut Sha256, id: ValueId| match constants.get(&id) {
        Some(digest) => hash.update(digest),
        None => value(hash, graph.value(id)),
    };
    list(&mut hash, &graph.inputs, |hash, id| value(hash, graph.value(*id)));
    list(&mut hash, &graph.nodes, |hash, Node { name: _, op, inputs, output }| {
        // The derived text names every attribute, and floats by their shortest exact text.
        text(hash, &format!("{op:?}"));
        list(hash, inputs, |hash, id| operand(hash, *id));
        value(hash, graph.value(*output));
    });
    list(&mut hash, &graph.outputs, |hash, id| operand(hash, *id));
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn used(graph: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs).copied()
}

/// Lengths come first, so that no two graphs give the same bytes.
fn list<T>(hash: &mut Sha256, items: &[T], mut each: impl FnMut(&mut Sha256, &T)) {
    hash.update((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| each(hash, item));
}

fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn shape(hash: &mut Sha256, shape: &[usize]) {
    list(hash, shape, |hash, d| hash.update((*d as u64).to_le_bytes()));
}

fn value(hash: &mut Sha256, value: &Value) {
    text(hash, &value.name);
    shape(hash, &value.shape);
}

fn constant(tensor: &Tensor) -> [u8; 32] {
    let mut hash = Sha256::new();
    shape(&mut hash, &tensor.shape);
    let mut bytes = Vec::with_capacity(4 * 4096);
    for part in tensor.data.chunks(4096) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|x| x.to_le_bytes()));
        hash.update(&bytes);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Op, Unary};

    /// x [1,2] → dense, relu; built with or without values that do not count.
    fn graph(weights: [f32; 4], op: Op, dead: bool) -> Graph {
        let mut g = Graph::new(if dead { "other" } else { "g" });
        let vector =
            |name: &str, shape: &[usize]| Value { name: name.into(), shape: shape.to_vec(), data: None };
        let mut add = |name: &str, shape: &[usize], data: Option<&[f32]>| {
            if dead {
                g.values.push(vector(&format!("dead {name}"), &[7]));
            }
            let data = data.map(|d| Tensor::new(shape, d));
            g.values.push(Value { data, ..vector(name, shape) });
            ValueId(g.values.len() as u32 - 1)
        };
        let x = add("x", &[1, 2], None);
        let w = add(if dead { "weight" } else { "w" }, &[2, 2], Some(&weights));
        let b = add("b", &[2], Some(&[0.5, -0.5]));
        let y = add("y", &[1, 2], None);
        let z = add("z", &[1, 2], None);
        g.inputs.push(x);
        g.nodes.push(Node {
            name: "dense".into(),
            op: Op::Dense(Default::default()),
            inputs: vec![x, w, b],
            output: y,
        });
        g.nodes.push(Node { name: "act".into(), op, inputs: vec![y], output: z });
        g.outputs.push(z);
        g
    }

    #[test]
    fn sees_what_counts_and_nothing_else() {
        let relu = || Op::Unary(Unary::Relu);
        let base = graph_hash(&graph([1.0, 2.0, 3.0, 4.0], relu(), false));
        assert_eq!(base, graph_hash(&graph([1.0, 2.0, 3.0, 4.0], relu(), true)));
        assert_ne!(base, graph_hash(&graph([1.0, 2.0, 3.0, 4.5], relu(), false)));
        assert_ne!(base, graph_hash(&graph([1.0, 2.0, 3.0, 4.0], Op::Unary(Unary::Sigmoid), false)));
        let mut renamed = graph([1.0, 2.0, 3.0, 4.0], relu(), false);
        renamed.values[3].name = "y2".into();
        assert_ne!(base, graph_hash(&renamed));
        let mut output = graph([1.0, 2.0, 3.0, 4.0], relu(), false);
        output.outputs.push(ValueId(3));
        assert_ne!(base, graph_hash(&output));
        let mut swapped = graph([1.0, 2.0, 3.0, 4.0], relu(), false);
        swapped.nodes[0].inputs.swap(1, 2);
        assert_ne!(base, graph_hash(&swapped));
    }

    /// A profile saved by one build is found by the next.
    #[test]
    fn is_stable() {
        let g = graph([1.0, 2.0, 3.0, 4.0], Op::Unary(Unary::Relu), false);
        assert_eq!(graph_hash(&g), "14031b51b1f8fb1f24ea77796c6a3498ef31c4dd5911604eb0ddef0531e45144");
    }
}
