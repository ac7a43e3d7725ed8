//! The mode `mse`: the range whose errors of rounding and clipping have the least mean square.
//!
//! Within the range an element is off by half a step of the grid at most, evenly: a twelfth of the step's square on the mean; 0 is exact. An
//! element beyond is off by what it is beyond. Both ends are chosen together, for the step depends on both.

use super::Range;
use super::histogram::Histogram;

/// Steps of the grid.
const STEPS: f64 = 255.0;

/// Ends that are tried on either side: so many parts of the way to the observed one.
const PARTS: usize = 256;

/// The range of this mode.
pub(super) fn range(h: &Histogram, observed: Range) -> Range {
    let negative = Side::new(&h.negative, h.width(), -f64::from(observed.min.min(0.0)));
    let positive = Side::new(&h.positive, h.width(), f64::from(observed.max.max(0.0)));
    let inside = (h.total() - h.zeros) as f64;
    let mut best = (f64::INFINITY, 0.0, 0.0);
    for &(min, below) in &negative.ends {
        for &(max, above) in &positive.ends {
            let step = (min + max) / STEPS;
            let error = inside * step * step / 12.0 + below + above;
            // Of equals the first: ends come from the far ones inwards.
            if error < best.0 {
                best = (error, min, max);
            }
        }
    }
    // What lies on one side of 0 alone keeps its end there.
    Range { min: observed.min.max(-best.1 as f32), max: observed.max.min(best.2 as f32) }
}

/// The bins of one sign.
struct Side {
    /// Magnitudes at which the range may end, with the sum of squares of what lies beyond; the observed one first.
    ends: Vec<(f64, f64)>,
}

impl Side {
    fn new(bins: &[u64], width: f64, observed: f64) -> Self {
        let mut side = Side { ends: vec![(observed, 0.0)] };
        let Some(last) = bins.iter().rposition(|&c| c > 0) else { return side };
        // Of what lies in bins from `bin` on: count, sum and sum of squares of the magnitudes.
        let (mut bin, mut beyond) = (last + 1, [0.0f64; 3]);
        for part in (1..PARTS).rev() {
            let to = (last + 1) * part / PARTS;
            while bin > to {
                bin -= 1;
                let (count, x) = (bins[bin] as f64, (bin as f64 + 0.5) * width);
                beyond.iter_mut().zip([count, count * x, count * x * x]).for_each(|(b, t)| *b += t);
            }
            let end = to as f64 * width;
            let [count, sum, squares] = beyond;
            if end < observed {
                side.ends.push((end, (squares - 2.0 * end * sum + end * end * count).max(0.0)));
            }
        }
        side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &[f32]) -> Range {
        let fold = |f: fn(f32, f32) -> f32| data.iter().copied().reduce(f).unwrap();
        let (observed, mut h) = (Range { min: fold(f32::min), max: fold(f32::max) }, Histogram::new());
        h.add(data, observed.max.abs().max(observed.min.abs()));
        range(&h, observed)
    }

    /// Mean square error on the grid of a range.
    fn error(data: &[f32], range: Range) -> f64 {
        let (min, max) = (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0)));
        let step = (max - min) / STEPS;
        let zero = (-min / step).round();
        let of = |x: f32| {
            let q = (f64::from(x) / step + zero).round().clamp(0.0, STEPS);
            ((q - zero) * step - f64::from(x)).powi(2)
        };
        data.iter().map(|&x| of(x)).sum::<f64>() / data.len() as f64
    }

    #[test]
    fn cuts_outliers_where_that_pays() {
        // Sums of three: a bell from −1.5 to 1.5. Then with an outlier.
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        };
        let mut data: Vec<f32> = (0..64_000).map(|_| random() + random() + random() - 1.5).collect();
        let plain = of(&data);
        assert!(plain.min <= -1.3 && plain.max >= 1.3, "{plain:?}");
        data.push(9.0);
        let cut = of(&data);
        assert!(cut.max < 9.0 && cut.min <= -1.3, "{cut:?}");
        let found = error(&data, cut);
        // No other end does better, by more than the model of the error is off.
        for max in (1..=90).map(|k| k as f32 / 10.0) {
            assert!(found <= 1.05 * error(&data, Range { max, ..cut }), "{cut:?}, {max}");
        }
    }

    #[test]
    fn ranges_stay_within_what_was_observed() {
        for constant in [0.0, 1.5, -2.0, 1e-40, 3e38] {
            assert_eq!(of(&[constant; 9]), Range { min: constant, max: constant });
        }
        // Mostly zeros, which any grid holds.
        let mut sparse = vec![0.0; 1_000_000];
        sparse.extend([1.0, 2.0, 3.0]);
        assert_eq!(of(&sparse), Range { min: 0.0, max: 3.0 });
        let most = of(&[2.0, 2.5, 3.0]);
        assert!(most.min == 2.0 && most.max == 3.0, "{most:?}");
    }
}
