//! Reading values out of memory after a run, where a plan's places say they lie.

use super::Place;
use qgraph_runtime::Dtype;
use qgraph_runtime::requant::dequantize;

/// Channels of a pixel that are read together: f32 that share a cache line.
const TOGETHER: usize = 16;

impl Place {
    /// The real values, dense and row-major in [`Place::shape`]. `memory` is the content of the place's space (the arena
    /// of the run, or an output's bytes). Panics if it is shorter than the verified plan said.
    pub fn read_f32(&self, memory: &[u8]) -> Vec<f32> {
        let (scale, zero_point) = self.affine;
        match self.dtype {
            Dtype::U8 => self.elements(|at| dequantize(memory[at], scale, zero_point)),
            Dtype::F32 => self.elements(|at| {
                let bytes = memory[at..].first_chunk().expect("the place lies in memory");
                f32::from_le_bytes(*bytes)
            }),
        }
    }

    /// The quantized values, likewise; `None` if the place holds f32.
    pub fn read_u8(&self, memory: &[u8]) -> Option<Vec<u8>> {
        (self.dtype == Dtype::U8).then(|| self.elements(|at| memory[at]))
    }

    /// `read` of each element's byte offset, row-major. Calibration reads every value of every sample.
    fn elements<T: Copy + Default>(&self, read: impl Fn(usize) -> T) -> Vec<T> {
        let mut out = vec![T::default(); self.shape.iter().product()];
        match (&self.shape[..], &self.strides[..]) {
            // Images: channels are neighbours in memory, but not in the result.
            (&[n, c, h, w], &[image, channel, row, pixel]) if channel < pixel => {
                for (n, first) in (0..n).flat_map(|n| (0..c).step_by(TOGETHER).map(move |c| (n, c))) {
                    let planes = &mut out[(n * c + first) * h * w..][..TOGETHER.min(c - first) * h * w];
                    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                        let at = self.ptr.offset + n * image + first * channel + y * row + x * pixel;
                        let elements = planes[y * w + x..].iter_mut().step_by(h * w);
                        elements.enumerate().for_each(|(k, to)| *to = read(at + k * channel));
                    }
                }
            }
            (shape, strides) => {
                for (index, to) in out.iter_mut().enumerate() {
                    let axes = shape.iter().zip(strides).rev();
                    let step = |(rest, at), (&n, &stride)| (rest / n, at + rest % n * stride);
                    *to = read(axes.fold((index, self.ptr.offset), step).1);
                }
            }
        }
        out
    }
}
