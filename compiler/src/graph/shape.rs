//! Output shape of every operator from its input shapes, and with it every rule about which operands fit.
//!
//! In: an operator and the shapes of its operands. Out: the shape of its result, or a sentence that says what does
//! not fit. Holds: every extent is positive and every tensor has at most [`MAX_ELEMENTS`] elements; all arithmetic is
//! checked, so attributes from a file cannot overflow. Not here: which operands must be constant ([`super::verify`]).

use super::{Conv, ConvTranspose, Epilogue, Op, Pool, Resize, SliceAxis};

/// Most elements a tensor may have.
pub const MAX_ELEMENTS: usize = 1 << 31;

type Infer<T> = Result<T, String>;

/// The output shape, or why the operands do not fit (for an error message about the node).
pub fn infer(op: &Op, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    for (k, shape) in inputs.iter().enumerate() {
        check_extents(shape).map_err(|e| format!("input {k}: {e}"))?;
    }
    let shape = match op {
        Op::Conv(conv) => conv_shape(conv, inputs)?,
        Op::ConvTranspose(conv) => conv_transpose_shape(conv, inputs)?,
        Op::Dense(epilogue) => dense_shape(epilogue, inputs)?,
        Op::BatchNorm { .. } => {
            let [x, parameters @ ..] = operands::<5>(inputs)?;
            let channels = channels(x)?;
            for (name, shape) in ["gamma", "beta", "mean", "var"].iter().zip(parameters) {
                if *shape != [channels] {
                    return Err(format!("{name} is {shape:?}, the input has {channels} channels"));
                }
            }
            x.to_vec()
        }
        Op::Unary(_) | Op::Identity | Op::Dropout | Op::Round(_) => operands::<1>(inputs)?[0].to_vec(),
        Op::PRelu => {
            let [x, slope] = operands(inputs)?;
            if broadcast(x, slope).as_deref() != Ok(x) {
                return Err(format!("slope {slope:?} does not broadcast to {x:?}"));
            }
            x.to_vec()
        }
        Op::Binary(_) => {
            let [a, b] = operands(inputs)?;
            broadcast(a, b)?
        }
        Op::Concat { axis } => concat_shape(*axis, inputs)?,
        Op::Pool(pool) => pool_shape(pool, operands::<1>(inputs)?[0])?,
        Op::GlobalPool(_) => {
            let [n, c, _, _] = image(operands::<1>(inputs)?[0])?;
            vec![n, c, 1, 1]
        }
        Op::Reshape(shape) => {
            let [x] = operands(inputs)?;
            if elements(shape)? != elements(x)? {
                return Err(format!("cannot reshape {x:?} to {shape:?}: the number of elements differs"));
            }
            shape.clone()
        }
        Op::Transpose(perm) => {
            let [x] = operands(inputs)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..x.len()) {
                return Err(format!("{perm:?} is not a permutation of the axes of {x:?}"));
            }
            perm.iter().map(|&axis| x[axis]).collect()
        }
        Op::Pad { pads, .. } => {
            let [x] = operands(inputs)?;
            same_rank(pads.len(), x)?;
            let padded = x.iter().zip(pads).map(|(&n, &(a, b))| n.checked_add(a)?.checked_add(b));
            padded.collect::<Option<_>>().ok_or_else(|| format!("padding {pads:?} is too large"))?
        }
        Op::Resize(resize) => resize_shape(resize, operands::<1>(inputs)?[0])?,
        Op::Slice(axes) => {
            let [x] = operands(inputs)?;
            same_rank(axes.len(), x)?;
            x.iter().zip(axes).map(|(&n, axis)| slice_extent(n, axis)).collect::<Infer<_>>()?
        }
        Op::Softmax { axis } => {
            let [x] = operands(inputs)?;
            check_axis(*axis, x)?;
            x.to_vec()
        }
        Op::Lrn { size, .. } => {
            let [x] = operands(inputs)?;
            channels(x)?;
            if *size == 0 {
                return Err("the size of the normalization window is 0".into());
            }
            x.to_vec()
        }
    };
    check_extents(&shape).map_err(|e| format!("output: {e}"))?;
    Ok(shape)
}

/// Result of numpy broadcasting: shapes aligned at the right, extents equal or 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], k: usize| if k + s.len() < rank { 1 } else { s[k + s.len() - rank] };
    (0..rank)
        .map(|k| match (extent(a, k), extent(b, k)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// Number of positions of a window of `kernel` taps, `dilation` apart, over `input` elements padded by `pads` (before and after
/// together). `None` if the window does not fit, an attribute is 0, or the numbers overflow.
pub fn window_positions(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: usize,
) -> Option<usize> {
    Some(room(input, kernel, dilation, pads)?.checked_div(stride)? + 1)
}

/// How far the window can move.
fn room(input: usize, kernel: usize, dilation: usize, pads: usize) -> Option<usize> {
    if dilation == 0 {
        return None;
    }
    let span = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    input.checked_add(pads)?.checked_sub(span)
}

fn operands<'a, const N: usize>(inputs: &[&'a [usize]]) -> Infer<[&'a [usize]; N]> {
    inputs.try_into().map_err(|_| format!("takes {N} inputs, has {}", inputs.len()))
}

fn elements(shape: &[usize]) -> Infer<usize> {
    let product = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    product
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| format!("{shape:?} has more than {MAX_ELEMENTS} elements"))
}

fn check_extents(shape: &[usize]) -> Infer<()> {
    if shape.contains(&0) {
        return Err(format!("{shape:?} has an empty axis"));
    }
    elements(shape).map(drop)
}

fn check_axis(axis: usize, x: &[usize]) -> Infer<()> {
    if axis < x.len() { Ok(()) } else { Err(format!("axis {axis} is not an axis of {x:?}")) }
}

fn same_rank(entries: usize, x: &[usize]) -> Infer<()> {
    if entries == x.len() { Ok(()) } else { Err(format!("has {entries} entries for the axes of {x:?}")) }
}

fn channels(x: &[usize]) -> Infer<usize> {
    x.get(1).copied().ok_or_else(|| format!("input {x:?} has no channel axis (axis 1)"))
}

fn image(x: &[usize]) -> Infer<[usize; 4]> {
    x.try_into().map_err(|_| format!("input {x:?} is not a batch of images [N,C,H,W]"))
}

/// Checks the operands after the first `fixed`: the residual if the epilogue has one, and nothing else.
fn check_residual(epilogue: &Epilogue, inputs: &[&[usize]], fixed: usize, output: &[usize]) -> Infer<()> {
    let expected = fixed + epilogue.residual as usize;
    if inputs.len() != expected {
        return Err(format!("takes {expected} inputs, has {}", inputs.len()));
    }
    match inputs.get(fixed) {
        Some(residual) if *residual != output => {
            Err(format!("the residual is {residual:?}, the output {output:?}"))
        }
        _ => Ok(()),
    }
}

/// x, weight, bias of a convolution or dense layer.
fn weighted<'a>(inputs: &[&'a [usize]]) -> Infer<[&'a [usize]; 3]> {
    operands(inputs.get(..3).ok_or_else(|| format!("takes x, weight, bias, has {} inputs", inputs.len()))?)
}

fn check_bias(bias: &[usize], outputs: usize) -> Infer<()> {
    if bias == [outputs] {
        Ok(())
    } else {
        Err(format!("the bias is {bias:?}, the output has {outputs} channels"))
    }
}

fn conv_shape(conv: &Conv, inputs: &[&[usize]]) -> Infer<Vec<usize>> {
    let [x, weight, bias] = weighted(inputs)?;
    let [n, c, h, w] = image(x)?;
    let (groups, [kh, kw]) = (conv.groups, conv.kernel);
    let fits = |m: usize| groups > 0 && c % groups == 0 && m % groups == 0;
    let m = match *weight {
        [m, ci, y, x] if fits(m) && ci == c / groups && [y, x] == [kh, kw] => m,
        _ => {
            return Err(format!(
                "weight {weight:?} does not fit {c} input channels in {groups} groups with a {kh}x{kw} kernel"
            ));
        }
    };
    check_bias(bias, m)?;
    let [top, left, bottom, right] = conv.pads;
    let mut output = vec![n, m, 0, 0];
    for (k, (input, pads)) in
        [(h, top.checked_add(bottom)), (w, left.checked_add(right))].into_iter().enumerate()
    {
        output[2 + k] = pads
            .and_then(|p| window_positions(input, conv.kernel[k], conv.strides[k], conv.dilations[k], p))
            .ok_or_else(|| window_error(conv.kernel, conv.strides, conv.dilations, conv.pads, x))?;
    }
    check_residual(&conv.epilogue, inputs, 3, &output)?;
    Ok(output)
}

fn window_error(k: [usize; 2], s: [usize; 2], d: [usize; 2], pads: [usize; 4], x: &[usize]) -> String {
    format!("a window of {k:?} (stride {s:?}, dilation {d:?}, pads {pads:?}) does not fit {x:?}")
}

fn conv_transpose_shape(conv: &ConvTranspose, inputs: &[&[usize]]) -> Infer<Vec<usize>> {
    let [x, weight, bias] = weighted(inputs)?;
    let [n, c, h, w] = image(x)?;
    let (groups, [kh, kw]) = (conv.groups, conv.kernel);
    let m = match *weight {
        [ci, m_g, y, x] if groups > 0 && c % groups == 0 && ci == c && [y, x] == [kh, kw] => {
            m_g.checked_mul(groups).ok_or("too many groups")?
        }
        _ => {
            return Err(format!(
                "weight {weight:?} does not fit {c} input channels in {groups} groups with a {kh}x{kw} kernel"
            ));
        }
    };
    check_bias(bias, m)?;
    let mut output = vec![n, m, 0, 0];
    for (k, input) in [h, w].into_iter().enumerate() {
        output[2 + k] = transposed_extent(conv, k, input).ok_or_else(|| {
            format!(
                "a transposed window of {:?} (stride {:?}, dilation {:?}, pads {:?}, output padding {:?}) leaves \
                 nothing of {x:?}",
                conv.kernel, conv.strides, conv.dilations, conv.pads, conv.output_padding
            )
        })?;
    }
    check_residual(&conv.epilogue, inputs, 3, &output)?;
    Ok(output)
}

fn transposed_extent(conv: &ConvTranspose, k: usize, input: usize) -> Option<usize> {
    let (stride, dilation) = (conv.strides[k], conv.dilations[k]);
    let taps = dilation.checked_mul(conv.kernel[k].checked_sub(1)?)?;
    if stride == 0 || dilation == 0 {
        return None;
    }
    let full = (input - 1).checked_mul(stride)?.checked_add(taps)?.checked_add(1)?;
    let grown = full.checked_add(conv.output_padding[k])?;
    grown.checked_sub(conv.pads[k])?.checked_sub(conv.pads[2 + k]).filter(|&n| n > 0)
}

fn dense_shape(epilogue: &Epilogue, inputs: &[&[usize]]) -> Infer<Vec<usize>> {
    let [x, weight, bias] = weighted(inputs)?;
    let (m, output) = match (x, weight) {
        ([outer @ .., k], &[m, wk]) if *k == wk => (m, [outer, &[m]].concat()),
        _ => return Err(format!("weight {weight:?} ([M,K]) does not fit input {x:?} ([..,K])")),
    };
    check_bias(bias, m)?;
    check_residual(epilogue, inputs, 3, &output)?;
    Ok(output)
}

fn concat_shape(axis: usize, inputs: &[&[usize]]) -> Infer<Vec<usize>> {
    let (first, rest) = inputs.split_first().ok_or("concat of nothing")?;
    check_axis(axis, first)?;
    let mut output = first.to_vec();
    for x in rest {
        let others =
            |s: &[usize]| s.iter().enumerate().filter(|e| e.0 != axis).map(|e| *e.1).collect::<Vec<_>>();
        if x.len() != first.len() || others(x) != others(first) {
            return Err(format!("{first:?} and {x:?} differ outside of axis {axis}"));
        }
        output[axis] = output[axis].checked_add(x[axis]).ok_or("the concatenation is too large")?;
    }
    Ok(output)
}

fn pool_shape(pool: &Pool, x: &[usize]) -> Infer<Vec<usize>> {
    let [n, c, h, w] = image(x)?;
    for (k, input) in [h, w].into_iter().enumerate() {
        let (kernel, stride, dilation) = (pool.kernel[k], pool.strides[k], pool.dilations[k]);
        let (before, after) = (pool.pads[k], pool.pads[2 + k]);
        let positions = before
            .checked_add(after)
            .and_then(|pads| window_positions(input, kernel, stride, dilation, pads))
            .ok_or_else(|| window_error(pool.kernel, pool.strides, pool.dilations, pool.pads, x))?;
        // Ceil mode may add one position, whose window must start on an element or on padding before it.
        let ceiled = pool.output[k] == positions + 1 && positions.saturating_mul(stride) < input + before;
        if pool.output[k] != positions && !ceiled {
            return Err(format!(
                "the stored output extent {:?} does not follow from {x:?} (axis {})",
                pool.output,
                2 + k
            ));
        }
        // Without dilation every window then holds an element, so that neither a maximum nor a mean is of nothing.
        let span = dilation * (kernel - 1);
        if before > span || after > span {
            return Err(format!("pads {:?} exceed the window {:?}", pool.pads, pool.kernel));
        }
    }
    Ok(vec![n, c, pool.output[0], pool.output[1]])
}

fn resize_shape(resize: &Resize, x: &[usize]) -> Infer<Vec<usize>> {
    let [n, c, h, w] = image(x)?;
    for (k, input) in [h, w].into_iter().enumerate() {
        let scale = resize.scales[k];
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format!("scale {scale} is not a positive number"));
        }
        // Models state scales or sizes; either way they agree to a rounding.
        if (input as f64 * scale as f64 - resize.output[k] as f64).abs() > 1.0 {
            return Err(format!("{input}·{scale} is not the stored output extent {}", resize.output[k]));
        }
    }
    Ok(vec![n, c, resize.output[0], resize.output[1]])
}

fn slice_extent(extent: usize, axis: &SliceAxis) -> Infer<usize> {
    let steps = isize::try_from(axis.count).ok().and_then(|n| n.checked_sub(1));
    let last = steps.and_then(|n| n.checked_mul(axis.step)).and_then(|d| axis.start.checked_add_signed(d));
    if axis.count == 0 || axis.step == 0 || axis.start >= extent || last.is_none_or(|l| l >= extent) {
        return Err(format!(
            "{} indices from {} by {} are not all in 0..{extent}",
            axis.count, axis.start, axis.step
        ));
    }
    Ok(axis.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Binary, PoolKind};

    fn conv() -> Conv {
        Conv {
            kernel: [3, 3],
            strides: [2, 1],
            dilations: [1, 2],
            pads: [1, 2, 0, 1],
            groups: 2,
            epilogue: Epilogue::default(),
        }
    }

    #[test]
    fn convolutions() {
        let ok: [&[usize]; 3] = [&[1, 4, 10, 9], &[6, 2, 3, 3], &[6]];
        // (10 + 1 − 3)/2 + 1, 9 + 3 − 5 + 1
        assert_eq!(infer(&Op::Conv(conv()), &ok), Ok(vec![1, 6, 5, 8]));
        let says = |inputs: &[&[usize]], word: &str| {
            let e = infer(&Op::Conv(conv()), inputs).unwrap_err();
            assert!(e.contains(word), "{e:?} does not say {word:?}");
        };
        says(&[&[1, 5, 10, 9], ok[1], ok[2]], "weight");
        says(&[ok[0], &[5, 2, 3, 3], &[5]], "groups");
        says(&[ok[0], ok[1], &[5]], "bias");
        says(&[&[1, 4, 10], ok[1], ok[2]], "images");
        says(&[&[1, 4, 10, 1], ok[1], ok[2]], "window");
        says(&[&[1, 4, 10, 0], ok[1], ok[2]], "empty");
        says(&[&[1, 4, 1 << 40, 9], ok[1], ok[2]], "elements");
        says(&[ok[0], ok[1], ok[2], &[1, 6, 5, 8]], "inputs");
        let residual = Epilogue { residual: true, activation: None };
        let fused = Op::Conv(Conv { epilogue: residual, ..conv() });
        assert_eq!(infer(&fused, &[ok[0], ok[1], ok[2], &[1, 6, 5, 8]]), Ok(vec![1, 6, 5, 8]));
        assert!(infer(&fused, &[ok[0], ok[1], ok[2], &[1, 6, 5, 1]]).is_err());
        let huge = Op::Conv(Conv { pads: [usize::MAX; 4], ..conv() });
        assert!(infer(&huge, &ok).is_err());
    }

    #[test]
    fn pools_store_floor_or_ceil() {
        let pool = |output| {
            Op::Pool(Pool {
                kind: PoolKind::Max,
                kernel: [2, 2],
                strides: [2, 2],
                dilations: [1, 1],
                pads: [0; 4],
                output,
            })
        };
        let x: [&[usize]; 1] = [&[1, 3, 5, 4]];
        assert_eq!(infer(&pool([2, 2]), &x), Ok(vec![1, 3, 2, 2]));
        assert_eq!(infer(&pool([3, 2]), &x), Ok(vec![1, 3, 3, 2]));
        assert!(infer(&pool([2, 3]), &x).is_err(), "the third window would start on padding");
        assert!(infer(&pool([4, 2]), &x).is_err());
    }

    #[test]
    fn broadcasting_and_movement() {
        let add = Op::Binary(Binary::Add);
        assert_eq!(infer(&add, &[&[2, 1, 4], &[3, 1]]), Ok(vec![2, 3, 4]));
        assert_eq!(infer(&add, &[&[], &[5]]), Ok(vec![5]));
        assert!(infer(&add, &[&[2], &[3]]).is_err());
        assert!(infer(&Op::PRelu, &[&[3, 1], &[3, 2]]).is_err(), "the slope must not widen the input");
        let slice = |start, step, count| Op::Slice(vec![SliceAxis { start, step, count }]);
        assert_eq!(infer(&slice(4, -2, 3), &[&[5]]), Ok(vec![3]));
        assert!(infer(&slice(4, -2, 4), &[&[5]]).is_err());
        assert!(infer(&slice(0, isize::MAX, 3), &[&[5]]).is_err());
        assert!(infer(&Op::Transpose(vec![0, 0]), &[&[2, 3]]).is_err());
        assert!(infer(&Op::Reshape(vec![4]), &[&[5]]).is_err());
    }
}
