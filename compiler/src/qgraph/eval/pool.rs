//! Maxima and averages over windows of [N, C, H, W].

use super::super::{QType, Window};
use super::{Data, Site};

/// The elements of a window: all that lie in `image` (of h × w), row by row, after `f(row positions, column positions)`.
struct Windows<'a> {
    window: &'a Window,
    extent: [usize; 2],
    result: [usize; 2],
}

impl<'a> Windows<'a> {
    fn new(window: &'a Window, shape: &[usize], result: &[usize]) -> Self {
        Windows { window, extent: [shape[2], shape[3]], result: [result[2], result[3]] }
    }

    /// Input coordinates along `axis` that the window at `position` sees.
    fn range(&self, axis: usize, position: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let Window { strides, dilations, pads, .. } = self.window;
        let (first, count) = self.window.taps_inside(axis, position, self.extent[axis]);
        let start = position * strides[axis] + first * dilations[axis] - pads[axis];
        (start..).step_by(dilations[axis]).take(count)
    }

    /// `f(elements of the window in row-major order, number to divide by)` for every image, row and column.
    fn map<T: Copy, R>(
        &self,
        x: &[T],
        include_pad: bool,
        mut f: impl FnMut(&mut dyn Iterator<Item = T>, usize) -> R,
    ) -> Vec<R> {
        let [h, w] = self.extent;
        let divisor = |axis, p| self.window.divisor(axis, p, self.extent[axis], include_pad);
        let mut out = Vec::with_capacity(x.len() / (h * w) * self.result[0] * self.result[1]);
        for image in x.chunks_exact(h * w) {
            for i in 0..self.result[0] {
                for j in 0..self.result[1] {
                    let cols = self.range(1, j);
                    let index = self.range(0, i).flat_map(|r| cols.clone().map(move |c| r * w + c));
                    out.push(f(&mut index.map(|o| image[o]), divisor(0, i) * divisor(1, j)));
                }
            }
        }
        out
    }
}

pub(super) fn max<T: Copy + PartialOrd>(
    x: &[T],
    shape: &[usize],
    window: &Window,
    result: &[usize],
) -> Vec<T> {
    Windows::new(window, shape, result).map(x, false, |xs, _| {
        let larger = |a, b| if a > b { a } else { b };
        xs.reduce(larger).expect("a window sees at least one element: verified")
    })
}

pub(super) fn average(site: &Site, window: &Window, include_pad: bool, ratio: f64) -> Data {
    let windows = Windows::new(window, site.shape(0), site.result());
    let zero = i32::from(site.scale(0).1);
    let sum = |xs: &mut dyn Iterator<Item = u8>| xs.map(|q| i32::from(q) - zero).sum::<i32>();
    match (site.data(0), site.graph.value(site.node.output).ty) {
        (Data::F32(x), _) => {
            Data::F32(windows.map(x, include_pad, |xs, n| xs.fold(0.0, |sum, x| sum + x) / n as f32))
        }
        (Data::U8(x), QType::U8 { zero_point, .. }) => Data::U8(windows.map(x, include_pad, |xs, n| {
            let m = site.graph.average_multiplier(site.node, ratio, n).expect("in range: verified");
            site.graph.rounding.requantize(sum(xs), m, zero_point, 0, 255)
        })),
        (Data::U8(x), QType::F32) => {
            Data::F32(windows.map(x, include_pad, |xs, n| sum(xs) as f32 * (ratio / n as f64) as f32))
        }
    }
}
