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

/// Weight registers of a k-step. With one pixel the dot itself reads weights from memory, but for halves of words. More pixels never do: a Xeon
/// slows its clock by up to a tenth under so many loads of whole vectors, which costs more than the larger tile brings.
pub(super) fn weight_registers(dot: Dot, pixels: usize, vectors: usize) -> usize {
    match (dot, pixels) {
        (Dot::U8S8 | Dot::F32, 1) => 0,
        _ => vectors,
    }
}

/// Registers of a tile: accumulators, weights (later two constants of the epilogue), one input.
pub(super) fn registers(dot: Dot, pixels: usize, vectors: usize) -> usize {
    pixels * vectors + weight_registers(dot, pixels, vectors).max(2) + 1
}

/// Most blocks of a panel of maps of `pixels` pixels.
pub(super) fn most_blocks(target: &Target, pixels: usize) -> usize {
    let vectors = match pixels {
        // One pixel has no reuse of weights in registers: as many accumulators as hide the latency of a dot.
        1 => (target.registers / 3).max(4),
        // As much of a tile as fills the registers.
        _ if target.registers >= 32 => 4,
        _ => 2,
    };
    (vectors / (BLOCK / target.lanes)).max(1)
}

/// Cuts `blocks` blocks of output channels into panels of `width` blocks, the last of which may be smaller.
pub(super) fn panels(blocks: usize, width: usize) -> Vec<Panel> {
    let (count, rest) = (blocks / width, blocks % width);
    let mut panels = vec![Panel { block: 0, blocks: width, count }];
    panels.push(Panel { block: count * width, blocks: rest, count: 1 });
    panels.retain(|p| p.blocks * p.count > 0);
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

/// Cuts a row of `width` pixels into tiles of `pixels`, the last of which may be smaller.
pub(super) fn strips(width: usize, pixels: usize) -> Vec<Strip> {
    let (count, rest) = (width / pixels, width % pixels);
    let mut strips = vec![Strip { start: 0, pixels, count }];
    strips.push(Strip { start: width - rest, pixels: rest, count: 1 });
    strips.retain(|s| s.pixels * s.count > 0);
    strips
}

/// The sizes of tiles that may cut a row of `width` pixels, largest first, with the cost of the row, given that of a tile of some pixels.
pub(super) fn rows(width: usize, most: usize, mut tile: impl FnMut(usize) -> f64) -> Vec<(usize, f64)> {
    let most = most.min(width);
    // More than twice as many tiles as needed are never worth it.
    let sizes = (most.div_ceil(2)..=most).rev();
    sizes.map(|p| (p, strips(width, p).iter().map(|s| s.count as f64 * tile(s.pixels)).sum())).collect()
}

/// The tile of least cost, and that; of several the first.
pub(super) fn least(rows: &[(usize, f64)]) -> (usize, f64) {
    let first = rows[0];
    rows.iter().fold(first, |best, &r| if r.1 < best.1 { r } else { best })
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
        for all in 1..70 {
            for one in 1..=all {
                let mut next = 0;
                for p in panels(all, one) {
                    assert_eq!(p.block, next);
                    next += p.blocks * p.count;
                }
                assert_eq!(next, all);
                let mut next = 0;
                for s in strips(all, one) {
                    assert_eq!(s.start, next);
                    next += s.pixels * s.count;
                }
                assert_eq!(next, all);
            }
        }
    }

    #[test]
    fn every_panel_fits_the_registers() {
        let both = |t| [true, false].map(|integer| (Dot::of(&t, integer), t.clone()));
        for (dot, target) in Target::ALL.into_iter().flat_map(both) {
            for pixels in [1, 49] {
                let vectors = most_blocks(&target, pixels) * (BLOCK / target.lanes);
                assert!((1..=vectors).all(|v| registers(dot, 1, v) <= target.registers), "{dot:?}, {target}");
                assert!(registers(dot, most_pixels(&target, dot, vectors), vectors) <= target.registers);
            }
        }
    }

    #[test]
    fn rows_cost_what_their_tiles_do_and_the_largest_of_equals_is_taken() {
        let rows = rows(13, 7, |p| 10.0 + p as f64);
        assert_eq!(rows, [(7, 33.0), (6, 43.0), (5, 43.0), (4, 53.0)]);
        assert_eq!(least(&rows), (7, 33.0));
        assert_eq!(least(&super::rows(12, 8, |_| 1.0)), (8, 2.0));
    }

    #[test]
    fn the_avx512_tile_is_six_by_four() {
        let avx512 = Target::avx512vnni();
        assert_eq!((most_blocks(&avx512, 49), most_pixels(&avx512, Dot::U8S8, 4)), (4, 6));
    }

    #[test]
    fn the_avx2_tile_is_six_by_two() {
        let avx2 = Target::avx2();
        assert_eq!(most_blocks(&avx2, 196), 1);
        assert_eq!([Dot::Words, Dot::F32].map(|dot| most_pixels(&avx2, dot, 2)), [6, 6]);
    }
}
