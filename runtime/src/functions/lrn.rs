//! Local response normalization across channels, as ONNX defines it.

use super::{read, write};
use crate::math;

/// The attributes; `steps` are the bytes between channels of src, dst.
pub(super) struct Lrn {
    pub(super) channels: usize,
    pub(super) steps: [usize; 2],
    pub(super) size: usize,
    pub(super) alpha: f32,
    pub(super) beta: f32,
    pub(super) bias: f32,
}

impl Lrn {
    /// Normalizes every pixel of `outer` (rows, pixels); `outer_steps` are of src, dst. The sides do not overlap.
    ///
    /// # Safety
    /// Both sides hold all elements.
    pub(super) unsafe fn run(
        &self,
        outer: [usize; 2],
        outer_steps: [[usize; 2]; 2],
        src: *const u8,
        dst: *mut u8,
    ) {
        // The window of channel c: (size − 1)/2 channels before, rounded down, and the rest behind.
        let before = self.size.saturating_sub(1) / 2;
        let behind = self.size.saturating_sub(1) - before;
        for (row, pixel) in (0..outer[0]).flat_map(|r| (0..outer[1]).map(move |p| (r, p))) {
            let at = |side: usize| row * outer_steps[side][0] + pixel * outer_steps[side][1];
            for c in 0..self.channels {
                let window = c.saturating_sub(before)..(c + behind + 1).min(self.channels);
                // SAFETY: pixel and channels are within the extents that the caller vouches for.
                unsafe {
                    let x = |c: usize| read(src, at(0) + c * self.steps[0]);
                    let sum = window.fold(0.0, |sum, k| sum + x(k) * x(k));
                    let scale = self.bias + self.alpha / self.size as f32 * sum;
                    write(dst, at(1) + c * self.steps[1], x(c) / math::pow(scale, self.beta));
                }
            }
        }
    }
}
