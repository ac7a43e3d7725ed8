//! What every mode would make of the same samples: for people who want to see why a range is what it is.

use super::histogram::Histogram;
use super::run::observe;
use super::{Mode, Options, Range, RunFn, entropy, squares, tails};
use crate::error::Result;
use crate::graph::{Graph, Tensor};

/// The percentile that a survey shows.
const PERCENTILE: f64 = 99.99;

/// A value under calibration.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Its name.
    pub value: String,
    /// From the smallest to the largest element.
    pub observed: Range,
    /// Elements seen.
    pub elements: u64,
    /// Those that are 0: exact on every grid, and in no bin.
    pub zeros: u64,
    /// Counts of the elements that are not, in bins of equal width from `from` on.
    pub bins: Vec<u64>,
    /// Where the first bin begins.
    pub from: f64,
    /// Width of a bin.
    pub width: f64,
    /// Every mode's range, by its name.
    pub ranges: Vec<(String, Range)>,
    /// What `entropy` makes least: the divergence of the histogram from what a grid with a threshold keeps of it, by threshold. Infinite where there is
    /// none. Empty where elements are so few sizes that nothing could be cut.
    pub divergences: Vec<(f64, f64)>,
}

/// Runs every sample once, as [`super::calibrate`] does, and surveys every graph input and every value but sums before activations, in the order of
/// their names.
///
/// # Errors
/// Those of [`super::calibrate`].
pub fn survey(
    graph: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
    run: &mut RunFn<'_>,
) -> Result<Vec<Survey>> {
    let (observer, _) = observe(graph, samples, run, &mut Options::new(Mode::Mse))?;
    Ok(observer.histograms().map(|(name, observed, h)| Survey::new(name, observed, h)).collect())
}

impl Survey {
    fn new(value: &str, observed: Range, h: &Histogram) -> Survey {
        let used = |bins: &[u64]| bins.iter().rposition(|&c| c > 0).map_or(0, |last| last + 1);
        let below = used(&h.negative);
        let above = &h.positive[..used(&h.positive)];
        let modes = [
            (Mode::Naive, observed),
            (Mode::Entropy, entropy::range(h, observed)),
            (Mode::Percentile(PERCENTILE), tails::range(h, observed, PERCENTILE)),
            (Mode::Mse, squares::range(h, observed)),
        ];
        Survey {
            value: value.into(),
            observed,
            elements: h.total(),
            zeros: h.zeros,
            bins: h.negative[..below].iter().rev().chain(above).copied().collect(),
            from: -(below as f64) * h.width(),
            width: h.width(),
            ranges: modes.into_iter().map(|(mode, range)| (mode.text(), range)).collect(),
            divergences: entropy::curve(h, observed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_calibration_chooses() {
        let mut graph = Graph::new("g");
        graph.add_input("x", [4096]);
        // A bell of both signs with an outlier, and zeros.
        let data: Vec<f32> = (0..4096)
            .map(|k| match k {
                0 => 50.0,
                k if k % 4 == 0 => 0.0,
                k => ((k % 17 + k % 23 + k % 29) as f32 - 33.0) / 10.0,
            })
            .collect();
        let samples = || std::iter::once(Ok(vec![Tensor::new([4096], data.clone())]));
        let mut run = |_: &[Tensor], _: &mut dyn FnMut(&str, &[f32])| Ok(());
        let all = survey(&graph, &mut samples(), &mut run).unwrap();
        let [s] = &all[..] else { panic!("{all:?}") };
        assert_eq!((&s.value[..], s.elements, s.observed.max), ("x", 4096, 50.0));
        assert_eq!(s.zeros, data.iter().filter(|x| **x == 0.0).count() as u64);
        assert_eq!(s.bins.iter().sum::<u64>() + s.zeros, s.elements);
        let last = s.from + s.width * s.bins.len() as f64;
        assert!(
            s.from <= f64::from(s.observed.min) && (50.0..50.0 + 2.0 * s.width).contains(&last),
            "{last}"
        );
        let names: Vec<&str> = s.ranges.iter().map(|r| &r.0[..]).collect();
        assert_eq!(names, ["naive", "entropy", "percentile 99.99", "mse"]);
        let modes = [Mode::Naive, Mode::Entropy, Mode::Percentile(PERCENTILE), Mode::Mse];
        for (mode, (name, range)) in modes.into_iter().zip(&s.ranges) {
            let profile =
                super::super::calibrate(&graph, &mut samples(), &mut run, Options::new(mode)).unwrap();
            assert_eq!(profile.ranges["x"], *range, "{name}");
        }
        // The curve is least where `entropy` ends.
        let least = s.divergences.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(least.0 as f32, s.ranges[1].1.max);
    }
}
