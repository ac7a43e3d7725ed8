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
use qgraph_runtime::requant::multiplier;

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

/// Multiplier of an integer average of `n` elements: ratio/n to 21 bits. `None` if it is out of range.
pub fn average_multiplier(ratio: f64, n: usize) -> Option<f32> {
    multiplier(ratio / n as f64)
}
