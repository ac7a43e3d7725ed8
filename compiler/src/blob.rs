//! Bytes in memory at a 64-byte boundary: the runtime's, for programs have the same need.

pub use qgraph_runtime::blob::{ALIGN, Bytes};
