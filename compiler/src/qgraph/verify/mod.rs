//! The rules of the integer graph, as prose and as checks: a graph goes in, every violation comes out.
//!
//! Whatever a hostile file could get wrong is refused here, so that everything behind it (evaluator, lowering, kernels) may
//! index, multiply and convert without looking. For a graph without problems all of this holds:
//!
//! **Form.** At most [`MAX_ITEMS`] nodes, values and blobs each; ids are in range. Names of nodes are unique, and so are those of values
//! and blobs. Every value is a network input or the output of exactly one node, which stands before all its readers. There is
//! at least one output; outputs are distinct and come from nodes. Inputs and outputs are f32.
//!
//! **Sizes.** Every extent is 1 to 2^24, a value or blob has at most 2^31 elements and 8 axes; kernels, strides, dilations and pads
//! are at most 65536 and only pads may be 0. Shapes are what [`infer`](super::shape::infer) says. No pooling window lies wholly outside its input.
//!
//! **Data.** Blobs lie in the order of their ids, each at the next multiple of 64 bytes, and fill the data. f32 blobs are
//! finite. Weights have exactly the extents of [`WeightShape::dims`](super::layout::WeightShape::dims); i8 weights are −127..=127; what the layout adds to fill its blocks is zero.
//!
//! **Numbers.** Scales of values are normal and positive. Multipliers lie in
//! [`MULTIPLIER_RANGE`](qgraph_runtime::requant::MULTIPLIER_RANGE); offsets are below 2^24. Clamps are not empty. For every
//! output channel 255·Σ|w| + |b| < 2^31; sums of average pooling stay below 2^31.
//!
//! **Types.** Each operation takes and gives the types its documentation says; moves, maxima and concatenations keep type and scale.

mod numbers;
mod ops;

use super::shape::{Checked, elements};
use super::{QGraph, QNode, QType};
use crate::blob::ALIGN;
use crate::error::Problem;
use crate::preprocess::Preprocess;
use std::collections::HashSet;

/// Most nodes, values and blobs.
pub const MAX_ITEMS: usize = 1_000_000;

/// Prefix of names that the file format keeps for itself; blobs must not use it.
pub const RESERVED: &str = "__";

/// All violations; empty for a valid graph.
pub fn verify(graph: &QGraph) -> Vec<Problem> {
    let mut problems = Vec::new();
    form(graph, &mut problems);
    data(graph, &mut problems);
    if problems.is_empty() {
        // Only now may ids be followed and blobs be read.
        for node in &graph.nodes {
            if let Err(message) = ops::check(graph, node) {
                problems.push(Problem { subject: node.name.clone(), message });
            }
        }
    }
    problems
}

fn form(graph: &QGraph, problems: &mut Vec<Problem>) {
    let mut say =
        |subject: &str, message: String| problems.push(Problem { subject: subject.into(), message });
    let counts = [graph.nodes.len(), graph.values.len(), graph.blobs.len()];
    if counts.iter().any(|&n| n > MAX_ITEMS) {
        return say("", format!("more than {MAX_ITEMS} nodes, values or blobs"));
    }
    unique("node", graph.nodes.iter().map(|n| &n.name), &mut say);
    unique("value", graph.values.iter().map(|v| &v.name), &mut say);
    unique("blob", graph.blobs.iter().map(|b| &b.name), &mut say);
    for v in &graph.values {
        if let Err(e) = elements(&v.shape) {
            say(&v.name, e);
        }
        if let QType::U8 { scale, .. } = v.ty
            && !(scale.is_normal() && scale > 0.0 && (1.0 / scale).is_normal())
        {
            say(&v.name, format!("scale {scale} is not a normal positive number"));
        }
        if !v.factors.is_empty() {
            if v.shape.get(1) != Some(&v.factors.len()) {
                say(&v.name, format!("{} factors for the channels of {:?}", v.factors.len(), v.shape));
            }
            if let Some(f) = v.factors.iter().find(|f| !(f.is_normal() && **f > 0.0)) {
                say(&v.name, format!("a factor is {f}, not a normal positive number"));
            }
        }
    }
    if let Some(p) = &graph.preprocess
        && let Err(e) = preprocess(p)
    {
        say("preprocessing", e);
    }

    let mut made = vec![false; graph.values.len()];
    for &id in &graph.inputs {
        match made.get_mut(id.0 as usize) {
            None => say("", format!("input refers to value {}, which does not exist", id.0)),
            Some(true) => say(&graph.value(id).name, "is an input twice".into()),
            Some(m) => *m = true,
        }
    }
    for node in &graph.nodes {
        for id in &node.inputs {
            match made.get(id.0 as usize) {
                None => say(&node.name, format!("refers to value {}, which does not exist", id.0)),
                Some(false) => {
                    say(&node.name, format!("reads '{}' before it is made", graph.value(*id).name))
                }
                Some(true) => {}
            }
        }
        match made.get_mut(node.output.0 as usize) {
            None => say(&node.name, format!("refers to value {}, which does not exist", node.output.0)),
            Some(true) => {
                say(&node.name, format!("makes '{}', which is made already", graph.value(node.output).name))
            }
            Some(m) => *m = true,
        }
        if let Some(id) = node.op.blobs().into_iter().flatten().find(|id| id.0 as usize >= graph.blobs.len())
        {
            say(&node.name, format!("refers to blob {}, which does not exist", id.0));
        }
    }
    for (v, _) in graph.values.iter().zip(&made).filter(|(_, made)| !**made) {
        say(&v.name, "is neither an input nor made by a node".into());
    }

    if graph.outputs.is_empty() {
        say("", "there are no outputs".into());
    }
    let inputs: HashSet<_> = graph.inputs.iter().collect();
    let mut seen = HashSet::new();
    for id in &graph.outputs {
        let Some(v) = graph.values.get(id.0 as usize) else {
            say("", format!("output refers to value {}, which does not exist", id.0));
            continue;
        };
        if !seen.insert(id) {
            say(&v.name, "is an output twice; copy it with a Reshape".into());
        }
        if inputs.contains(id) {
            say(&v.name, "is both input and output; copy it with a Reshape".into());
        }
    }
    for id in graph.inputs.iter().chain(&graph.outputs) {
        if let Some(v) = graph.values.get(id.0 as usize)
            && v.ty != QType::F32
        {
            say(&v.name, "is an input or output of the network and must be f32".into());
        }
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>, say: &mut impl FnMut(&str, String)) {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            say(name, format!("another {what} has the same name"));
        }
    }
}

fn data(graph: &QGraph, problems: &mut Vec<Problem>) {
    let mut say =
        |subject: &str, message: String| problems.push(Problem { subject: subject.into(), message });
    let mut end = 0usize;
    for blob in &graph.blobs {
        if blob.name.starts_with(RESERVED) || blob.name.is_empty() {
            say(&blob.name, format!("names of blobs are not empty and do not begin with '{RESERVED}'"));
        }
        if let Err(e) = elements(&blob.shape) {
            return say(&blob.name, e);
        }
        if blob.offset != end {
            return say(&blob.name, format!("lies at byte {}, not at {end}", blob.offset));
        }
        // No overflow: at most MAX_ITEMS blobs of 2^33 bytes.
        end = (end + blob.bytes()).next_multiple_of(ALIGN);
    }
    if end != graph.data.len() {
        return say("", format!("the blobs need {end} bytes of data, but there are {}", graph.data.len()));
    }
    for (i, blob) in graph.blobs.iter().enumerate() {
        let bytes = graph.blob_bytes(super::BlobId(i as u32));
        if blob.ty == super::BlobType::F32 && !numbers::finite(bytes) {
            say(&blob.name, "holds a number that is not finite".into());
        }
    }
}

fn preprocess(p: &Preprocess) -> Checked<()> {
    let numbers = p.mean.iter().chain(&p.std).chain([&p.scale]);
    if p.mean.is_empty()
        || p.std.is_empty()
        || numbers.clone().any(|x| !x.is_finite())
        || p.std.contains(&0.0)
    {
        return Err("mean, std and scale must be finite numbers, std not 0".into());
    }
    if [p.resize, p.crop].into_iter().flatten().any(|n| n == 0 || n > 1 << 16) {
        return Err("resize and crop must be 1 to 65536".into());
    }
    Ok(())
}

/// What the type of a value is called in messages.
fn kind(ty: QType) -> &'static str {
    match ty {
        QType::F32 => "f32",
        QType::U8 { .. } => "u8",
    }
}

/// The types of a node's operands and result.
fn types(graph: &QGraph, node: &QNode) -> (Vec<QType>, QType) {
    (node.inputs.iter().map(|&i| graph.value(i).ty).collect(), graph.value(node.output).ty)
}
