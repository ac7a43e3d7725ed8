//! Shapes of results: from the shapes of operands and the attributes of an operation, in checked arithmetic.
//!
//! Sizes are limited so that nothing computed from a valid graph overflows: see the constants. Element types and
//! the contents of blobs are [`verify`](super::verify)'s.

use super::{Blob, BlobId, QConv, QOp, QSlice, Window};

/// Largest extent of an axis.
pub const MAX_EXTENT: usize = 1 << 24;
/// Largest number of elements of a value.
pub const MAX_ELEMENTS: usize = 1 << 31;
/// Most axes of a value.
pub const MAX_RANK: usize = 8;
/// Largest kernel extent, stride, dilation and padding.
pub const MAX_WINDOW: usize = 1 << 16;

/// A result, or what is wrong, in words.
pub type Checked<T> = Result<T, String>;

/// Number of elements of a shape within the limits.
pub fn elements(shape: &[usize]) -> Checked<usize> {
    if shape.len() > MAX_RANK {
        return Err(format!("shape {shape:?} has more than {MAX_RANK} axes"));
    }
    if shape.iter().any(|&n| n == 0 || n > MAX_EXTENT) {
        return Err(format!("shape {shape:?}: extents must be 1 to {MAX_EXTENT}"));
    }
    shape
        .iter()
        .try_fold(1usize, |n, &x| n.checked_mul(x).filter(|&n| n <= MAX_ELEMENTS))
        .ok_or_else(|| format!("shape {shape:?} has more than {MAX_ELEMENTS} elements"))
}

/// Shape of the result of an elementwise function of two operands, with ONNX (numpy) broadcasting.
pub fn broadcast(a: &[usize], b: &[usize]) -> Checked<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// The extents of an image batch [N, C, H, W].
pub fn image(shape: &[usize]) -> Checked<[usize; 4]> {
    <[usize; 4]>::try_from(shape).map_err(|_| format!("the input is {shape:?}, but [N, C, H, W] is needed"))
}

impl Window {
    /// Checks the limits: what later arithmetic relies on.
    pub fn check(&self) -> Checked<()> {
        let at_least_one = self.kernel.iter().chain(&self.strides).chain(&self.dilations);
        if at_least_one.clone().any(|&x| x == 0) {
            return Err("kernel, strides and dilations must be at least 1".into());
        }
        if at_least_one.chain(&self.pads).any(|&x| x > MAX_WINDOW) {
            return Err(format!("kernel, strides, dilations and pads must be at most {MAX_WINDOW}"));
        }
        Ok(())
    }

    /// Input rows, columns from the first tap to the last one.
    pub fn span(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Number of positions along `axis` (0 rows, 1 columns) of an input of `extent`: as (floor, ceil) of the division by the stride.
    pub fn positions(&self, axis: usize, extent: usize) -> Checked<(usize, usize)> {
        let padded = extent + self.pads[axis] + self.pads[axis + 2];
        let room = padded.checked_sub(self.span(axis)).ok_or_else(|| {
            format!("the window spans {} but the padded input only {padded}", self.span(axis))
        })?;
        let stride = self.strides[axis];
        Ok((room / stride + 1, room.div_ceil(stride) + 1))
    }

    /// What average pooling divides by along `axis`: taps inside the input, or inside the padded input.
    pub fn divisor(&self, axis: usize, position: usize, extent: usize, include_pad: bool) -> usize {
        let (from, to) = if include_pad {
            (-(self.pads[axis] as i64), (extent + self.pads[axis + 2]) as i64)
        } else {
            (0, extent as i64)
        };
        self.taps_between(axis, position, from, to).1
    }

    /// Inputs that the window at `position` along `axis` sees: first tap within 0..extent and number of such taps.
    pub fn taps_inside(&self, axis: usize, position: usize, extent: usize) -> (usize, usize) {
        self.taps_between(axis, position, 0, extent as i64)
    }

    /// Taps of the window at `position` that lie in from..to (coordinates of the input): the first tap and how many.
    pub fn taps_between(&self, axis: usize, position: usize, from: i64, to: i64) -> (usize, usize) {
        let start = (position * self.strides[axis]) as i64 - self.pads[axis] as i64;
        let d = self.dilations[axis] as i64;
        // Number of taps before coordinate start + x.
        let up = |x: i64| (x.max(0) + d - 1) / d;
        let k = self.kernel[axis] as i64;
        let (first, end) = (up(from - start).min(k), up(to - start).min(k));
        (first as usize, (end - first).max(0) as usize)
    }
}

/// Shape of a node's output. `declared` is the shape that the output value states: it is consulted only where the
/// operands leave the shape open (Reshape, Constant, the rows cropped at the bottom of DepthToSpace, ceil mode of
/// pooling) and is then checked. Blob ids must be in range, operands as many as the operation takes; all shapes within the limits.
pub fn infer(op: &QOp, inputs: &[&[usize]], declared: &[usize], blobs: &[Blob]) -> Checked<Vec<usize>> {
    let operand = |i: usize| inputs.get(i).copied().ok_or_else(|| format!("operand {i} is missing"));
    match op {
        QOp::Constant(_) => Ok(declared.to_vec()),
        QOp::Quantize
        | QOp::Dequantize
        | QOp::Affine { .. }
        | QOp::Table(_)
        | QOp::Unary(_)
        | QOp::PRelu(_)
        | QOp::Softmax { .. }
        | QOp::Lrn { .. } => Ok(operand(0)?.to_vec()),
        QOp::Peak => Ok(vec![image(operand(0)?)?[0], 1, 1, 1]),
        QOp::Add { .. } | QOp::Mul { .. } | QOp::Binary { .. } => broadcast(operand(0)?, operand(1)?),
        QOp::Conv(conv) => convolution(conv, operand(0)?, blobs),
        QOp::MaxPool(window) | QOp::AvgPool { window, .. } => pool(window, operand(0)?, declared),
        QOp::Concat { axis } => concat(*axis, inputs),
        QOp::Slice(slices) => slice(slices, operand(0)?),
        QOp::Pad { pads, .. } => pad(pads, operand(0)?),
        QOp::Transpose(perm) => transpose(perm, operand(0)?),
        QOp::Reshape => {
            if elements(operand(0)?)? != elements(declared)? {
                return Err(format!("cannot reshape {:?} to {declared:?}", operand(0)?));
            }
            Ok(declared.to_vec())
        }
        QOp::DepthToSpace { block, crop } => depth_to_space(*block, *crop, operand(0)?, declared),
        QOp::ResizeNearest { rows, cols } => {
            let [n, c, h, w] = image(operand(0)?)?;
            within(rows.iter().copied(), h)?;
            within(cols.iter().copied(), w)?;
            Ok(vec![n, c, rows.len(), cols.len()])
        }
        QOp::ResizeLinear { rows, cols } => {
            let [n, c, h, w] = image(operand(0)?)?;
            within(rows.iter().flat_map(|t| [t.lo, t.hi]), h)?;
            within(cols.iter().flat_map(|t| [t.lo, t.hi]), w)?;
            Ok(vec![n, c, rows.len(), cols.len()])
        }
    }
}

fn blob(blobs: &[Blob], id: BlobId) -> Checked<&Blob> {
    blobs.get(id.0 as usize).ok_or_else(|| format!("there is no blob {}", id.0))
}

fn convolution(conv: &QConv, x: &[usize], blobs: &[Blob]) -> Checked<Vec<usize>> {
    let [n, c, h, w] = image(x)?;
    conv.window.check()?;
    // Weights are padded to whole blocks; the bias has one entry per output channel.
    let outputs = match blob(blobs, conv.bias)?.shape[..] {
        [co] if (1..=MAX_EXTENT).contains(&co) => co,
        ref other => return Err(format!("the bias has shape {other:?}, but [output channels] is needed")),
    };
    if conv.groups == 0 || c % conv.groups != 0 || outputs % conv.groups != 0 {
        return Err(format!(
            "{c} input and {outputs} output channels do not divide into {} groups",
            conv.groups
        ));
    }
    let (rows, _) = conv.window.positions(0, h)?;
    let (cols, _) = conv.window.positions(1, w)?;
    Ok(vec![n, outputs, rows, cols])
}

fn pool(window: &Window, x: &[usize], declared: &[usize]) -> Checked<Vec<usize>> {
    let [n, c, h, w] = image(x)?;
    window.check()?;
    let mut shape = vec![n, c];
    for (axis, extent) in [h, w].into_iter().enumerate() {
        let (floor, ceil) = window.positions(axis, extent)?;
        let stated = declared.get(axis + 2).copied().unwrap_or(floor);
        shape.push(stated.clamp(floor, ceil));
        let last = shape[axis + 2] - 1;
        // Only a window with wide gaps can jump over the input; otherwise the first and the last decide.
        let jumps = window.dilations[axis] > extent;
        let step = if jumps { 1 } else { last.max(1) };
        let empty = (0..=last).step_by(step).find(|&p| window.taps_inside(axis, p, extent).1 == 0);
        if let Some(p) = empty {
            return Err(format!("window {p} along axis {} lies wholly outside the input", axis + 2));
        }
    }
    Ok(shape)
}

fn concat(axis: usize, inputs: &[&[usize]]) -> Checked<Vec<usize>> {
    let (first, rest) = inputs.split_first().ok_or("nothing to concatenate")?;
    let mut shape = first.to_vec();
    if axis >= shape.len() {
        return Err(format!("there is no axis {axis} in {first:?}"));
    }
    for x in rest {
        let fits = x.len() == shape.len() && (0..x.len()).all(|i| i == axis || x[i] == shape[i]);
        if !fits {
            return Err(format!("{first:?} and {x:?} cannot be joined along axis {axis}"));
        }
        shape[axis] = shape[axis].checked_add(x[axis]).ok_or("the result is too large")?;
    }
    Ok(shape)
}

fn slice(slices: &[QSlice], x: &[usize]) -> Checked<Vec<usize>> {
    if slices.len() != x.len() {
        return Err(format!("{} slices for the {} axes of {x:?}", slices.len(), x.len()));
    }
    for (s, &extent) in slices.iter().zip(x) {
        let last = (s.count as i128 - 1) * s.step as i128 + s.start as i128;
        if s.count == 0 || s.step == 0 || s.start >= extent || !(0..extent as i128).contains(&last) {
            return Err(format!("slice {s:?} reaches outside 0..{extent}"));
        }
    }
    Ok(slices.iter().map(|s| s.count).collect())
}

fn pad(pads: &[(usize, usize)], x: &[usize]) -> Checked<Vec<usize>> {
    if pads.len() != x.len() {
        return Err(format!("{} pads for the {} axes of {x:?}", pads.len(), x.len()));
    }
    pads.iter()
        .zip(x)
        .map(|(&(before, after), &n)| {
            before.checked_add(after).and_then(|p| p.checked_add(n)).filter(|&n| n <= MAX_EXTENT)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("pads {pads:?} make the result too large"))
}

fn transpose(perm: &[usize], x: &[usize]) -> Checked<Vec<usize>> {
    let mut seen = vec![false; x.len()];
    let valid =
        perm.len() == x.len() && perm.iter().all(|&p| p < x.len() && !std::mem::replace(&mut seen[p], true));
    if !valid {
        return Err(format!("{perm:?} is not a permutation of the {} axes of {x:?}", x.len()));
    }
    Ok(perm.iter().map(|&p| x[p]).collect())
}

fn depth_to_space(
    block: [usize; 2],
    crop: [usize; 2],
    x: &[usize],
    declared: &[usize],
) -> Checked<Vec<usize>> {
    let [n, c, h, w] = image(x)?;
    let [r, s] = block;
    if r == 0 || s == 0 || r > MAX_WINDOW || s > MAX_WINDOW || c % (r * s) != 0 {
        return Err(format!("{c} channels do not divide into blocks of {r}×{s}"));
    }
    let mut shape = vec![n, c / (r * s)];
    for (axis, full) in [h * r, w * s].into_iter().enumerate() {
        let most = full.checked_sub(crop[axis]).filter(|&n| n > 0);
        let most = most.ok_or_else(|| format!("a crop of {} leaves nothing of {full}", crop[axis]))?;
        shape.push(declared.get(axis + 2).copied().unwrap_or(most).clamp(1, most));
    }
    Ok(shape)
}

fn within(mut indices: impl Iterator<Item = u32>, extent: usize) -> Checked<()> {
    match indices.find(|&i| i as usize >= extent) {
        Some(i) => Err(format!("source index {i} lies outside 0..{extent}")),
        None => Ok(()),
    }
}
