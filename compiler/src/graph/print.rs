//! Text of a graph: one line per node, `%` before computed values and inputs, constants by name and shape.
//!
//! In: a graph, valid or not (an id out of range prints as `%?7`). Out: stable text that golden tests snapshot. Not here:
//! contents of constants, dead values, node names (a node is known by its value).

use super::{
    Binary, Coordinates, Epilogue, GlobalPool, Graph, Interpolation, NearestRounding, Node, Op, Pool,
    PoolKind, SliceAxis, ValueId,
};
use std::fmt::{self, Display, Formatter};

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |ids: &[ValueId]| ids.iter().map(|&id| shaped(self, id)).collect::<Vec<_>>().join(", ");
        writeln!(f, "graph {}: {} -> {}", self.name, list(&self.inputs), list(&self.outputs))?;
        for node in &self.nodes {
            writeln!(f, "  {}", line(self, node))?;
        }
        Ok(())
    }
}

/// `%conv1 [1,64,112,112] = conv 7x7 stride 2 pad 3 (%data, w [64,3,7,7], b [64]) + relu`
fn line(graph: &Graph, node: &Node) -> String {
    let none = Epilogue::default();
    let epilogue = node.op.epilogue().unwrap_or(&none);
    let (operands, residual) = match node.inputs.split_last() {
        Some((residual, operands)) if epilogue.residual => (operands, Some(*residual)),
        _ => (&node.inputs[..], None),
    };
    let operands: Vec<String> = operands.iter().map(|&id| operand(graph, id)).collect();
    let mut text = format!("{} = {}", shaped(graph, node.output), node.op);
    if let Op::Slice(axes) = &node.op {
        let whole = node.inputs.first().and_then(|id| graph.values.get(id.0 as usize)).map(|v| &v.shape[..]);
        text += &slice(axes, whole.unwrap_or(&[]));
    }
    text += &format!(" ({})", operands.join(", "));
    if let Some(id) = residual {
        text += &format!(" + {}", operand(graph, id));
    }
    if let Some(activation) = &epilogue.activation {
        text += &format!(" + {activation}");
    }
    text
}

/// A value with its shape: `%data [1,3,224,224]`.
fn shaped(graph: &Graph, id: ValueId) -> String {
    match graph.values.get(id.0 as usize) {
        Some(v) if v.data.is_some() => format!("{} [{}]", v.name.escape_debug(), joined(&v.shape, ",")),
        Some(v) => format!("%{} [{}]", v.name.escape_debug(), joined(&v.shape, ",")),
        None => format!("%?{}", id.0),
    }
}

/// A value as an operand: constants with their shape, others by name alone.
fn operand(graph: &Graph, id: ValueId) -> String {
    match graph.values.get(id.0 as usize) {
        Some(v) if v.data.is_none() => format!("%{}", v.name.escape_debug()),
        _ => shaped(graph, id),
    }
}

impl Op {
    /// The operator's word, without attributes: `conv`, `max_pool`, `relu`, …
    pub fn name(&self) -> String {
        let text = self.to_string();
        text.split([' ', '(']).next().unwrap_or_default().to_owned()
    }
}

/// The operator and those attributes that are not the usual ones, without operands, epilogue and the ranges of a slice.
impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::Conv(c) => {
                f.write_str("conv ")?;
                window(f, c.kernel, c.strides, c.dilations, c.pads)?;
                plural(f, "groups", c.groups)
            }
            Op::ConvTranspose(c) => {
                f.write_str("conv_transpose ")?;
                window(f, c.kernel, c.strides, c.dilations, c.pads)?;
                unless(f, "output_padding", c.output_padding, 0)?;
                plural(f, "groups", c.groups)
            }
            Op::Dense(_) => f.write_str("dense"),
            Op::BatchNorm { epsilon } => write!(f, "batch_norm epsilon {epsilon}"),
            Op::Unary(unary) => write!(f, "{unary}"),
            Op::PRelu => f.write_str("prelu"),
            Op::Binary(binary) => write!(f, "{binary}"),
            Op::Concat { axis } => write!(f, "concat axis {axis}"),
            Op::Pool(pool) => pooling(f, pool),
            Op::GlobalPool(GlobalPool::Max) => f.write_str("global_max_pool"),
            Op::GlobalPool(GlobalPool::Average) => f.write_str("global_average_pool"),
            Op::Reshape(_) => f.write_str("reshape"),
            Op::Transpose(perm) => write!(f, "transpose [{}]", joined(perm, ",")),
            Op::Pad { pads, value } => {
                let (before, after): (Vec<_>, Vec<_>) = pads.iter().copied().unzip();
                write!(f, "pad [{}]..[{}] with {value}", joined(&before, ","), joined(&after, ","))
            }
            Op::Resize(r) => {
                match r.interpolation {
                    Interpolation::Nearest(rounding) => write!(f, "resize nearest({rounding})")?,
                    Interpolation::Linear => f.write_str("resize linear")?,
                }
                write!(f, " {} scale {}x{}", r.coordinates, r.scales[0], r.scales[1])
            }
            Op::Slice(_) => f.write_str("slice"),
            Op::Softmax { axis } => write!(f, "softmax axis {axis}"),
            Op::Lrn { size, alpha, beta, bias } => {
                write!(f, "lrn size {size} alpha {alpha} beta {beta} bias {bias}")
            }
            Op::Identity => f.write_str("identity"),
            Op::Dropout => f.write_str("dropout"),
            Op::Round(grid) => write!(f, "round {grid}"),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        })
    }
}

impl Display for Coordinates {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
            Coordinates::AlignCorners => "align_corners",
            Coordinates::Asymmetric => "asymmetric",
        })
    }
}

impl Display for NearestRounding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NearestRounding::RoundPreferFloor => "round_prefer_floor",
            NearestRounding::RoundPreferCeil => "round_prefer_ceil",
            NearestRounding::Floor => "floor",
            NearestRounding::Ceil => "ceil",
        })
    }
}

fn pooling(f: &mut Formatter<'_>, pool: &Pool) -> fmt::Result {
    f.write_str(match pool.kind {
        PoolKind::Max => "max_pool ",
        PoolKind::Average { .. } => "average_pool ",
    })?;
    window(f, pool.kernel, pool.strides, pool.dilations, pool.pads)?;
    match pool.kind {
        PoolKind::Average { count_include_pad: true } if pool.pads != [0; 4] => f.write_str(" count_pad"),
        PoolKind::Average { .. } | PoolKind::Max => Ok(()),
    }
}

/// `3x3 stride 2 pad 1 dilation 2`, leaving out what is 1 (padding: 0) and writing equal numbers once.
fn window(
    f: &mut Formatter<'_>,
    k: [usize; 2],
    s: [usize; 2],
    d: [usize; 2],
    pads: [usize; 4],
) -> fmt::Result {
    write!(f, "{}x{}", k[0], k[1])?;
    unless(f, "stride", s, 1)?;
    match pads {
        [0, 0, 0, 0] => {}
        [p, b, c, d] if [b, c, d] == [p; 3] => write!(f, " pad {p}")?,
        _ => write!(f, " pad {}", joined(&pads, ","))?,
    }
    unless(f, "dilation", d, 1)
}

fn unless(f: &mut Formatter<'_>, word: &str, [a, b]: [usize; 2], usual: usize) -> fmt::Result {
    match (a, b) {
        _ if [a, b] == [usual; 2] => Ok(()),
        _ if a == b => write!(f, " {word} {a}"),
        _ => write!(f, " {word} {a}x{b}"),
    }
}

fn plural(f: &mut Formatter<'_>, word: &str, n: usize) -> fmt::Result {
    if n == 1 { Ok(()) } else { write!(f, " {word} {n}") }
}

/// ` [:, :, 0..416 by 2, 0..8]`: whole axes as `:`.
fn slice(axes: &[SliceAxis], shape: &[usize]) -> String {
    let mut parts = Vec::new();
    for (k, a) in axes.iter().enumerate() {
        let end = a.start as i128 + a.count as i128 * a.step as i128;
        parts.push(match a.step {
            1 if a.start == 0 && shape.get(k) == Some(&a.count) => ":".to_owned(),
            1 => format!("{}..{end}", a.start),
            step => format!("{}..{end} by {step}", a.start),
        });
    }
    format!(" [{}]", parts.join(", "))
}

fn joined(numbers: &[usize], separator: &str) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use crate::graph::*;

    #[test]
    fn one_line_per_node() {
        let mut g = Graph::new("tiny");
        let x = g.add_input("data", [1, 4, 8, 8]);
        let zeros = |shape: &[usize]| Tensor::new(shape, vec![0.0; shape.iter().product()]);
        let w = g.add_constant("w", zeros(&[4, 1, 3, 3]));
        let b = g.add_constant("b", zeros(&[4]));
        let conv = Conv {
            kernel: [3, 3],
            strides: [1, 1],
            dilations: [1, 1],
            pads: [1, 1, 1, 1],
            groups: 4,
            epilogue: Epilogue { residual: true, activation: Some(Unary::Clip { lo: 0.0, hi: 6.0 }) },
        };
        let y = g.add_node("conv", Op::Conv(conv), [x, w, b, x]).unwrap();
        let all = SliceAxis { start: 0, step: 1, count: 1 };
        let axes = vec![
            all,
            SliceAxis { count: 4, ..all },
            SliceAxis { start: 1, step: 2, count: 4 },
            SliceAxis { start: 2, step: 1, count: 3 },
        ];
        let z = g.add_node("cut", Op::Slice(axes), [y]).unwrap();
        g.outputs = vec![z];
        let expected = "\
graph tiny: %data [1,4,8,8] -> %cut [1,4,4,3]
  %conv [1,4,8,8] = conv 3x3 pad 1 groups 4 (%data, w [4,1,3,3], b [4]) + %data + clip(0, 6)
  %cut [1,4,4,3] = slice [:, :, 1..9 by 2, 2..5] (%conv)
";
        assert_eq!(g.to_string(), expected);
    }
}
