//! Turns a flatten followed by a dense layer into a convolution whose kernel is the whole image, and a reshape of its `[N,M,1,1]`
//! result: in a blocked or channels-last layout the flatten would move every element, the reshape of one pixel moves none.

use super::event::{Event, left, made};
use super::rewrite::{set_constant, shown, sweep};
use crate::graph::{Conv, Graph, Node, Op, ValueId};

pub(super) const PASS: &str = "flatten";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Op::Dense(_) = graph.nodes[k].op else { return false };
        let x = graph.nodes[k].inputs[0];
        let Some(flatten) = graph.producer(x) else { return false };
        let Op::Reshape(_) = graph.nodes[flatten].op else { return false };
        let (name, image) = (graph.nodes[k].name.clone(), graph.nodes[flatten].inputs[0]);
        match check(graph, image, x) {
            Ok([c, h, w]) => {
                rewrite(graph, k, image, [c, h, w]);
                made(
                    events,
                    PASS,
                    &name,
                    format!("reads the image {} as a {h}x{w} convolution", shown(graph, image)),
                );
                true
            }
            Err(reason) => {
                left(events, PASS, &name, reason);
                false
            }
        }
    })
}

fn check(graph: &Graph, image: ValueId, x: ValueId) -> Result<[usize; 3], String> {
    let (from, to) = (graph.shape(image), graph.shape(x));
    match (from, to) {
        (&[n, c, h, w], &[rows, elements]) if n == rows && c * h * w == elements => Ok([c, h, w]),
        _ => Err(format!("{} {to:?} is not an image flattened: it was {from:?}", shown(graph, x))),
    }
}

fn rewrite(graph: &mut Graph, k: usize, image: ValueId, [c, h, w]: [usize; 3]) {
    let Op::Dense(epilogue) = graph.nodes[k].op.clone() else { return };
    let Some(weight) = graph.constant(graph.nodes[k].inputs[1]).cloned() else { return };
    let (output, outputs) = (graph.nodes[k].output, weight.shape[0]);
    let rows = graph.shape(output)[0];
    let mut k = k;
    if epilogue.residual {
        // The residual must have the convolution's shape.
        let residual = graph.nodes[k].inputs[3];
        let name = graph.free_node_name(format!("{}/residual", graph.nodes[k].name));
        let shape = vec![rows, outputs, 1, 1];
        let value = graph.add_value(name.clone(), shape.clone());
        graph.nodes.insert(k, Node { name, op: Op::Reshape(shape), inputs: vec![residual], output: value });
        k += 1;
        graph.nodes[k].inputs[3] = value;
    }
    set_constant(graph, k, 1, "weight", weight.reshaped([outputs, c, h, w]));
    graph.nodes[k].inputs[0] = image;
    graph.nodes[k].op = Op::Conv(Conv {
        kernel: [h, w],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [0; 4],
        groups: 1,
        epilogue,
    });
    let pixel = graph.add_value(format!("{}/image", graph.value(output).name), [rows, outputs, 1, 1]);
    graph.nodes[k].output = pixel;
    let name = graph.free_node_name(format!("{}/flatten", graph.nodes[k].name));
    let reshape = Node { name, op: Op::Reshape(vec![rows, outputs]), inputs: vec![pixel], output };
    graph.nodes.insert(k + 1, reshape);
}
