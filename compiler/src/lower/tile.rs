//! How a convolution is cut into register tiles: pure functions of extents and registers.
//!
//! A tile is `pixels` output pixels by `vectors` vectors of output channels, all accumulated in registers.

use super::conv::Dot;
use crate::qgraph::layout::BLOCK;
use crate::target::Target;

/// Blocks of 16 output channels that one kernel computes together, starting at a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// First block.
    pub(super) block: usize,
    /// Blocks in one kernel call.
    pub(super) blocks: usize,
    /// How many calls of this kind follow each other.
    pub(super) count: usize,
}

/// Weight registers of a k-step. Halves of words are in registers. Otherwise, with one pixel, weights are read from memory by the dot itself;
/// with a full register file, the last vector is.
pub(super) fn weight_registers(dot: Dot, pixels: usize, vectors: usize) -> usize {
    match (dot, pixels, vectors) {
        (Dot::Words, ..) => vectors,
        (_, 1, _) => 0,
        (_, _, 4..) => vectors - 1,
        _ => vectors,
    }
}

/// Registers of a tile: accumulators, weights (later two constants of the epilogue), one input.
pub(super) fn registers(dot: Dot, pixels: usize, vectors: usize) -> usize {
    pixels * vectors + weight_registers(dot, pixels, vectors).max(2) + 1
}

/// Cuts `blocks` blocks of output channels into panels for maps of `pixels` pixels.
pub(super) fn panels(target: &Target, blocks: usize, pixels: usize) -> Vec<Panel> {
    let parts = BLOCK / target.lanes;
    let most = match pixels {
        // One pixel has no reuse of weights in registers: as many accumulators as hide the latency of a dot.
        1 => (target.registers / 3).max(4),
        // As much of a tile as fills the registers.
        _ if target.registers >= 32 => 4,
        _ => 2,
    } / parts;
    let most = most.max(1);
    let wide = (1..=most.min(blocks)).rev();
    // Prefer a width that divides: all panels equal. Never below half of what registers allow.
    let width =
        wide.clone().find(|w| blocks % w == 0 && 2 * w > most.min(blocks)).unwrap_or(most.min(blocks));
    let count = blocks / width;
    let mut panels = vec![Panel { block: 0, blocks: width, count }];
    if blocks % width > 0 {
        panels.push(Panel { block: count * width, blocks: blocks % width, count: 1 });
    }
    panels
}

/// A run of equal tiles along a row of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strip {
    /// First pixel.
    pub(super) start: usize,
    /// Pixels of a tile.
    pub(super) pixels: usize,
    /// Number of tiles.
    pub(super) count: usize,
}

/// Cuts a row of `width` pixels into tiles of at most `most` pixels so that the sum of tile costs is least.
pub(super) fn strips(dot: Dot, width: usize, most: usize, vectors: usize, steps: usize) -> Vec<Strip> {
    // Issue slots of a tile: a k-step, an epilogue, a call.
    let cost = |p: usize| {
        let step = match dot {
            // Two products and two sums for every dot, and the splits.
            Dot::Words => 4 * p * vectors + 2 * p + 3 * vectors,
            // Dots or loads, whichever is more, never below the latency of a dot chain.
            Dot::U8S8 | Dot::F32 => (p * vectors).max(p + vectors).max(6),
        };
        steps * step + 4 * p * vectors + 12
    };
    let total = |p: usize| width / p * cost(p) + if width % p > 0 { cost(width % p) } else { 0 };
    let best = (1..=most.min(width)).rev().min_by_key(|&p| total(p)).unwrap_or(1);
    let mut strips = vec![Strip { start: 0, pixels: best, count: width / best }];
    if width % best > 0 {
        strips.push(Strip { start: width / best * best, pixels: width % best, count: 1 });
    }
    strips
}

/// Most pixels a tile of `vectors` vectors may have.
pub(super) fn most_pixels(target: &Target, dot: Dot, vectors: usize) -> usize {
    let fits = |p: &usize| registers(dot, *p, vectors) <= target.registers;
    (1..=target.registers).take_while(fits).last().unwrap_or(1)
}

/// Name of a convolution kernel, in XNNPACK's habit.
pub(super) fn name(dot: Dot, kind: &str, pixels: usize, channels: usize, target: &Target) -> String {
    let types = match dot {
        Dot::U8S8 | Dot::Words => "u8s8",
        Dot::F32 => "f32",
    };
    format!("{kind}_{types}_{pixels}x{channels}_{}", target.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_everything_once() {
        let both = |t| [true, false].map(|integer| (Dot::of(&t, integer), t.clone()));
        for (dot, target) in Target::ALL.into_iter().flat_map(both) {
            for blocks in 1..70 {
                for pixels in [1, 49] {
                    let mut next = 0;
                    for p in panels(&target, blocks, pixels) {
                        assert_eq!(p.block, next);
                        next += p.blocks * p.count;
                        let v = p.blocks * (BLOCK / target.lanes);
                        assert!(
                            registers(dot, 1, v) <= target.registers,
                            "{blocks} blocks, {dot:?}, {target}"
                        );
                    }
                    assert_eq!(next, blocks);
                }
            }
            for width in 1..120 {
                let most = most_pixels(&target, dot, 4);
                let mut next = 0;
                for s in strips(dot, width, most, 4, 16) {
                    assert_eq!(s.start, next);
                    assert!(s.pixels <= most);
                    next += s.pixels * s.count;
                }
                assert_eq!(next, width);
            }
        }
    }

    #[test]
    fn the_avx512_tile_is_seven_by_four() {
        assert_eq!(most_pixels(&Target::avx512vnni(), Dot::U8S8, 4), 7);
        assert_eq!(strips(Dot::U8S8, 56, 7, 4, 16), [Strip { start: 0, pixels: 7, count: 8 }]);
    }

    #[test]
    fn the_avx2_tile_is_six_by_two() {
        let avx2 = Target::avx2();
        assert_eq!(panels(&avx2, 4, 196), [Panel { block: 0, blocks: 1, count: 4 }]);
        assert_eq!([Dot::Words, Dot::F32].map(|dot| most_pixels(&avx2, dot, 2)), [6, 6]);
    }
}
