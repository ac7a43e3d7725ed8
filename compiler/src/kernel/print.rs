//! Text of a kernel.
