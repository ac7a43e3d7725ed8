//! The stack frame of the entry function. Kernels are only called from there, at one depth, so they use it too
//! and need no prologue of their own.

/// Deepest nest of loops that needs a counter in memory.
pub(super) const LOOPS: usize = 16;
/// Deepest grid, and one more for the images of a batch.
pub(super) const GRID: usize = 16;
/// Vector registers that can be set aside at once.
pub(super) const SPILLS: usize = 5;

/// The caller's rsp.
pub(super) const CALLER: i64 = 0;
/// Time stamp at the start of a step.
pub(super) const STARTED: i64 = 8;
/// Counters of the grid.
pub(super) const GRID_COUNTERS: i64 = 16;
/// Counters of loops in kernels.
pub(super) const LOOP_COUNTERS: i64 = GRID_COUNTERS + 8 * GRID as i64;
/// Vector registers set aside, 64 bytes each.
pub(super) const VECTORS: i64 = (LOOP_COUNTERS + 8 * LOOPS as i64 + 63) / 64 * 64;
/// Its size, a multiple of 64.
pub(super) const BYTES: i64 = VECTORS + 64 * SPILLS as i64;

/// Bytes from rsp inside a kernel, where the return address lies below the frame.
pub(super) const fn in_kernel(offset: i64) -> i64 {
    offset + 8
}
