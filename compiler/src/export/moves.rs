//! Windows, and what moves elements: on the real numbers of the operands, rounded again, which changes nothing where scales are equal.

use super::writer::{Writer, int, ints, text};
use crate::qgraph::{QNode, QOp, QSlice, QType, Window};
use qgraph_runtime::functions::Tap;
use qgraph_runtime::requant::dequantize;

pub(super) fn write(w: &mut Writer<'_>, node: &QNode) {
    let graph = w.graph;
    let y = node.output;
    let (name, value) = (&node.name[..], graph.value(y).name.clone());
    let (from, to) = (node.inputs.first().map(|&x| graph.value(x)), graph.value(y));
    let operands: Vec<String> = node.inputs.iter().map(|&v| w.real(v)).collect();
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let shape = from.map_or(vec![], |x| x.shape.clone());
    let mut simple = |op: &str, attributes| w.named(name, op, &operands, &value, attributes);
    match &node.op {
        QOp::MaxPool(window) => {
            let mut attributes = windows(window, &shape, &to.shape);
            attributes.push(ints("dilations", &window.dilations));
            simple("MaxPool", attributes);
        }
        QOp::AvgPool { window, .. }
            if window.kernel == shape[2..] && to.shape[2..] == [1, 1] && window.pads == [0; 4] =>
        {
            simple("GlobalAveragePool", vec![]);
        }
        QOp::AvgPool { window, count_include_pad, .. } => {
            let mut attributes = windows(window, &shape, &to.shape);
            attributes.push(int("count_include_pad", usize::from(*count_include_pad)));
            attributes.push(ints("dilations", &window.dilations));
            simple("AveragePool", attributes);
        }
        QOp::Concat { axis } => simple("Concat", vec![int("axis", *axis)]),
        QOp::Transpose(perm) => simple("Transpose", vec![ints("perm", perm)]),
        QOp::Reshape => {
            let extents = list(w, name, "shape", &to.shape);
            w.named(name, "Reshape", &[operands[0], &extents], &value, vec![]);
        }
        QOp::Slice(axes) => slice(w, name, operands[0], axes, &value),
        QOp::Pad { pads, fill } => {
            let amounts: Vec<usize> = pads.iter().map(|p| p.0).chain(pads.iter().map(|p| p.1)).collect();
            let fill = match to.ty {
                QType::F32 => *fill,
                QType::U8 { scale, zero_point } => dequantize(*fill as u8, scale, zero_point),
            };
            let amounts = list(w, name, "pads", &amounts);
            let fill = w.floats(&format!("{name}/value"), &[], &[fill]);
            w.named(name, "Pad", &[operands[0], &amounts, &fill], &value, vec![text("mode", "constant")]);
        }
        QOp::DepthToSpace { block: [r, s], crop: [top, left] } => {
            let &[n, channels, rows, cols] = &shape[..] else { return };
            let outputs = channels / (r * s);
            let split = list(w, name, "split", &[n, *r, *s, outputs, rows, cols]);
            let split = w.step(&format!("{name}/phases"), "Reshape", &[operands[0], &split], vec![]);
            let perm = vec![ints("perm", &[0, 3, 4, 1, 5, 2])];
            let woven = w.step(&format!("{name}/woven"), "Transpose", &[&split], perm);
            let joined = list(w, name, "joined", &[n, outputs, rows * r, cols * s]);
            let whole = w.step(&format!("{name}/whole"), "Reshape", &[&woven, &joined], vec![]);
            let part = |start: usize, count: usize| QSlice { start, step: 1, count };
            let axes = [part(0, n), part(0, outputs), part(*top, to.shape[2]), part(*left, to.shape[3])];
            slice(w, name, &whole, &axes, &value);
        }
        QOp::ResizeNearest { rows, cols } => {
            let picked = |w: &mut Writer<'_>, role: &str, index: &[u32]| {
                let index: Vec<usize> = index.iter().map(|&i| i as usize).collect();
                list(w, name, role, &index)
            };
            let (rows, cols) = (picked(w, "rows", rows), picked(w, "cols", cols));
            let tall = w.step(&format!("{name}/tall"), "Gather", &[operands[0], &rows], vec![int("axis", 2)]);
            w.named(name, "Gather", &[&tall, &cols], &value, vec![int("axis", 3)]);
        }
        QOp::ResizeLinear { rows, cols } => {
            // x · C, then the same for rows of what is turned.
            let turn = || vec![ints("perm", &[0, 1, 3, 2])];
            let across = taps(w, &format!("{name}/cols"), cols, shape[3]);
            let down = taps(w, &format!("{name}/rows"), rows, shape[2]);
            let wide = w.step(&format!("{name}/wide"), "MatMul", &[operands[0], &across], vec![]);
            let turned = w.step(&format!("{name}/turned"), "Transpose", &[&wide], turn());
            let tall = w.step(&format!("{name}/tall"), "MatMul", &[&turned, &down], vec![]);
            w.named(name, "Transpose", &[&tall], &value, turn());
        }
        // Written elsewhere.
        _ => return,
    }
    w.finish(y);
}

fn list(w: &mut Writer<'_>, node: &str, role: &str, numbers: &[usize]) -> String {
    let numbers: Vec<i64> = numbers.iter().map(|&n| n as i64).collect();
    w.ints(&format!("{node}/{role}"), &numbers)
}

/// The attributes that poolings share; ceil mode where floor would give fewer positions.
fn windows(window: &Window, from: &[usize], to: &[usize]) -> Vec<crate::onnx::proto::AttributeProto> {
    let floor = |a: usize| {
        let reach = (window.kernel[a] - 1) * window.dilations[a] + 1;
        let padded = from[2 + a] + window.pads[a] + window.pads[2 + a];
        padded.checked_sub(reach).map_or(0, |room| room / window.strides[a] + 1)
    };
    let ceil = (0..2).any(|a| floor(a) < to[2 + a]);
    vec![
        ints("kernel_shape", &window.kernel),
        ints("strides", &window.strides),
        ints("pads", &window.pads),
        int("ceil_mode", usize::from(ceil)),
    ]
}

fn slice(w: &mut Writer<'_>, node: &str, x: &str, axes: &[QSlice], output: &str) {
    let steps: Vec<i64> = axes.iter().map(|a| a.step as i64).collect();
    let starts: Vec<i64> = axes.iter().map(|a| a.start as i64).collect();
    // Walking down, an end before the first element is one that no tensor has.
    let end = |a: &QSlice| {
        let end = a.start as i64 + a.step as i64 * a.count as i64;
        if end < 0 { i64::MIN + 1 } else { end }
    };
    let ends: Vec<i64> = axes.iter().map(end).collect();
    let all: Vec<i64> = (0..axes.len() as i64).collect();
    let mut constant = |role: &str, data: &[i64]| w.ints(&format!("{node}/{role}"), data);
    let [starts, ends, all, steps] = [
        constant("starts", &starts),
        constant("ends", &ends),
        constant("axes", &all),
        constant("steps", &steps),
    ];
    w.named(node, "Slice", &[x, &starts, &ends, &all, &steps], output, vec![]);
}

/// The matrix `[extent, taps]` by which an axis of `extent` elements is interpolated.
fn taps(w: &mut Writer<'_>, name: &str, taps: &[Tap], extent: usize) -> String {
    let mut matrix = vec![0.0; extent * taps.len()];
    for (j, tap) in taps.iter().enumerate() {
        matrix[tap.lo as usize * taps.len() + j] += 1.0 - tap.frac;
        matrix[tap.hi as usize * taps.len() + j] += tap.frac;
    }
    w.floats(name, &[extent, taps.len()], &matrix)
}
