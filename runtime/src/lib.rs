//! What a compiled network needs at run time, and nothing else.
//!
//! - [`requant`]: the numeric contract as code; every engine gives these bits.
//! - [`math`]: elementary functions written out, so that their bits do not depend on a platform's libm.
//! - [`functions`]: the closed list of whole-tensor functions that plans call instead of kernels.
//! - [`model`]: the trait through which any engine runs, and tensor descriptors.
//! - [`vector`]: the words of the compiler's kernels, for generated Rust.
//! - [`weights`]: weights that a program hands over, checked.
//! - [`machine`]: what machine code is given when it runs.
//! - [`cpu`]: which instruction sets this CPU and operating system offer.
//! - `source`: the text of these files (feature `source`).
//! - `pool`: threads for one run of one model (feature `std`).
//! - `blob`: aligned memory in large pages (feature `std`).
//!
//! `no_std`, no allocation, no dependencies. Feature `std` adds threads, memory in large pages, hardware fused multiply-add and
//! `std::error::Error`; results do not change.

#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(test)]
extern crate std;

#[cfg(feature = "std")]
pub mod blob;
pub mod cpu;
pub mod functions;
pub mod machine;
pub mod math;
pub mod model;
#[cfg(feature = "std")]
pub mod pool;
pub mod requant;
#[cfg(feature = "source")]
pub mod source;
#[cfg(test)]
mod sweep;
pub mod vector;
pub mod weights;

pub use model::{Arena, Dtype, Extent, Model, RunError, TensorDesc, TensorMut, TensorRef};
#[cfg(feature = "std")]
pub use pool::Pool;
