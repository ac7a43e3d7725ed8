//! Softmax: exp(x − max) over their sum, the sum in index order.

use super::{read, write};
use crate::math;

/// Softmax along `len` elements for every point of `outer`. Pairs are of src, dst; all steps in bytes.
///
/// # Safety
/// Both sides hold all elements.
pub(super) unsafe fn run(
    outer: [usize; 3],
    outer_steps: [[usize; 3]; 2],
    len: usize,
    steps: [usize; 2],
    src: *const u8,
    dst: *mut u8,
) {
    let at = |side: usize, p: [usize; 3]| (0..3).map(|k| p[k] * outer_steps[side][k]).sum::<usize>();
    let points =
        (0..outer[0]).flat_map(|a| (0..outer[1]).flat_map(move |b| (0..outer[2]).map(move |c| [a, b, c])));
    for p in points {
        let (from, to) = (at(0, p), at(1, p));
        // SAFETY: the point and all its elements are within the extents that the caller vouches for.
        unsafe {
            let max = (0..len).map(|i| read(src, from + i * steps[0])).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for i in 0..len {
                let e = math::exp(read(src, from + i * steps[0]) - max);
                sum += e;
                write(dst, to + i * steps[1], e);
            }
            for i in 0..len {
                let e = read(dst, to + i * steps[1]);
                write(dst, to + i * steps[1], e / sum);
            }
        }
    }
}
