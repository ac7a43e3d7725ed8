//! Compiler for quantized neural networks: a float ONNX model becomes calibrated int8 machine code.
//!
//! [`pipeline`] is the spine; the modules stand in the order in which a model passes them. Data flows down, and nothing below
//! a line knows the words above it:
//!
//! | module | in → out |
//! |---|---|
//! | [`onnx`] | model.onnx → [`graph::Graph`] |
//! | [`fuse`] | graph → fused graph, with a report |
//! | [`calib`] | fused graph and samples → [`calib::Profile`] |
//! | [`quant`] | fused graph and profile → [`qgraph::QGraph`] ⇔ `.qgraph` |
//! | [`fallback`] | the same within a limit of accuracy, measured on images |
//! | [`export`] | integer graph → ONNX |
//! | [`lower`] | integer graph → [`plan::Plan`] of [`kernel`]s |
//! | [`jit`] | plan → machine code; [`plan::interp`] runs it anywhere |
//! | [`rust`] | plans → Rust source |
//! | [`build`] | files → Rust source, from a build script |
//! | [`assess`] | both graphs and their values → how exact every layer is |
//! | [`draw`] | graphs → pictures |

#![cfg_attr(not(all(feature = "jit", feature = "rust")), allow(rustdoc::broken_intra_doc_links))]

pub mod assembly;
pub mod assess;
pub mod blob;
#[cfg(feature = "rust")]
pub mod build;
pub mod calib;
#[cfg(feature = "data")]
pub mod data;
pub mod draw;
pub mod error;
pub mod export;
pub mod fallback;
mod few;
pub mod fuse;
pub mod graph;
#[cfg(feature = "jit")]
pub mod jit;
pub mod kernel;
pub mod lower;
pub mod magic;
pub mod onnx;
pub mod pipeline;
pub mod plan;
pub mod preprocess;
pub mod qgraph;
pub mod quant;
pub mod runner;
#[cfg(feature = "rust")]
pub mod rust;
pub mod target;
#[cfg(feature = "jit")]
pub mod tune;

pub use error::{Error, Problem, Result, Stage};
