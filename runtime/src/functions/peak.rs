//! The largest magnitude of an image: what numbers are divided by whose range is known at run time only.

use super::{read, write};

/// Not less than this, so that everything can be divided by it: 2^-100.
const LEAST: f32 = f32::from_bits((127 - 100) << 23);

/// Maxima that need not wait for each other.
const LANES: usize = 16;

/// Largest |x| over rows of pixels of `channels` neighbours; NaN is passed over. The order does not matter: a maximum is exact.
///
/// # Safety
/// src holds all elements, dst one.
pub(super) unsafe fn run(
    outer: [usize; 2],
    outer_steps: [usize; 2],
    channels: usize,
    src: *const u8,
    dst: *mut u8,
) {
    // Pixels without a gap between them are a row of numbers.
    let dense = outer_steps[1] == 4 * channels;
    let (pixels, len) = if dense { (1, outer[1] * channels) } else { (outer[1], channels) };
    let mut most = [LEAST; LANES];
    for (row, pixel) in (0..outer[0]).flat_map(|r| (0..pixels).map(move |p| (r, p))) {
        let at = row * outer_steps[0] + pixel * outer_steps[1];
        for first in (0..len).step_by(LANES) {
            for (lane, most) in most.iter_mut().enumerate().take(len - first) {
                // SAFETY: element first + lane < len of a pixel within the extents that the caller vouches for.
                let x = unsafe { read(src, at + 4 * (first + lane)) }.abs();
                *most = if x > *most { x } else { *most };
            }
        }
    }
    // SAFETY: the caller vouches for one element.
    unsafe { write(dst, 0, most.into_iter().fold(LEAST, f32::max)) }
}
