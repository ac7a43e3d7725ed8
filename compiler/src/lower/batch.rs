//! Where a batch stops being one image after the other.
//!
//! Most layers run image by image: what an image's activations touch stays in the caches. Layers with few output pixels, fully connected ones
//! above all, cost what it takes to read their weights; at the end of a network they run for all images of the batch at once, so that the
//! weights are read once. Values that go from the first kind to the second lie in [`Space::Carried`](crate::plan::Space::Carried).

use crate::qgraph::{QGraph, QNode, QOp};

/// A convolution of fewer output pixels cannot hide the time in which its weights come from memory: 64 bytes of weights feed one vector of
/// multiplications per pixel, a cycle or half of one, and memory delivers them in some 12 cycles.
const FEW_PIXELS: usize = 64;

/// The first node that runs for all images at once; the number of nodes if none does. `view` tells whether a reshape moves nothing.
pub(super) fn tail(graph: &QGraph, batch: usize, view: impl Fn(&QNode) -> bool) -> usize {
    let none = graph.nodes.len();
    if batch == 1 {
        return none;
    }
    let shape = |id| &graph.value(id).shape;
    let one_image = |n: &QNode| {
        let image = |id: &_| shape(*id).first() == Some(&1);
        n.inputs.iter().all(image) && image(&n.output) && !n.inputs.iter().any(|i| graph.inputs.contains(i))
    };
    let pixels = |n: &QNode| shape(n.output).get(2..).map_or(1, |s| s.iter().product::<usize>());
    let fits = |n: &QNode| match &n.op {
        QOp::Conv(_) => pixels(n) < FEW_PIXELS,
        QOp::Reshape => view(n),
        QOp::AvgPool { .. } | QOp::Dequantize => true,
        QOp::Quantize | QOp::Affine { .. } | QOp::Add { .. } | QOp::Mul { .. } | QOp::Binary { .. } => false,
        QOp::Table(_) | QOp::Unary(_) | QOp::PRelu(_) | QOp::MaxPool(_) | QOp::Concat { .. } => false,
        QOp::Slice(_) | QOp::Pad { .. } | QOp::Transpose(_) | QOp::DepthToSpace { .. } => false,
        QOp::ResizeNearest { .. } | QOp::ResizeLinear { .. } | QOp::Softmax { .. } => false,
        QOp::Lrn { .. } | QOp::Peak | QOp::Constant(_) => false,
    };
    let suffix = graph.nodes.iter().rev().take_while(|n| one_image(n) && fits(n)).count();
    // Only a convolution gains; what comes before the first one stays with its image.
    let first = none - suffix;
    graph.nodes[first..].iter().position(|n| matches!(n.op, QOp::Conv(_))).map_or(none, |k| first + k)
}
