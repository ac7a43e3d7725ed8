//! Which passes run.

use super::PASSES;
use crate::error::{Error, Result, Stage};
use qgraph_runtime::requant::Rounding;

/// A switch per pass, all on by default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each is named as its pass; `PASSES` says what it does.
pub struct Options {
    pub identity: bool,
    pub constant: bool,
    pub common: bool,
    pub dead: bool,
    pub movement: bool,
    pub pattern: bool,
    pub clamp: bool,
    pub round: bool,
    pub sum: bool,
    pub sink: bool,
    pub affine_merge: bool,
    pub affine_after: bool,
    pub affine_before: bool,
    pub pad: bool,
    pub residual: bool,
    pub activation: bool,
    pub flatten: bool,
    pub affine_normal: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            identity: true,
            constant: true,
            common: true,
            dead: true,
            movement: true,
            pattern: true,
            clamp: true,
            round: true,
            sum: true,
            sink: true,
            affine_merge: true,
            affine_after: true,
            affine_before: true,
            pad: true,
            residual: true,
            activation: true,
            flatten: true,
            affine_normal: true,
        }
    }
}

impl Options {
    /// What a network allows that is to round so. Where zero points come last, as in ONNX Runtime, it is followed in sums too: what a layer gives is
    /// rounded before something is added to it, so an addition stays a node of its own.
    pub fn for_rounding(rounding: Rounding) -> Options {
        let inside = rounding == Rounding::Fused;
        Options { residual: inside, sum: inside, ..Options::default() }
    }

    /// Switches a pass by its name (`affine-merge`, …). An unknown name is an error that lists the known ones.
    pub fn set(&mut self, name: &str, on: bool) -> Result<()> {
        match PASSES.iter().find(|p| p.name == name) {
            Some(pass) => *(pass.option)(self) = on,
            None => {
                let known: Vec<&str> = PASSES.iter().map(|p| p.name).collect();
                let message = format!("is not a fusion pass; there are {}", known.join(", "));
                return Err(Error::new(Stage::Fuse, name, message));
            }
        }
        Ok(())
    }
}
