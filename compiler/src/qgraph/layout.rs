//! How weights lie in their blobs: "ready to execute", the same bytes for every instruction set.
//!
//! A *k-step* is what one dot instruction takes from the input: 4 bytes, that is 4 channels of u8 or 1 of f32.
//! All layouts store, for each k-step, a 64-byte line: 16 output channels × 4 bytes.
//!
//! - **Dense** (any convolution that is not depthwise): `[groups][ceil(co_g/16)][taps][steps][16][q]` with q = 4 i8 or 1 f32,
//!   steps = ceil(ci_g/q), taps = kh·kw in row-major order. Missing channels are zero.
//! - **Row** (u8 with ci·groups ≤ 3, dilation 1 horizontally, one group: the first layer of an image network):
//!   one kernel row is kw·ci contiguous bytes of an image without channel padding, cut in 4-byte steps:
//!   `[ceil(co/16)][kh][ceil(kw·ci/4)][16][4]`.
//! - **Depthwise** (groups = C = M > 1), i8: four vertical taps per step: `[ceil(C/16)][kw][ceil(kh/4)][16][4]`, byte t of a step in
//!   vertical tap group g being row 4g + t. f32: `[ceil(C/16)][kh·kw][16]`.

use super::Window;

/// Output channels per block of weights.
pub const BLOCK: usize = 16;

/// Which of the layouts a convolution's weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// Blocks of channels for every tap.
    Dense,
    /// Whole kernel rows of an image with 1 to 3 channels.
    Row,
    /// One input channel per output channel.
    Depthwise,
}

/// Geometry of a weight blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightShape {
    /// Which layout.
    pub layout: WeightLayout,
    /// i8 (true) or f32.
    pub integer: bool,
    /// Output channels per group.
    pub co: usize,
    /// Input channels per group.
    pub ci: usize,
    /// Kernel height, width.
    pub kernel: [usize; 2],
    /// Groups.
    pub groups: usize,
}

impl WeightShape {
    /// The layout that a convolution of `channels` → `outputs` over `groups` has.
    /// `image` says that its input is a network input of at most 3 channels stored without padding.
    pub fn of(integer: bool, channels: usize, outputs: usize, groups: usize, window: &Window) -> Self {
        let layout = if groups > 1 && groups == channels && groups == outputs {
            WeightLayout::Depthwise
        } else if integer && groups == 1 && channels <= 3 && window.dilations[1] == 1 {
            WeightLayout::Row
        } else {
            WeightLayout::Dense
        };
        WeightShape {
            layout,
            integer,
            co: outputs / groups,
            ci: channels / groups,
            kernel: window.kernel,
            groups,
        }
    }

    /// Extents of the blob, outermost first.
    pub fn dims(&self) -> Vec<usize> {
        let q = if self.integer { 4 } else { 1 };
        let [kh, kw] = self.kernel;
        match self.layout {
            WeightLayout::Dense => {
                vec![self.groups, self.co.div_ceil(BLOCK), kh * kw, self.ci.div_ceil(q), BLOCK, q]
            }
            WeightLayout::Row => vec![self.co.div_ceil(BLOCK), kh, (kw * self.ci).div_ceil(4), BLOCK, 4],
            WeightLayout::Depthwise if self.integer => {
                vec![self.groups.div_ceil(BLOCK), kw, kh.div_ceil(4), BLOCK, 4]
            }
            WeightLayout::Depthwise => vec![self.groups.div_ceil(BLOCK), kh * kw, BLOCK],
        }
    }

    /// Elements of the blob.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows an i8 blob line by line: the four weights that a line holds for an output channel (over all groups).
    pub fn each_line(&self, blob: &[u8], mut see: impl FnMut(usize, &[u8])) {
        // A depthwise blob holds all groups as the channels of one.
        let channels = match self.layout {
            WeightLayout::Dense | WeightLayout::Row => self.co,
            WeightLayout::Depthwise => self.groups,
        };
        let per_group = channels.div_ceil(BLOCK);
        let groups = if self.layout == WeightLayout::Dense { self.groups } else { 1 };
        let block_bytes = self.len() / (groups * per_group);
        for (block, bytes) in blob.chunks_exact(block_bytes).enumerate() {
            let (group, first) = (block / per_group, block % per_group * BLOCK);
            let lanes = BLOCK.min(channels - first);
            for line in bytes.chunks_exact(4 * BLOCK) {
                for (lane, weights) in line.chunks_exact(4).take(lanes).enumerate() {
                    see(group * channels + first + lane, weights);
                }
            }
        }
    }

    /// Position in the blob of the weight for output channel `m` (over all groups), input channel `c` of its group, row `y`,
    /// column `x`.
    pub fn index(&self, m: usize, c: usize, y: usize, x: usize) -> usize {
        let [kh, kw] = self.kernel;
        match self.layout {
            WeightLayout::Dense => {
                let q = if self.integer { 4 } else { 1 };
                let (g, m) = (m / self.co, m % self.co);
                let (blocks, steps) = (self.co.div_ceil(BLOCK), self.ci.div_ceil(q));
                let line = ((g * blocks + m / BLOCK) * kh * kw + y * kw + x) * steps + c / q;
                (line * BLOCK + m % BLOCK) * q + c % q
            }
            WeightLayout::Row => {
                let (steps, k) = ((kw * self.ci).div_ceil(4), x * self.ci + c);
                let line = (m / BLOCK * kh + y) * steps + k / 4;
                (line * BLOCK + m % BLOCK) * 4 + k % 4
            }
            WeightLayout::Depthwise if self.integer => {
                let line = (m / BLOCK * kw + x) * kh.div_ceil(4) + y / 4;
                (line * BLOCK + m % BLOCK) * 4 + y % 4
            }
            WeightLayout::Depthwise => (m / BLOCK * kh * kw + y * kw + x) * BLOCK + m % BLOCK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_every_weight_of_its_channel() {
        let window = |kernel| Window { kernel, strides: [1, 1], dilations: [1, 1], pads: [0; 4] };
        for (channels, outputs, groups, kernel) in
            [(20, 37, 1, [3, 2]), (3, 18, 1, [7, 7]), (40, 40, 40, [5, 3]), (12, 30, 3, [1, 1])]
        {
            let shape = WeightShape::of(true, channels, outputs, groups, &window(kernel));
            let weight =
                |m: usize, c: usize, y: usize, x: usize| (m * 31 + c * 7 + y * 5 + x * 3) as u8 % 90 + 1;
            let (mut blob, mut expected) = (vec![0; shape.len()], vec![0u64; outputs]);
            for m in 0..outputs {
                for (c, y, x) in (0..shape.ci)
                    .flat_map(|c| (0..kernel[0]).flat_map(move |y| (0..kernel[1]).map(move |x| (c, y, x))))
                {
                    blob[shape.index(m, c, y, x)] = weight(m, c, y, x);
                    expected[m] += u64::from(weight(m, c, y, x));
                }
            }
            let mut found = vec![0u64; outputs];
            shape.each_line(&blob, |m, w| found[m] += w.iter().map(|&w| u64::from(w)).sum::<u64>());
            assert_eq!(found, expected, "{shape:?}");
        }
    }
}
