//! The mode `entropy`: MXNet's search for the symmetric threshold whose grid tells least of a lie about the distribution.
//!
//! A candidate is a window of 2i + 1 bins around the centre. P are its counts, with all that lies outside added to its ends; Q is what a grid
//! of so many levels keeps of them, each level's count spread evenly over its bins that hold something. Empty bins get ε in both, for
//! the divergence of P from Q, Σ P·ln(P/Q), has no zeros. The first candidate with the least divergence wins.
//!
//! MXNet sums every bin of every window in f32. Here sums over bins are differences of prefix sums in f64, so that a candidate costs as
//! much as the grid has levels. Zeros, which rectified values are full of, do not count ([`range`]). Where MXNet's histograms grow without
//! bound, here bins merge ([`super::histogram`]); a value that is constant, or 0 at first, has a range too.

use super::Range;
use super::histogram::Histogram;

/// What an empty bin counts as.
const EPSILON: f64 = 1e-4;

/// The result of [`entropy_threshold`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The window reaches so many bins from the centre bin to either side.
    pub reach: usize,
    /// Of P from Q; infinite if no window has any.
    pub divergence: f64,
}

/// Finds the best threshold for a histogram of `2n + 1` bins around 0 on a grid of `levels`: 255, or 511 where nothing is negative and
/// the negative half of the grid would be lost. (What this module is for is [`super::Mode::Entropy`]; this is the heart of it, in
/// the terms of MXNet's operator.) Without bins for all levels, all bins are in the window.
pub fn entropy_threshold(counts: &[u64], levels: usize) -> Threshold {
    let least = |best: Threshold, t: Threshold| if t.divergence < best.divergence { t } else { best };
    candidates(counts, levels)
        .into_iter()
        .reduce(least)
        .unwrap_or(Threshold { reach: counts.len() / 2, divergence: f64::INFINITY })
}

/// All windows that are tried, from the narrowest on.
fn candidates(counts: &[u64], levels: usize) -> Vec<Threshold> {
    let (centre, first) = (counts.len() / 2, levels / 2);
    if levels == 0 || centre < first {
        return Vec::new();
    }
    let sums = Sums::new(counts);
    let divergence = |reach| sums.divergence(centre - reach, centre + reach, levels);
    (first..=centre).map(|reach| Threshold { reach, divergence: divergence(reach) }).collect()
}

/// The range of this mode.
pub(super) fn range(h: &Histogram, observed: Range) -> Range {
    let (counts, levels) = around_zero(h, observed);
    let found = entropy_threshold(&counts, levels);
    if found.reach == counts.len() / 2 {
        return observed;
    }
    let end = threshold(h, found.reach) as f32;
    observed.within(Range { min: (-end).min(observed.max), max: end.max(observed.min) })
}

/// The divergence of every threshold that this mode tries, by threshold.
pub(super) fn curve(h: &Histogram, observed: Range) -> Vec<(f64, f64)> {
    let (counts, levels) = around_zero(h, observed);
    candidates(&counts, levels).into_iter().map(|t| (threshold(h, t.reach), t.divergence)).collect()
}

/// The end of a window that reaches so many bins.
fn threshold(h: &Histogram, reach: usize) -> f64 {
    (2 * reach + 1) as f64 * h.width()
}

/// The histogram as [`entropy_threshold`] takes it, and the levels of the grid.
fn around_zero(h: &Histogram, observed: Range) -> (Vec<u64>, usize) {
    // Two bins about 0, then two and two on either side: bins around 0 of twice the width.
    let used = |bins: &[u64]| bins.iter().rposition(|&c| c > 0).map_or(0, |bin| bin.div_ceil(2));
    let centre = used(&h.positive).max(used(&h.negative));
    // Zeros are exact on every grid. MXNet counts them, spreads them over the level around 0, and so takes fine levels for better the more
    // zeros there are.
    let mut counts = vec![0; 2 * centre + 1];
    for bin in 0..=(2 * centre).min(h.positive.len() - 1) {
        counts[centre + bin.div_ceil(2)] += h.positive[bin];
        counts[centre - bin.div_ceil(2)] += h.negative[bin];
    }
    (counts, if observed.min >= 0.0 { 511 } else { 255 })
}

/// Prefix sums over the bins: entry k is the sum over the bins before k.
struct Sums {
    counts: Vec<f64>,
    /// Bins that hold something.
    filled: Vec<f64>,
    /// Of c, for those: c·ln c, ln c, 1/c, 1/c².
    series: Vec<[f64; 4]>,
}

impl Sums {
    fn new(counts: &[u64]) -> Self {
        let mut s = Sums { counts: vec![0.0], filled: vec![0.0], series: vec![[0.0; 4]] };
        let (mut count, mut filled, mut series) = (0u64, 0u64, [0.0; 4]);
        for &c in counts {
            count += c;
            if c > 0 {
                filled += 1;
                let c = c as f64;
                let terms = [c * c.ln(), c.ln(), 1.0 / c, 1.0 / (c * c)];
                series.iter_mut().zip(terms).for_each(|(s, t)| *s += t);
            }
            s.counts.push(count as f64);
            s.filled.push(filled as f64);
            s.series.push(series);
        }
        s
    }

    /// The count of one bin.
    fn bin(&self, k: usize) -> f64 {
        self.counts[k + 1] - self.counts[k]
    }

    /// Of P from Q for the window from bin `a` to bin `z`, both in it.
    fn divergence(&self, a: usize, z: usize, levels: usize) -> f64 {
        let bins = z + 1 - a;
        let total = self.counts[self.counts.len() - 1];
        // The ends of P, and its filled bins.
        let ends = [self.counts[a + 1], total - self.counts[z]];
        let filled_ends = ends.map(|c| f64::from(c > 0.0));
        let inner =
            |sums: &[f64], from: usize, to: usize| sums[to.clamp(a + 1, z)] - sums[from.clamp(a + 1, z)];
        let filled = inner(&self.filled, a, z) + filled_ends[0] + filled_ends[1];

        // Level by level: bins from, to; Q's count, and over how many of P's filled bins it is spread.
        let per_level = bins / levels;
        let mut spread = Vec::with_capacity(levels);
        let (mut q_filled, mut q_total) = (0.0, 0.0);
        for level in 0..levels {
            let from = a + level * per_level;
            let to = if level + 1 == levels { z + 1 } else { from + per_level };
            // As in MXNet, Q does not see the first bin; nor does it see, with P, what lies outside.
            let last = f64::from(to == z + 1) * self.bin(z);
            let sum = inner(&self.counts, from, to) + last;
            let holding = inner(&self.filled, from, to) + f64::from(last > 0.0);
            let p_filled = inner(&self.filled, from, to)
                + filled_ends[0] * f64::from(level == 0)
                + filled_ends[1] * f64::from(to == z + 1);
            let p_sum = inner(&self.counts, from, to)
                + ends[0] * f64::from(level == 0)
                + ends[1] * f64::from(to == z + 1);
            let value = if holding > 0.0 { sum / holding } else { 0.0 };
            if value > 0.0 {
                q_filled += p_filled;
                q_total += p_filled * value;
            }
            spread.push((value, p_filled, p_sum, (to - from) as f64));
        }
        let bins = bins as f64;
        let (Some(p_less), Some(q_less)) = (smoothing(bins, filled), smoothing(bins, q_filled)) else {
            return f64::INFINITY;
        };

        // Σ P·ln P, then Σ P·ln Q.
        let mut p_ln_p = (bins - filled) * EPSILON * EPSILON.ln();
        p_ln_p += self.less_ln_less(a + 1, z, p_less);
        p_ln_p += ends.iter().filter(|c| **c > 0.0).map(|c| (c - p_less) * (c - p_less).ln()).sum::<f64>();
        let mut p_ln_q = 0.0;
        for (value, p_filled, p_sum, width) in spread {
            let (filled, empty) = (p_sum - p_less * p_filled, EPSILON * (width - p_filled));
            let ln_filled = if value > 0.0 { (value - q_less).ln() } else { EPSILON.ln() };
            p_ln_q += filled * ln_filled + empty * EPSILON.ln();
        }
        // Smoothing keeps totals; both are normalised.
        (p_ln_p - p_ln_q) / total + (q_total / total).ln()
    }

    /// Σ (c − less)·ln(c − less) over the filled bins c from `from` to before `to`.
    fn less_ln_less(&self, from: usize, to: usize, less: f64) -> f64 {
        if from >= to {
            return 0.0;
        }
        if less > 1e-2 {
            // When each gives so much, a hundredth of the bins is filled at most.
            let of = |k: usize| {
                if self.bin(k) > 0.0 { (self.bin(k) - less) * (self.bin(k) - less).ln() } else { 0.0 }
            };
            return (from..to).map(of).sum();
        }
        let [c_ln, ln, inverse, square] = std::array::from_fn(|i| self.series[to][i] - self.series[from][i]);
        let filled = self.filled[to] - self.filled[from];
        c_ln - less * (ln + filled) + less.powi(2) / 2.0 * inverse + less.powi(3) / 6.0 * square
    }
}

/// What every filled bin gives so that empty ones have ε; `None` if they cannot give so much.
fn smoothing(bins: f64, filled: f64) -> Option<f64> {
    let less = EPSILON * (bins - filled) / filled;
    (filled > 0.0 && less < 1.0).then_some(less)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bin by bin, as the description has it.
    fn literal(hist: &[u64], reach: usize, levels: usize) -> f64 {
        let centre = hist.len() / 2;
        let (a, b, n) = (centre - reach, centre + reach + 1, 2 * reach + 1);
        let mut p: Vec<f64> = hist[a..b].iter().map(|&c| c as f64).collect();
        let mut s = p.clone();
        p[0] += hist[..a].iter().sum::<u64>() as f64;
        p[n - 1] += hist[b..].iter().sum::<u64>() as f64;
        s[0] = 0.0;
        let mut q = vec![0.0; n];
        for j in 0..levels {
            let m = n / levels;
            let range = j * m..if j + 1 == levels { n } else { (j + 1) * m };
            let held = s[range.clone()].iter().filter(|&&c| c > 0.0).count();
            let sum: f64 = s[range.clone()].iter().sum();
            for k in range.filter(|&k| held > 0 && p[k] > 0.0) {
                q[k] = sum / held as f64;
            }
        }
        let smooth = |x: &mut Vec<f64>| {
            let filled = x.iter().filter(|c| **c > 0.0).count() as f64;
            let less = EPSILON * (n as f64 - filled) / filled;
            if filled == 0.0 || less >= 1.0 {
                return None;
            }
            x.iter_mut().for_each(|c| if *c > 0.0 { *c -= less } else { *c = EPSILON });
            let total: f64 = x.iter().sum();
            x.iter_mut().for_each(|c| *c /= total);
            Some(())
        };
        if smooth(&mut p).and(smooth(&mut q)).is_none() {
            return f64::INFINITY;
        }
        p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum()
    }

    #[test]
    fn prefix_sums_give_what_bins_give() {
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        let kinds: [(u64, u64); 5] = [(1, 1000), (3, 50), (60, 1_000_000), (1, 1), (2000, 9)];
        for (rare, most) in kinds {
            let hist: Vec<u64> =
                (0..2001).map(|_| if random() % rare == 0 { 1 + random() % most } else { 0 }).collect();
            for levels in [15, 255, 511] {
                for reach in (levels / 2..=1000).step_by(61) {
                    let found = Sums::new(&hist).divergence(1000 - reach, 1000 + reach, levels);
                    let expected = literal(&hist, reach, levels);
                    let close = (found - expected).abs() <= 1e-9 * (1.0 + expected.abs());
                    assert!(close || found == expected, "{rare} {levels} {reach}: {found} for {expected}");
                }
            }
        }
    }

    /// Values of an independent program in C, from the description.
    #[test]
    fn finds_known_thresholds() {
        let hist = |n: usize, f: &dyn Fn(i64) -> f64| {
            (0..n as i64).map(|k| f(k - n as i64 / 2).floor() as u64).collect::<Vec<_>>()
        };
        let reach = |h: &[u64], levels| entropy_threshold(h, levels).reach;
        for levels in [5, 11] {
            assert_eq!(reach(&hist(999, &|d| if d == 499 { 1000.0 } else { 0.0 }), levels), 499);
        }
        for levels in [255, 511] {
            assert_eq!(reach(&hist(8001, &|_| 100.0), levels), 4000);
        }
        let decay = |d: i64| 1e6 * 2f64.powf(-(d.abs() as f64) / 200.0);
        let right = |d: i64| if d < 0 { 0.0 } else { decay(d) };
        assert_eq!(reach(&hist(8001, &decay), 255), 3313);
        assert_eq!(reach(&hist(8001, &right), 255), 3312);
        assert_eq!(reach(&hist(8001, &right), 511), 3568);
        assert_eq!(reach(&hist(8001, &|d| if d == 0 { 5e7 } else { right(d) }), 511), 3574);
        let bell = |d: i64| if d == 4000 { 1.0 } else { 1e6 * (-0.5 * (d as f64 / 100.0).powi(2)).exp() };
        assert_eq!(reach(&hist(8001, &bell), 255), 524);
        assert_eq!(reach(&hist(8001, &|d| if d == 0 { 1000.0 } else { 0.0 }), 255), 127);
        assert_eq!(reach(&[0, 1, 0], 255), 1);
        assert_eq!(reach(&[], 255), 0);
    }

    #[test]
    fn ranges_stay_within_what_was_observed() {
        let of = |data: &[f32]| {
            let fold = |f: fn(f32, f32) -> f32| data.iter().copied().reduce(f).unwrap();
            let (observed, mut h) = (Range { min: fold(f32::min), max: fold(f32::max) }, Histogram::new());
            h.add(data, observed.max.abs().max(observed.min.abs()));
            range(&h, observed)
        };
        for constant in [0.0, 1.5, -1e-40, 3e38] {
            assert_eq!(of(&[constant; 9]), Range { min: constant, max: constant });
        }
        // A bell with an outlier on one side.
        let mut bell: Vec<f32> =
            (0..90_000).map(|k| ((k % 30) + (k / 30 % 30) + (k / 900 % 100)) as f32 / 40.0 - 1.0).collect();
        bell.push(50.0);
        let found = of(&bell);
        assert!(found.min == -1.0 && found.max < 10.0, "{found:?}");
    }
}
