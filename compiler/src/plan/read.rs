//! Reading values out of memory after a run, where a plan's places say they lie.

use super::Place;
use qgraph_runtime::Dtype;
use qgraph_runtime::requant::dequantize;

impl Place {
    /// The real values, dense and row-major in [`Place::shape`]. `memory` is the content of the place's space (the arena
    /// of the run, or an output's bytes). Panics if it is shorter than the verified plan said.
    pub fn read_f32(&self, memory: &[u8]) -> Vec<f32> {
        let (scale, zero_point) = self.affine;
        match self.dtype {
            Dtype::U8 => self.elements(|at| dequantize(memory[at], scale, zero_point)),
            Dtype::F32 => self.elements(|at| {
                let bytes = [memory[at], memory[at + 1], memory[at + 2], memory[at + 3]];
                f32::from_le_bytes(bytes)
            }),
        }
    }

    /// The quantized values, likewise; `None` if the place holds f32.
    pub fn read_u8(&self, memory: &[u8]) -> Option<Vec<u8>> {
        (self.dtype == Dtype::U8).then(|| self.elements(|at| memory[at]))
    }

    /// `read` of each element's byte offset, row-major.
    fn elements<T>(&self, read: impl Fn(usize) -> T) -> Vec<T> {
        let mut out = Vec::with_capacity(self.shape.iter().product());
        // The innermost axis in a loop of its own: calibration reads every value of every sample.
        let (outer, inner, stride) = match (self.shape.split_last(), self.strides.last()) {
            (Some((&inner, outer)), Some(&stride)) => (outer, inner, stride),
            _ => (&[][..], 1, 0),
        };
        let mut index = vec![0; outer.len()];
        let mut at = self.ptr.offset;
        for _ in 0..outer.iter().product() {
            out.extend((0..inner).map(|k| read(at + k * stride)));
            for axis in (0..outer.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < outer[axis] {
                    break;
                }
                at -= self.strides[axis] * outer[axis];
                index[axis] = 0;
            }
        }
        out
    }
}
