//! How a dense layer is cut, as data: what scheduling chooses by the cost model, and what a caller may choose instead.
//!
//! All choices give the same bits. A layer is known by its key, which names everything that a choice depends on, so that equal layers of any
//! network share it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a dense layer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Blocks of 16 output channels that a kernel computes together.
    pub blocks: usize,
    /// Output pixels that it computes together.
    pub pixels: usize,
    /// All pixels of some channels come before the next channels; else all channels of some pixels before the next pixels.
    pub weights_first: bool,
}

/// Choices by the keys of layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Where they come from, for messages.
    pub source: String,
    /// The choices.
    pub layers: BTreeMap<String, Choice>,
}

impl Choices {
    /// What is wrong with one of them, and what to do.
    pub(super) fn refuse(&self, why: &str) -> String {
        format!("{why}: the choice of {} is not for it; tune again, or do without", self.source)
    }
}

/// A layer that can be cut in several ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunable {
    /// Its step of the plan.
    pub step: usize,
    /// Its key.
    pub key: String,
    /// Ways to cut it, the best first, as the cost model sees it.
    pub candidates: Vec<Choice>,
}
