//! Diagrams of the compiler's graphs.

use super::{Diagram, Kind, Node, tail};
use crate::graph::{Graph, ValueId};
use crate::qgraph::{QGraph, QOp, QType};

/// Longer names would widen their boxes.
const LONGEST_NAME: usize = 28;

impl From<&Graph> for Diagram {
    /// Inputs, nodes, outputs of a float graph. Constants stand in the details of who reads them.
    fn from(graph: &Graph) -> Diagram {
        let mut d = Diagram { title: graph.name.clone(), nodes: Vec::new() };
        let mut at = vec![None; graph.values.len()];
        for &id in &graph.inputs {
            at[id.0 as usize] = Some(d.interface("input", &graph.value(id).name, graph.shape(id), vec![]));
        }
        for node in &graph.nodes {
            let value = graph.value(node.output);
            let mut lines = vec![node.op.to_string()];
            if let Some(epilogue) = node.op.epilogue() {
                let residual = epilogue.residual.then(|| "+ residual".to_string());
                let activation = epilogue.activation.map(|a| format!("+ {a}"));
                let all: Vec<String> = residual.into_iter().chain(activation).collect();
                lines.extend((!all.is_empty()).then(|| all.join(" ")));
            }
            lines.extend([shape(&value.shape), tail(&node.name, LONGEST_NAME)]);
            let operand = |&id: &ValueId| {
                let v = graph.value(id);
                let what = if v.data.is_some() { "constant" } else { "reads" };
                format!("{what} {} {}", v.name, shape(&v.shape))
            };
            let details =
                std::iter::once(format!("node {}", node.name)).chain(node.inputs.iter().map(operand));
            let from = node.inputs.iter().filter_map(|i| at[i.0 as usize]).collect();
            at[node.output.0 as usize] =
                Some(d.add(&value.name, lines, details.collect(), Kind::Float, from));
        }
        for &id in &graph.outputs {
            let from = at[id.0 as usize].into_iter().collect();
            d.interface("output", &graph.value(id).name, graph.shape(id), from);
        }
        d
    }
}

impl From<&QGraph> for Diagram {
    /// Inputs, nodes, outputs of an integer (or all-float) graph.
    fn from(graph: &QGraph) -> Diagram {
        let mut d = Diagram { title: graph.name.clone(), nodes: Vec::new() };
        let mut at = vec![None; graph.values.len()];
        for &id in &graph.inputs {
            let v = graph.value(id);
            at[id.0 as usize] = Some(d.interface("input", &v.name, &v.shape, vec![]));
        }
        for node in &graph.nodes {
            let value = graph.value(node.output);
            let is_u8 = |ty: QType| ty != QType::F32;
            let reads_u8 = node.inputs.iter().any(|&i| is_u8(graph.value(i).ty));
            let kind = match node.op {
                QOp::Quantize | QOp::Dequantize => Kind::Conversion,
                _ if reads_u8 || is_u8(value.ty) => Kind::Int8,
                _ => Kind::Float,
            };
            let ty = if is_u8(value.ty) { "u8" } else { "f32" };
            let lines = vec![
                node.op.label(),
                format!("{} {ty}", shape(&value.shape)),
                tail(&node.name, LONGEST_NAME),
            ];
            let mut details = vec![format!("node {}", node.name), format!("gives {}", value.ty)];
            details.extend(node.inputs.iter().map(|&i| {
                let v = graph.value(i);
                format!("reads {} {} {}", v.name, shape(&v.shape), v.ty)
            }));
            details.extend(node.float_reason.as_ref().map(|r| format!("in float: {r}")));
            let from = node.inputs.iter().filter_map(|i| at[i.0 as usize]).collect();
            at[node.output.0 as usize] = Some(d.add(&value.name, lines, details, kind, from));
        }
        for &id in &graph.outputs {
            let (v, from) = (graph.value(id), at[id.0 as usize].into_iter().collect());
            d.interface("output", &v.name, &v.shape, from);
        }
        d
    }
}

impl Diagram {
    fn add(
        &mut self,
        name: &str,
        lines: Vec<String>,
        details: Vec<String>,
        kind: Kind,
        from: Vec<usize>,
    ) -> usize {
        self.nodes.push(Node { name: name.into(), lines, details, kind, sqnr_db: None, from });
        self.nodes.len() - 1
    }

    fn interface(&mut self, what: &str, name: &str, extents: &[usize], from: Vec<usize>) -> usize {
        self.add(name, vec![format!("{what} {name}"), shape(extents)], vec![], Kind::Interface, from)
    }
}

/// `1×64×56×56`
fn shape(extents: &[usize]) -> String {
    match extents {
        [] => "scalar".into(),
        _ => extents.iter().map(usize::to_string).collect::<Vec<_>>().join("×"),
    }
}
