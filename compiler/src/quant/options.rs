//! What a user may ask of quantization.

use super::weights::Scaling;
use qgraph_runtime::requant::Rounding;

/// How weights share scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// A scale for every output channel.
    #[default]
    Channel,
    /// One for the whole layer.
    Tensor,
}

/// Where zero lies on the u8 grid of a value. All but [`Activations::Affine`] are MXNet's, for comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Where the range has it: no step is lost.
    #[default]
    Affine,
    /// At 0 for values that are never negative, else at 128.
    Auto,
    /// At 128: as much below as above.
    Int8,
    /// At 0: what is negative is cut off.
    Uint8,
}

/// Whether channels of unequal range are made equal before quantization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Equalize {
    /// Where the errors of rounding become less by what calibration saw.
    #[default]
    Auto,
    /// Wherever weights can take it back.
    On,
    /// Nowhere.
    Off,
}

/// What runs in integers, of all that can. MXNet's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All of it.
    #[default]
    Full,
    /// Layers with weights, and what stands beside them or between them: not what would be converted to integers for its own sake.
    Smart,
}

/// How to quantize.
///
/// ```
/// use qgraph_compiler::quant::{Mode, Options, Weights};
///
/// let options = Options::default()
///     .exclude("conv1")
///     .exclude("features.*.conv?")
///     .exclude("/^head/")
///     .exclude_op("dense")
///     .float_first()
///     .mode(Mode::Smart)
///     .weights(Weights::Tensor);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub(super) exclude: Vec<String>,
    pub(super) exclude_ops: Vec<String>,
    pub(super) float_first: bool,
    pub(super) float_last: bool,
    pub(super) mode: Mode,
    pub(super) weights: Weights,
    pub(super) activations: Activations,
    pub(super) equalize: Equalize,
    pub(super) correct_biases: bool,
    pub(super) clip_weights: bool,
    pub(crate) rounding: Rounding,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            exclude: vec![],
            exclude_ops: vec![],
            float_first: false,
            float_last: false,
            mode: Mode::default(),
            weights: Weights::default(),
            activations: Activations::default(),
            equalize: Equalize::default(),
            correct_biases: true,
            clip_weights: false,
            rounding: Rounding::default(),
        }
    }
}

impl Options {
    /// True if nothing is asked but of single layers that stay in float.
    pub(super) fn only_excludes(&self) -> bool {
        let default = Options::default();
        (self.weights, self.activations) == (default.weights, default.activations)
            && (self.equalize, self.correct_biases) == (default.equalize, default.correct_biases)
            && (self.mode, self.clip_weights) == (default.mode, default.clip_weights)
    }

    /// How weights get their scales.
    pub(super) fn scaling(&self) -> Scaling {
        Scaling { sharing: self.weights, clip: self.clip_weights }
    }

    /// True if something is asked that means nothing without ranges.
    pub(super) fn asks_for_ranges(&self) -> bool {
        let default = Options::default();
        (self.activations, self.equalize, self.rounding)
            != (default.activations, default.equalize, default.rounding)
    }

    /// Keeps layers in float: the one of this name, or all whose names match, with `*` for any characters and `?` for one, or a
    /// regular expression between slashes. A layer's name is its node's, or that of the value it gives.
    #[must_use]
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.exclude.push(pattern.into());
        self
    }

    /// Keeps all layers of an operator in float: `conv`, `dense`, … as `qgraph emit fused` names them.
    #[must_use]
    pub fn exclude_op(mut self, op: impl Into<String>) -> Self {
        self.exclude_ops.push(op.into());
        self
    }

    /// Keeps layers with weights in float that no other such layer stands before.
    #[must_use]
    pub fn float_first(self) -> Self {
        Options { float_first: true, ..self }
    }

    /// Keeps layers with weights in float that no other such layer stands behind.
    #[must_use]
    pub fn float_last(self) -> Self {
        Options { float_last: true, ..self }
    }

    /// What runs in integers, of all that can and is not excluded.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Options { mode, ..self }
    }

    /// How weights share scales.
    #[must_use]
    pub fn weights(self, weights: Weights) -> Self {
        Options { weights, ..self }
    }

    /// Where zero lies on the grids of activations.
    #[must_use]
    pub fn activations(self, activations: Activations) -> Self {
        Options { activations, ..self }
    }

    /// Whether unequal channels are made equal.
    #[must_use]
    pub fn equalize(self, equalize: Equalize) -> Self {
        Options { equalize, ..self }
    }

    /// Whether biases make up for what rounding the weights adds to the mean of a layer's results. They do by default.
    #[must_use]
    pub fn correct_biases(self, correct: bool) -> Self {
        Options { correct_biases: correct, ..self }
    }

    /// Whether weights that share a scale are cut off where that makes the mean square of their error least, each weighted by the mean square of
    /// what it reads if the profile knows it. If not, which is the default, the scale spans the largest weight.
    #[must_use]
    pub fn clip_weights(self, clip: bool) -> Self {
        Options { clip_weights: clip, ..self }
    }

    /// How results are rounded. With [`Rounding::ZeroLast`] every operation has ONNX Runtime's arithmetic, so that the network, exported, gives the
    /// same integers there: multipliers of 24 bits, and sums of what is rounded. It asks for a graph that was fused for it
    /// ([`fuse_for`](crate::fuse::fuse_for)) before it was calibrated.
    #[must_use]
    pub fn rounding(self, rounding: Rounding) -> Self {
        Options { rounding, ..self }
    }
}
