//! The mode `percentile`: so many percent of the elements lie within the range.

use super::Range;
use super::histogram::Histogram;

/// Cuts `observed` so that at most half of 100 − `percentile` percent of the elements lie below it, and as many above.
pub(super) fn range(h: &Histogram, observed: Range, percentile: f64) -> Range {
    let tail = (h.total() as f64 * (100.0 - percentile) / 200.0) as u64;
    // The far edge of the outermost bin that would be too much to cut.
    let end = |bins: &[u64]| {
        let mut beyond = 0;
        let kept = bins.iter().rposition(|count| {
            beyond += count;
            beyond > tail
        });
        kept.map_or(0.0, |bin| (bin + 1) as f64 * h.width()) as f32
    };
    let cut = Range { min: -end(&h.negative), max: end(&h.positive) };
    // What lies on one side of 0 alone keeps its end there.
    Range { min: observed.min.max(cut.min), max: observed.max.min(cut.max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// −1 … 9999, each once.
    fn seen() -> (Histogram, Range) {
        let data: Vec<f32> = (-1..=9999).map(|x| x as f32).collect();
        let mut h = Histogram::new();
        h.add(&data, 9999.0);
        (h, Range { min: -1.0, max: 9999.0 })
    }

    #[test]
    fn cuts_half_of_the_rest_on_either_side() {
        let (h, observed) = seen();
        assert_eq!(range(&h, observed, 100.0), observed);
        // 0.005 % of 10001 is not one element.
        assert_eq!(range(&h, observed, 99.99), observed);
        // 50 elements: 9950 to 9999 lie beyond the edge of 9949's bin, whose width is 2. No 50 are negative.
        assert_eq!(range(&h, observed, 99.0), Range { min: 0.0, max: 9950.0 });
    }

    #[test]
    fn positive_values_keep_their_least() {
        let mut h = Histogram::new();
        h.add(&[3.0, 4.0], 4.0);
        let observed = Range { min: 3.0, max: 4.0 };
        assert_eq!(range(&h, observed, 99.0), observed);
    }
}
