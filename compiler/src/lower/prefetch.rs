//! Software prefetch of the weights that come next, so that no dot waits for a line from beyond the second-level cache.
//!
//! Weights lie in the file in the order in which a run reads them. While one panel of output channels is computed, its kernel asks for
//! the lines behind it: the next panel, and behind the last one the next layer's. A leaf (a straight run of k-steps) asks for a few
//! lines; the pointer moves with loops and grid so that all calls of a panel together cover the next one. A hint reads
//! nothing, so it may point anywhere.

use crate::target::{Isa, Target};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Most lines that one leaf asks for: more would fill the miss buffers.
const MOST: usize = 6;

/// What the calls of a panel ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Lines per leaf; 0 for none.
    pub(super) lines: usize,
    /// Bytes that the pointer moves per tile of a row, and per row.
    pub(super) tile: usize,
    pub(super) row: usize,
}

impl Ahead {
    /// Nothing is asked for.
    pub(super) const NONE: Ahead = Ahead { lines: 0, tile: 0, row: 0 };
}

/// Plans for a panel of `tiles × rows` calls of `leaves` leaves each, to cover `bytes` that come next.
pub(super) fn ahead(target: &Target, bytes: usize, leaves: usize, tiles: usize, rows: usize) -> Ahead {
    // What the first cache holds anyway needs no help; the interpreter's kernels stay plain.
    if target.isa == Isa::Portable || bytes == 0 {
        return Ahead::NONE;
    }
    let lines = bytes.div_ceil(LINE).div_ceil(leaves * tiles * rows).min(MOST);
    let call = lines * leaves * LINE;
    // Once the row, or the first rows, have asked for everything, the rest asks again for what is there.
    let tile = if call >= bytes { 0 } else { call };
    let row = if call * tiles >= bytes { 0 } else { call * tiles };
    Ahead { lines, tile, row }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_calls_together_cover_what_comes_next() {
        let target = Target::avx512vnni();
        for (bytes, leaves, tiles, rows) in [(294_912, 144, 7, 1), (65_536, 18, 8, 56), (4096, 1, 1, 14)] {
            let a = ahead(&target, bytes, leaves, tiles, rows);
            let reach = a.tile * (tiles - 1) + a.row * (rows - 1) + a.lines * leaves * LINE;
            assert!(reach >= bytes, "{bytes} bytes: {reach} covered by {a:?}");
        }
    }

    #[test]
    fn few_calls_ask_for_no_more_than_the_miss_buffers_hold() {
        assert_eq!(ahead(&Target::avx512vnni(), 1 << 20, 4, 1, 1).lines, MOST);
    }
}
