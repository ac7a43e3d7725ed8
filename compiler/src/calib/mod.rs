//! Calibration: samples through the fused graph, ranges of every value out.
//!
//! In: a graph, samples, and a way to run the graph that shows its values. Out: a [`Profile`], a readable file that can be used again.
//! Holds: a profile does not depend on the order of the samples or of the values; one sample is in memory at a time, and of each value
//! one histogram at most; ranges are finite, and no NaN gets in. Not here: where samples come from (`data`), what quantization makes of a
//! range (`quant`).
//!
//! - `run`: the loop over the samples.
//! - `observe`: what is kept of the values: extremes, channels, a histogram. One pass is enough for every mode.
//! - `histogram`: counts on bins whose width is a power of two, so that bins merge exactly when the range grows.
//! - `entropy`, `tails`, `squares`: the modes that cut a histogram off: `entropy`, `percentile`, `mse`.
//! - `survey`: what every mode would choose, to look at.
//! - `profile`: the file. `hash`: the identity of a graph.
//!
//! What the modes mean for values that are quantized to an affine u8 grid, which always holds 0 and whose ends are free:
//!
//! | mode | range |
//! |---|---|
//! | `naive` | from the smallest to the largest element |
//! | `entropy` | MXNet's, but for zeros: the threshold t with the least divergence between the histogram and what is left of it on a symmetric grid (on one side if nothing is negative); then what was observed, cut to −t..t |
//! | `percentile p` | half of 100 − p percent of the elements may lie below it, half above |
//! | `mse` | the ends that together give the least mean square error of rounding and of clipping |
//! | `custom` | what a [`Collector`] says; as `naive` for values that it says nothing of |
//!
//! Sums before an activation (`{value}/pre`) have the observed range in every mode but `custom`: quantization itself cuts off what the
//! activation does not tell apart.

mod entropy;
mod hash;
mod histogram;
mod observe;
mod profile;
mod run;
mod squares;
mod survey;
mod tails;

use crate::error::{Error, Stage};
use crate::graph::Tensor;
use crate::preprocess::Preprocess;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use entropy::{Threshold, entropy_threshold};
pub use hash::graph_hash;
pub use profile::{Channels, PROFILE_VERSION, Profile};
pub use run::{RunFn, calibrate};
pub use survey::{Survey, survey};

/// Range of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
}

impl Range {
    /// Of no elements: any element widens it to itself.
    const EMPTY: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// The part that lies in `other`, which has a point in common with it.
    pub(crate) fn within(self, other: Range) -> Range {
        let inside = |x: f32| x.clamp(other.min, other.max);
        Range { min: inside(self.min), max: inside(self.max) }
    }
}

/// How ranges are chosen; see [`crate::calib`].
#[derive(Default)]
pub enum Mode<'a> {
    /// Smallest and largest element.
    Naive,
    /// Least divergence, as MXNet does it.
    Entropy,
    /// So many percent of the elements lie within: above 0, at most 100.
    Percentile(f64),
    /// Least mean square error: the most exact on nearly all networks that were measured.
    #[default]
    Mse,
    /// The user's own.
    Custom(&'a mut dyn Collector),
}

impl Mode<'_> {
    /// What the profile says of it.
    fn text(&self) -> String {
        match self {
            Mode::Naive => "naive".into(),
            Mode::Entropy => "entropy".into(),
            Mode::Percentile(p) => format!("percentile {p}"),
            Mode::Mse => "mse".into(),
            Mode::Custom(c) => c.name().into(),
        }
    }
}

/// A calibration of one's own.
///
/// ```
/// use qgraph_compiler::calib::{Collector, Range};
/// use qgraph_compiler::graph::Tensor;
/// use std::collections::BTreeMap;
///
/// /// The mean of all samples' largest and smallest elements, so that one odd sample does not decide.
/// #[derive(Default)]
/// struct MeanOfExtremes(BTreeMap<String, (f32, f32, f32)>);
///
/// impl Collector for MeanOfExtremes {
///     fn name(&self) -> &str {
///         "mean of extremes"
///     }
///
///     fn include(&self, value: &str) -> bool {
///         !value.ends_with("/pre")
///     }
///
///     fn collect(&mut self, value: &str, _op: &str, tensor: &Tensor) {
///         let fold = |f: fn(f32, f32) -> f32| tensor.data.iter().copied().fold(0.0, f);
///         let (count, min, max) = self.0.entry(value.into()).or_default();
///         *count += 1.0;
///         *min += fold(f32::min);
///         *max += fold(f32::max);
///     }
///
///     fn finish(&mut self) -> BTreeMap<String, Range> {
///         let range = |(count, min, max): &(f32, f32, f32)| Range { min: min / count, max: max / count };
///         self.0.iter().map(|(name, seen)| (name.clone(), range(seen))).collect()
///     }
/// }
/// ```
pub trait Collector {
    /// What the profile records as its mode.
    fn name(&self) -> &str {
        "custom"
    }

    /// Whether it wants to see a value. Others have their observed range.
    fn include(&self, value: &str) -> bool {
        let _ = value;
        true
    }

    /// What a sample gives for a value: a graph input (`op` is "input"), the result of a node (`op` is the operator, as `qgraph emit`
    /// prints it), or `{value}/pre`, the sum before an activation that is no clamp. Finite, at least one element.
    fn collect(&mut self, value: &str, op: &str, tensor: &Tensor);

    /// The ranges, after all samples. Values without one have their observed range.
    fn finish(&mut self) -> BTreeMap<String, Range>;
}

/// How to calibrate.
///
/// ```
/// use qgraph_compiler::calib::{Mode, Options};
/// use qgraph_compiler::preprocess::Preprocess;
///
/// let mut done = 0;
/// let mut progress = |samples| done = samples;
/// let options = Options::new(Mode::Percentile(99.99))
///     .preprocess(Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() })
///     .threads(2)
///     .progress(&mut progress);
/// ```
pub struct Options<'m, 'p> {
    pub(crate) mode: Mode<'m>,
    pub(crate) preprocess: Option<Preprocess>,
    pub(crate) threads: usize,
    pub(crate) progress: Option<&'p mut dyn FnMut(usize)>,
}

impl Default for Options<'_, '_> {
    fn default() -> Self {
        Options::new(Mode::default())
    }
}

impl<'m, 'p> Options<'m, 'p> {
    /// With one thread, without preprocessing and progress.
    #[must_use]
    pub fn new(mode: Mode<'m>) -> Self {
        Options { mode, preprocess: None, threads: 1, progress: None }
    }

    /// Records how images became inputs.
    #[must_use]
    pub fn preprocess(self, preprocess: Preprocess) -> Self {
        Options { preprocess: Some(preprocess), ..self }
    }

    /// How many threads run the network. The profile does not depend on it.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Options { threads, ..self }
    }

    /// Is told the number of samples done, after each.
    #[must_use]
    pub fn progress(self, progress: &'p mut dyn FnMut(usize)) -> Self {
        Options { progress: Some(progress), ..self }
    }
}

/// An error of this stage.
fn failure(subject: &str, message: impl Into<String>) -> Error {
    Error::new(Stage::Calibrate, subject, message)
}
