//! Counting right answers and measuring noise.

/// Indices of the `n` largest values, best first; equal values by index.
pub(crate) fn top(values: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(n);
    order
}

/// Right answers so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) images: usize,
    pub(crate) top1: usize,
    pub(crate) top5: usize,
}

impl Score {
    pub(crate) fn add(&mut self, values: &[f32], label: usize) {
        let best = top(values, 5);
        self.images += 1;
        self.top1 += usize::from(best.first() == Some(&label));
        self.top5 += usize::from(best.contains(&label));
    }

    /// Fractions right: top-1, top-5.
    pub(crate) fn fractions(&self) -> (f64, f64) {
        let n = self.images.max(1) as f64;
        (self.top1 as f64 / n, self.top5 as f64 / n)
    }
}

/// Energies of a signal and of the noise on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    pub(crate) fn add(&mut self, exact: &[f32], found: &[f32]) {
        for (&e, &f) in exact.iter().zip(found) {
            self.signal += f64::from(e).powi(2);
            self.noise += (f64::from(f) - f64::from(e)).powi(2);
        }
    }

    /// Signal-to-quantization-noise ratio in dB, at most 200.
    pub(crate) fn db(&self) -> f64 {
        if self.noise == 0.0 {
            return 200.0;
        }
        (10.0 * (self.signal / self.noise).log10()).clamp(-200.0, 200.0)
    }
}
