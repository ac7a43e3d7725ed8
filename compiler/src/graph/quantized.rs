//! What a model that is quantized already says about its numbers: the grids that values are rounded to, the integers behind constants.
//!
//! In: scales and zero points of the model. Out: [`Grid`] and [`Integers`], which operators and constants carry to quantization. Holds: the
//! graph stays one of real numbers; what stands here only says on which of them its values lie.

use qgraph_runtime::requant;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// An affine u8 grid: real = scale · (q − zero), q in 0..=255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of neighbours: finite, normal, > 0.
    pub scale: f32,
    /// The q of real 0.
    pub zero: u8,
}

impl Grid {
    /// Rounds a real number to the grid, as the operator Quantize of the integer graph does.
    pub fn quantize(self, x: f32) -> u8 {
        requant::quantize(x, 1.0 / self.scale, self.zero)
    }

    /// The real number of a grid point.
    pub fn dequantize(self, q: u8) -> f32 {
        requant::dequantize(q, self.scale, self.zero)
    }

    /// The grid point nearest to a real number, as a real number.
    pub fn round(self, x: f32) -> f32 {
        self.dequantize(self.quantize(x))
    }
}

impl Display for Grid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "scale {:?} zero {}", self.scale, self.zero)
    }
}

/// The integers that a constant stands for: element i is `q[i] · step(i)`, up to the rounding of the product. The order is that of the
/// elements, so a reshape changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    /// One for each element, zero point taken off.
    pub q: Arc<[i32]>,
    /// Positive and finite; they repeat, each for `inner` elements in a row.
    steps: Arc<[f32]>,
    inner: usize,
}

impl Integers {
    /// Integers with a step for each index of an axis, behind which tensors of `inner` elements stand; one step for all is an axis of extent 1.
    pub fn new(q: impl Into<Arc<[i32]>>, steps: impl Into<Arc<[f32]>>, inner: usize) -> Self {
        Integers { q: q.into(), steps: steps.into(), inner: inner.max(1) }
    }

    /// Integers with a step for each, all of a tensor of `shape`.
    pub fn of_elements(q: impl Into<Arc<[i32]>>, steps: &[f32], shape: &[usize]) -> Self {
        let mut inner = steps.len();
        for &extent in shape {
            inner /= extent.max(1);
            let axis: Vec<f32> = steps.iter().copied().step_by(inner.max(1)).take(extent).collect();
            if steps.iter().enumerate().all(|(i, s)| *s == axis[i / inner.max(1) % axis.len().max(1)]) {
                return Integers::new(q, axis, inner);
            }
        }
        Integers::new(q, steps, 1)
    }

    /// The step of element `i`.
    pub fn step(&self, i: usize) -> f32 {
        self.steps[i / self.inner % self.steps.len()]
    }

    /// The one step of all elements, if it is one.
    pub fn uniform_step(&self) -> Option<f32> {
        self.steps.first().copied().filter(|first| self.steps.iter().all(|s| s == first))
    }

    /// The integers at each of `indices` (all below the count), in a new tensor of `shape` that they fill.
    pub fn pick(&self, shape: &[usize], indices: &[usize]) -> Integers {
        let q: Vec<i32> = indices.iter().map(|&i| self.q[i]).collect();
        let steps: Vec<f32> = indices.iter().map(|&i| self.step(i)).collect();
        Integers::of_elements(q, &steps, shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_their_elements() {
        let integers = Integers::new(vec![1, 2, 3, 4, 5, 6], vec![0.5, 2.0], 3);
        assert_eq!((0..6).map(|i| integers.step(i)).collect::<Vec<_>>(), [0.5, 0.5, 0.5, 2.0, 2.0, 2.0]);
        // Transposed, they run along the other axis; a slice of one row has one.
        let turned = integers.pick(&[3, 2], &[0, 3, 1, 4, 2, 5]);
        assert_eq!((&turned.q[..], turned.step(1), turned.step(2)), (&[1, 4, 2, 5, 3, 6][..], 2.0, 0.5));
        assert_eq!(integers.pick(&[1, 3], &[3, 4, 5]).uniform_step(), Some(2.0));
        assert_eq!(integers.uniform_step(), None);
        assert_eq!(integers.pick(&[3], &[0, 4, 2]).step(1), 2.0);
    }
}
