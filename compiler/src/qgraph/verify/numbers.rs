//! Rules for single numbers and for the contents of blobs.

use super::super::layout::{BLOCK, WeightLayout, WeightShape};
use super::super::shape::Checked;
use qgraph_runtime::requant::MULTIPLIER_RANGE;

/// Every f32 of a little-endian blob is finite.
pub(super) fn finite(bytes: &[u8]) -> bool {
    // All ones in the exponent: infinite or NaN. No early exit, so that it vectorises.
    const EXPONENT: u32 = 0x7f80_0000;
    bytes.as_chunks::<4>().0.iter().all(|c| u32::from_le_bytes(*c) & EXPONENT != EXPONENT)
}

/// `s` is a requantization multiplier: positive, within the range.
pub(super) fn multiplier(what: &str, s: f32) -> Checked<()> {
    match (MULTIPLIER_RANGE.0..=MULTIPLIER_RANGE.1).contains(&f64::from(s)) {
        true => Ok(()),
        false => Err(format!("{what} {s:e} lies outside 2^-64 to 2^8")),
    }
}

/// `k` is an offset of a requantization: finite, below 2^24.
pub(super) fn offset(what: &str, k: f32) -> Checked<()> {
    if k.abs() < (1u32 << 24) as f32 { Ok(()) } else { Err(format!("{what} {k} is not below 2^24")) }
}

/// `lo..=hi` is not empty; bounds may be infinite on their own side.
pub(super) fn clamp(lo: f32, hi: f32) -> Checked<()> {
    if lo <= hi && lo < f32::INFINITY && hi > f32::NEG_INFINITY {
        Ok(())
    } else {
        Err(format!("the clamp {lo}..={hi} is empty"))
    }
}

/// As [`clamp`], for bytes.
pub(super) fn clamp_u8(lo: u8, hi: u8) -> Checked<()> {
    if lo <= hi { Ok(()) } else { Err(format!("the clamp {lo}..={hi} is empty")) }
}

/// `x` is the value of a byte.
pub(super) fn byte(what: &str, x: f32) -> Checked<()> {
    if (0.0..=255.0).contains(&x) && x.fract() == 0.0 {
        Ok(())
    } else {
        Err(format!("{what} {x} is not an integer 0..=255"))
    }
}

/// Checks an i8 weight blob of the shape's size: values, and zeros where the layout only fills its blocks. Gives Σ|w| of
/// every output channel.
pub(super) fn weights_i8(shape: &WeightShape, bytes: &[u8]) -> Checked<Vec<u64>> {
    if bytes.contains(&0x80) {
        return Err("a weight is −128; weights are −127..=127".into());
    }
    let (channels, run) = match shape.layout {
        WeightLayout::Dense => (shape.co, shape.ci),
        WeightLayout::Row => (shape.co, shape.kernel[1] * shape.ci),
        WeightLayout::Depthwise => (shape.groups, shape.kernel[0]),
    };
    let blocks = channels.div_ceil(BLOCK);
    let (lines, _) = bytes.as_chunks::<{ 4 * BLOCK }>();
    let per_block = lines.len() / (blocks * outer(shape));
    let mut sums = Vec::with_capacity(channels * outer(shape));
    for (b, lines) in lines.chunks_exact(per_block).enumerate() {
        let lanes = (channels - b % blocks * BLOCK).min(BLOCK);
        let sum = block_i8(lines, lanes, run).ok_or(FILL)?;
        sums.extend(&sum[..lanes]);
    }
    Ok(sums)
}

/// Σ|w| of the 16 channels of one block; `None` if a filling byte is not zero. Each `run` of weights takes ceil(run/4) lines.
fn block_i8(lines: &[[u8; 4 * BLOCK]], lanes: usize, run: usize) -> Option<[u64; BLOCK]> {
    let steps = run.div_ceil(4);
    let mut total = [0u64; BLOCK];
    // A run at a time in 32 bits: at most 2^22 lines of 4·127.
    for run_lines in lines.chunks(steps.min(1 << 22)) {
        let mut sum = [0u32; BLOCK];
        for line in run_lines {
            for (s, w) in sum.iter_mut().zip(line.as_chunks::<4>().0) {
                *s += w.iter().map(|&x| u32::from((x as i8).unsigned_abs())).sum::<u32>();
            }
        }
        for (t, s) in total.iter_mut().zip(sum) {
            *t += u64::from(s);
        }
    }
    if total[lanes..].iter().any(|&s| s != 0) {
        return None;
    }
    let filled = (run - 1) % 4 + 1;
    let clean =
        |line: &[u8; 4 * BLOCK]| line.as_chunks::<4>().0.iter().all(|w| w[filled..].iter().all(|&x| x == 0));
    lines.iter().skip(steps - 1).step_by(steps).all(clean).then_some(total)
}

/// Checks an f32 weight blob of the shape's size: zeros in channels that only fill a block.
pub(super) fn weights_f32(shape: &WeightShape, bytes: &[u8]) -> Checked<()> {
    let channels = match shape.layout {
        WeightLayout::Dense | WeightLayout::Row => shape.co,
        WeightLayout::Depthwise => shape.groups,
    };
    let blocks = channels.div_ceil(BLOCK);
    let (lines, _) = bytes.as_chunks::<{ 4 * BLOCK }>();
    let per_block = lines.len() / (blocks * outer(shape));
    let lanes = channels - (blocks - 1) * BLOCK;
    let last_blocks = lines.chunks_exact(per_block).skip(blocks - 1).step_by(blocks);
    let clean = |line: &[u8; 4 * BLOCK]| line[4 * lanes..].iter().all(|&x| x == 0);
    if last_blocks.flatten().all(clean) { Ok(()) } else { Err(FILL.into()) }
}

const FILL: &str = "weights beyond the last channel are not zero";

/// Groups of blocks that the layout keeps apart.
fn outer(shape: &WeightShape) -> usize {
    match shape.layout {
        WeightLayout::Dense => shape.groups,
        WeightLayout::Row | WeightLayout::Depthwise => 1,
    }
}

/// 255·Σ|w| + |b| < 2^31 for every channel.
pub(super) fn accumulators(sums: &[u64], bias: &[i32]) -> Checked<()> {
    for (channel, (&sum, &b)) in sums.iter().zip(bias).enumerate() {
        let most = 255 * sum + u64::from(b.unsigned_abs());
        if most >= 1 << 31 {
            return Err(format!("the sum of channel {channel} can reach {most}, beyond 32 bits"));
        }
    }
    Ok(())
}
