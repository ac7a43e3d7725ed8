//! What is kept of a value and of its quantized form, element by element, in memory that does not grow.

use crate::qgraph::{QType, QValue};

/// Statistics of a value's error.
#[derive(Clone, Debug)]
pub struct Meter {
    /// What the value is rounded to, if it is.
    grid: Option<Grid>,
    count: u64,
    /// Sums over the elements: squares of the exact and of the found ones, their products, squares of the errors.
    exact: f64,
    found: f64,
    products: f64,
    errors: f64,
    /// Of the errors in steps of the grid.
    steps: f64,
    clipped: u64,
    observed: [f32; 2],
}

/// Steps and ends of a grid of bytes.
#[derive(Clone, Debug)]
struct Grid {
    scale: f64,
    /// Real numbers that the least and the greatest byte stand for.
    ends: [f64; 2],
    /// Of the grid, per channel, for values that hold multiples: [`QValue::factors`].
    factors: Vec<f32>,
    /// Elements of a channel that follow each other.
    inner: usize,
}

impl Meter {
    /// For a value of an integer graph.
    pub fn new(value: &QValue) -> Meter {
        let grid = match value.ty {
            QType::F32 => None,
            QType::U8 { scale, zero_point } => {
                let (scale, zero) = (f64::from(scale), f64::from(zero_point));
                let inner = value.shape.iter().skip(2).product::<usize>().max(1);
                let factors = if value.factors.is_empty() { vec![1.0] } else { value.factors.clone() };
                Some(Grid { scale, ends: [-zero * scale, (255.0 - zero) * scale], factors, inner })
            }
        };
        let zero = 0.0;
        Meter {
            grid,
            count: 0,
            exact: zero,
            found: zero,
            products: zero,
            errors: zero,
            steps: zero,
            clipped: 0,
            observed: [f32::INFINITY, f32::NEG_INFINITY],
        }
    }

    /// What a sample gives, exactly and after quantization: all elements as real numbers, row-major.
    pub fn add(&mut self, exact: &[f32], found: &[f32]) {
        for (&e, &f) in exact.iter().zip(found) {
            self.observed = [self.observed[0].min(e), self.observed[1].max(e)];
            let (e, f) = (f64::from(e), f64::from(f));
            self.exact += e * e;
            self.found += f * f;
            self.products += e * f;
            self.errors += (f - e) * (f - e);
        }
        self.count += exact.len().min(found.len()) as u64;
        let Some(grid) = &self.grid else { return };
        let runs = exact.chunks(grid.inner).zip(found.chunks(grid.inner));
        for ((exact, found), &factor) in runs.zip(grid.factors.iter().cycle()) {
            let (factor, half) = (f64::from(factor), grid.scale / 2.0);
            for (&e, &f) in exact.iter().zip(found) {
                let (e, f) = (f64::from(e) * factor, f64::from(f) * factor);
                self.steps += ((f - e) / grid.scale).powi(2);
                self.clipped += u64::from(e < grid.ends[0] - half || e > grid.ends[1] + half);
            }
        }
    }

    /// Elements seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Noise as a part of the signal's energy; 0 of no signal is 0.
    pub fn noise(&self) -> f64 {
        if self.errors == 0.0 { 0.0 } else { self.errors / self.exact }
    }

    /// Signal-to-quantization-noise ratio in dB, within −200 and 200.
    pub fn sqnr_db(&self) -> f64 {
        (-10.0 * self.noise().log10()).clamp(-200.0, 200.0)
    }

    /// Cosine of the angle between both forms, −1 to 1; 1 if both are 0 throughout.
    pub fn cosine(&self) -> f64 {
        let lengths = (self.exact * self.found).sqrt();
        match lengths > 0.0 {
            true => (self.products / lengths).clamp(-1.0, 1.0),
            false => f64::from(self.exact == self.found),
        }
    }

    /// Root mean square of the error in steps of the grid: rounding alone gives 1/√12 = 0.289. `None` of a value in f32.
    pub fn rmse_steps(&self) -> Option<f64> {
        self.grid.as_ref().map(|_| (self.steps / self.count.max(1) as f64).sqrt())
    }

    /// The range that the grid covers, where it holds the value itself; `None` of a value in f32.
    pub fn chosen(&self) -> Option<[f64; 2]> {
        self.grid.as_ref().map(|g| g.ends)
    }

    /// The smallest and the largest exact element; `None` before the first.
    pub fn observed(&self) -> Option<[f32; 2]> {
        (self.count > 0).then_some(self.observed)
    }

    /// The part of the exact elements that lies beyond the grid by more than half a step, 0 to 1; `None` of a value in f32.
    pub fn clipped(&self) -> Option<f64> {
        self.grid.as_ref().map(|_| self.clipped as f64 / self.count.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(ty: QType, factors: Vec<f32>) -> QValue {
        QValue { name: "x".into(), shape: vec![1, 2, 1, 2], ty, factors }
    }

    #[test]
    fn figures_are_as_defined() {
        let mut m = Meter::new(&value(QType::U8 { scale: 0.5, zero_point: 10 }, vec![]));
        assert_eq!((m.count(), m.sqnr_db(), m.cosine(), m.observed()), (0, 200.0, 1.0, None));
        m.add(&[3.0, 4.0, 0.0, -6.0], &[3.0, 4.5, 0.0, -5.0]);
        // 61 of signal, 1.25 of noise, in steps 1 and 2; −5 to 122.5.
        assert!((m.sqnr_db() - 10.0 * (61.0f64 / 1.25).log10()).abs() < 1e-9);
        assert!((m.rmse_steps().unwrap() - (5.0f64 / 4.0).sqrt()).abs() < 1e-9);
        assert!((m.cosine() - (9.0 + 18.0 + 30.0) / (61.0f64 * 54.25).sqrt()).abs() < 1e-9);
        assert_eq!((m.chosen(), m.observed()), (Some([-5.0, 122.5]), Some([-6.0, 4.0])));
        assert_eq!(m.clipped(), Some(0.25));
        let before = m.noise();
        m.add(&[3.0, 4.0, 0.0, -6.0], &[3.0, 4.5, 0.0, -5.0]);
        assert_eq!((m.noise(), m.count()), (before, 8));
    }

    #[test]
    fn multiples_are_rounded_as_such() {
        // The second channel is held fourfold: its step is a quarter, its range too.
        let mut m = Meter::new(&value(QType::U8 { scale: 1.0, zero_point: 0 }, vec![1.0, 4.0]));
        m.add(&[0.0, 1.0, 100.0, 1.0], &[0.0, 2.0, 63.75, 1.25]);
        assert_eq!(m.clipped(), Some(0.25));
        let steps: f64 = 1.0 + (4.0f64 * 36.25).powi(2) + 1.0;
        assert!((m.rmse_steps().unwrap() - (steps / 4.0).sqrt()).abs() < 1e-9);
        let mut real = Meter::new(&value(QType::F32, vec![]));
        real.add(&[1.0], &[1.0]);
        assert_eq!(
            (real.rmse_steps(), real.clipped(), real.chosen(), real.sqnr_db()),
            (None, None, None, 200.0)
        );
    }
}
