//! Bilinear resize: along columns first, then along rows.

use super::{Tap, read, write};
use crate::requant::fma;

/// Resizes to `output` (rows, columns); `strides` (rows, pixels, channels) are of src, dst. Indices of taps beyond `input` are taken as its last.
///
/// # Safety
/// Both sides hold all elements, and `taps` point to as many taps as there are output rows, columns.
pub(super) unsafe fn run(
    output: [usize; 2],
    channels: usize,
    strides: [[usize; 3]; 2],
    input: [usize; 2],
    src: *const u8,
    dst: *mut u8,
    taps: [*const Tap; 2],
) {
    let index = |i: u32, axis: usize| (i as usize).min(input[axis].saturating_sub(1)) * strides[0][axis];
    for (row, col) in (0..output[0]).flat_map(|r| (0..output[1]).map(move |c| (r, c))) {
        // SAFETY: there is a tap for every output row and column.
        let (r, c) = unsafe { (taps[0].add(row).read_unaligned(), taps[1].add(col).read_unaligned()) };
        for channel in 0..channels {
            // SAFETY: indices are cut to the input's extents, and the output's are the loops'.
            unsafe {
                let at = |r: u32, c: u32| read(src, index(r, 0) + index(c, 1) + channel * strides[0][2]);
                let mix = |a: f32, b: f32, frac: f32| fma(b - a, frac, a);
                let top = mix(at(r.lo, c.lo), at(r.lo, c.hi), c.frac);
                let bottom = mix(at(r.hi, c.lo), at(r.hi, c.hi), c.frac);
                let to = row * strides[1][0] + col * strides[1][1] + channel * strides[1][2];
                write(dst, to, mix(top, bottom, r.frac));
            }
        }
    }
}
