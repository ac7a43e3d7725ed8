//! The closed list of whole-tensor functions that a plan may call instead of kernels: where generated code would
//! gain nothing. All but the last are f32. Each states its pointers; extents and strides are in its fields.
//!
//! Plans call [`Function::run`], evaluators [`Function::run_on`]: one implementation, so all engines give the same bits.

mod lookup;
mod lrn;
mod peak;
mod resize;
mod softmax;
#[cfg(test)]
mod tests;
mod unary;

pub use unary::Unary;

/// Source of one output coordinate of a linear interpolation: `x[lo] + frac·(x[hi] − x[lo])`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(C)]
pub struct Tap {
    /// Lower index.
    pub lo: u32,
    /// Upper index.
    pub hi: u32,
    /// Weight of the upper one, 0..=1.
    pub frac: f32,
}

/// A function with its extents. Strides are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// `dst[r][i] = f(src[r][i])`. Pointers: src, dst (may be equal).
    Unary {
        /// f.
        unary: Unary,
        /// Number of rows.
        rows: usize,
        /// Contiguous f32 elements of a row.
        len: usize,
        /// Bytes between rows of src.
        src_stride: usize,
        /// Bytes between rows of dst.
        dst_stride: usize,
    },
    /// Softmax along an axis of `len` elements, for every point of a three-dimensional outer range. Pointers: src, dst.
    Softmax {
        /// Extents of the outer range.
        outer: [usize; 3],
        /// Their strides in src.
        src_outer: [usize; 3],
        /// Their strides in dst.
        dst_outer: [usize; 3],
        /// Elements along the axis.
        len: usize,
        /// Stride along the axis in src.
        src_stride: usize,
        /// Stride along the axis in dst.
        dst_stride: usize,
    },
    /// Local response normalization across channels. Pointers: src, dst.
    Lrn {
        /// Rows of pixels, pixels in a row.
        outer: [usize; 2],
        /// Bytes between rows, pixels in src.
        src_outer: [usize; 2],
        /// Bytes between rows, pixels in dst.
        dst_outer: [usize; 2],
        /// Channels.
        channels: usize,
        /// Bytes between channels of src, dst.
        steps: [usize; 2],
        /// Channels in the sum.
        size: usize,
        /// Scale of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added to the sum.
        bias: f32,
    },
    /// The largest |x| of an image, at least 2^-100; NaN is passed over. Pointers: src, dst (one f32).
    Peak {
        /// Rows of pixels, pixels in a row.
        outer: [usize; 2],
        /// Bytes between rows, pixels.
        src_outer: [usize; 2],
        /// Channels; neighbours in a pixel.
        channels: usize,
    },
    /// Bilinear resize. Pointers: src, dst, row taps ([`Tap`] × output rows), column taps.
    ResizeLinear {
        /// Output rows, columns.
        output: [usize; 2],
        /// Channels.
        channels: usize,
        /// Bytes between rows, pixels, channels in src.
        src_strides: [usize; 3],
        /// Bytes between rows, pixels, channels in dst.
        dst_strides: [usize; 3],
        /// Rows, columns of src: every tap lies below.
        input: [usize; 2],
    },
    /// `dst = tables[channel][src]`, bytes. Pointers: src, dst (may be equal), tables (256 bytes for each channel).
    Lookup {
        /// Rows of pixels, pixels in a row.
        outer: [usize; 2],
        /// Bytes between rows, pixels in src.
        src_outer: [usize; 2],
        /// Bytes between rows, pixels in dst.
        dst_outer: [usize; 2],
        /// Channels; neighbours in a pixel.
        channels: usize,
    },
}

impl Function {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Function::Unary { .. } => "unary",
            Function::Softmax { .. } => "softmax",
            Function::Lrn { .. } => "lrn",
            Function::Peak { .. } => "peak",
            Function::ResizeLinear { .. } => "resize_linear",
            Function::Lookup { .. } => "lookup",
        }
    }

    /// Number of pointers.
    pub fn args(&self) -> usize {
        match self {
            Function::Unary { .. }
            | Function::Softmax { .. }
            | Function::Lrn { .. }
            | Function::Peak { .. } => 2,
            Function::Lookup { .. } => 3,
            Function::ResizeLinear { .. } => 4,
        }
    }

    /// Bytes read and bytes written from pointer `arg` on, at most.
    pub fn footprint(&self, arg: usize) -> (usize, usize) {
        let reach = |n: &[usize], strides: &[usize], last: usize| {
            let step = |sum: usize, (n, s): (&usize, &usize)| {
                sum.saturating_add(n.saturating_sub(1).saturating_mul(*s))
            };
            n.iter().zip(strides).fold(last, step)
        };
        let (src, dst) = match self {
            Function::Unary { rows, len, src_stride, dst_stride, .. } => {
                let row = len.saturating_mul(4);
                (reach(&[*rows], &[*src_stride], row), reach(&[*rows], &[*dst_stride], row))
            }
            Function::Softmax { outer, src_outer, dst_outer, len, src_stride, dst_stride } => (
                reach(outer, src_outer, reach(&[*len], &[*src_stride], 4)),
                reach(outer, dst_outer, reach(&[*len], &[*dst_stride], 4)),
            ),
            Function::Lrn { outer, src_outer, dst_outer, channels, steps, .. } => {
                let last = |step| reach(&[*channels], &[step], 4);
                (reach(outer, src_outer, last(steps[0])), reach(outer, dst_outer, last(steps[1])))
            }
            Function::Peak { outer, src_outer, channels } => {
                (reach(outer, src_outer, channels.saturating_mul(4)), 4)
            }
            Function::ResizeLinear { output, channels, src_strides, dst_strides, input } => match arg {
                2 | 3 => return (output[arg - 2].saturating_mul(size_of::<Tap>()), 0),
                _ => {
                    let map = |n: &[usize; 2], s: &[usize; 3]| reach(&[n[0], n[1], *channels], s, 4);
                    (map(input, src_strides), map(output, dst_strides))
                }
            },
            Function::Lookup { outer, src_outer, dst_outer, channels } => match arg {
                2 => return (256 * channels, 0),
                _ => (reach(outer, src_outer, *channels), reach(outer, dst_outer, *channels)),
            },
        };
        if arg == 0 { (src, 0) } else { (0, dst) }
    }

    /// Runs on one pointer per argument.
    ///
    /// # Safety
    /// As many pointers as [`Function::args`] says, of any alignment, and from each the bytes of [`Function::footprint`] are valid.
    pub unsafe fn run(&self, args: &[*mut u8]) {
        debug_assert_eq!(args.len(), self.args());
        let (src, dst) = (args[0].cast_const(), args[1]);
        // SAFETY: the caller vouches for the footprints, which are what these functions touch.
        unsafe {
            match self {
                Function::Unary { unary, rows, len, src_stride, dst_stride } => {
                    unary::run(*unary, [*rows, *len], [*src_stride, *dst_stride], src, dst);
                }
                Function::Softmax { outer, src_outer, dst_outer, len, src_stride, dst_stride } => {
                    let steps = [*src_stride, *dst_stride];
                    softmax::run(*outer, [*src_outer, *dst_outer], *len, steps, src, dst);
                }
                Function::Lrn { outer, src_outer, dst_outer, channels, steps, size, alpha, beta, bias } => {
                    let lrn = lrn::Lrn {
                        channels: *channels,
                        steps: *steps,
                        size: *size,
                        alpha: *alpha,
                        beta: *beta,
                        bias: *bias,
                    };
                    lrn.run(*outer, [*src_outer, *dst_outer], src, dst);
                }
                Function::Peak { outer, src_outer, channels } => {
                    peak::run(*outer, *src_outer, *channels, src, dst);
                }
                Function::ResizeLinear { output, channels, src_strides, dst_strides, input } => {
                    let taps = [args[2].cast_const().cast(), args[3].cast_const().cast()];
                    resize::run(*output, *channels, [*src_strides, *dst_strides], *input, src, dst, taps);
                }
                Function::Lookup { outer, src_outer, dst_outer, channels } => {
                    let tables = args[2].cast_const();
                    lookup::run(*outer, [*src_outer, *dst_outer], *channels, src, dst, tables);
                }
            }
        }
    }

    /// Runs on slices: the form for evaluators, of functions on f32. `taps` are the rows' and columns' taps of a resize, empty for anything else.
    ///
    /// # Panics
    /// If a slice is shorter than the function's footprint.
    pub fn run_on(&self, src: &[f32], dst: &mut [f32], taps: [&[Tap]; 2]) {
        assert!(self.footprint(0).0 <= size_of_val(src) && self.footprint(1).1 <= size_of_val(dst));
        let mut args = [
            src.as_ptr().cast::<u8>().cast_mut(),
            dst.as_mut_ptr().cast(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
        ];
        if self.args() == 4 {
            for (k, taps) in taps.iter().enumerate() {
                assert!(self.footprint(2 + k).0 <= size_of_val(*taps));
                args[2 + k] = taps.as_ptr().cast::<u8>().cast_mut();
            }
        }
        // SAFETY: every slice holds the footprint of its pointer, as just checked.
        unsafe { self.run(&args[..self.args()]) }
    }
}

/// Reads an f32 at a byte offset.
///
/// # Safety
/// The four bytes are valid.
unsafe fn read(p: *const u8, at: usize) -> f32 {
    // SAFETY: vouched for by the caller.
    unsafe { p.add(at).cast::<f32>().read_unaligned() }
}

/// Writes an f32 at a byte offset.
///
/// # Safety
/// The four bytes are valid.
unsafe fn write(p: *mut u8, at: usize, x: f32) {
    // SAFETY: vouched for by the caller.
    unsafe { p.add(at).cast::<f32>().write_unaligned(x) }
}
