//! How often elements of every size occurred, in memory that does not grow.
//!
//! Bins have the width 2^k for the least k at which all magnitudes fit; when a larger element comes, neighbours merge. A bin of the old
//! width lies in one bin of the new, so the counts are those that the last width would have given from the start: a histogram does not
//! depend on the order of what it saw. Signs have bins of their own, zeros are counted apart.

/// Bins for each sign: between half of them and all are in use.
const BINS: usize = 1 << 13;

/// Bins are at least this wide, as an exponent of 2: its inverse is still a normal number.
const FINEST: i32 = -126;

/// Counts by magnitude and sign.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    /// The width of the bins is 2 to this.
    exponent: i32,
    pub(super) zeros: u64,
    /// Bin i counts magnitudes from i up to i + 1 widths.
    pub(super) positive: Vec<u64>,
    pub(super) negative: Vec<u64>,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Histogram { exponent: FINEST, zeros: 0, positive: vec![0; BINS], negative: vec![0; BINS] }
    }

    /// Counts elements whose largest magnitude is `largest`.
    pub(super) fn add(&mut self, data: &[f32], largest: f32) {
        self.widen(largest);
        let inverse = 2f32.powi(-self.exponent);
        for &x in data {
            // `largest` is in the last bin at most.
            let bin = ((x.abs() * inverse) as usize).min(BINS - 1);
            if x > 0.0 {
                self.positive[bin] += 1;
            } else if x < 0.0 {
                self.negative[bin] += 1;
            } else {
                self.zeros += 1;
            }
        }
    }

    /// Widens the bins until `largest` has one.
    fn widen(&mut self, largest: f32) {
        // The exponent of its leading bit; that of numbers that are not normal is less.
        let leading = (largest.to_bits() >> 23) as i32 - 127;
        let doublings = leading + 1 - BINS.ilog2() as i32 - self.exponent;
        if doublings <= 0 {
            return;
        }
        self.exponent += doublings;
        for bins in [&mut self.positive, &mut self.negative] {
            for i in 0..BINS {
                let count = std::mem::take(&mut bins[i]);
                bins[if doublings < 32 { i >> doublings } else { 0 }] += count;
            }
        }
    }

    /// Width of a bin.
    pub(super) fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    /// Number of elements.
    pub(super) fn total(&self) -> u64 {
        self.zeros + self.positive.iter().chain(&self.negative).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[f32]]) -> Histogram {
        let mut h = Histogram::new();
        parts.iter().for_each(|p| h.add(p, p.iter().fold(0.0, |m, x| x.abs().max(m))));
        h
    }

    #[test]
    fn does_not_depend_on_order() {
        let parts: [&[f32]; 5] = [
            &[0.0, -0.0],
            &[1e-30, -3e-20, 1e-45],
            &[0.7, -0.3],
            &[5.0, -1024.0, 1023.9],
            &[3e5, f32::MIN_POSITIVE],
        ];
        let all: Vec<f32> = parts.concat();
        let whole = of(&[&all]);
        assert_eq!(whole, of(&parts));
        let backwards: Vec<&[f32]> = parts.iter().rev().copied().collect();
        assert_eq!(whole, of(&backwards));
        assert_eq!((whole.total(), whole.zeros), (12, 2));
        // 3e5 lies between 2^18 and 2^19.
        assert_eq!(whole.width(), 64.0);
        assert_eq!(whole.positive[(3e5 / 64.0) as usize], 1);
        assert_eq!(whole.negative[16], 1);
    }

    #[test]
    fn extremes_have_bins() {
        let h = of(&[&[f32::MAX, f32::MIN]]);
        assert_eq!((h.positive[BINS - 1], h.negative[BINS - 1]), (1, 1));
        let h = of(&[&[f32::from_bits(1)]]);
        assert_eq!((h.positive[0], h.total()), (1, 1));
    }
}
