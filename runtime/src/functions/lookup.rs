//! Byte tables, one for each channel.

/// `dst = tables[channel][src]` for every pixel of `outer` (rows, pixels); `steps` are the bytes between rows, pixels of src, dst.
///
/// # Safety
/// Both sides hold all pixels of `channels` bytes, and `tables` 256 bytes for each channel. The sides are the same or do not overlap.
pub(super) unsafe fn run(
    outer: [usize; 2],
    steps: [[usize; 2]; 2],
    channels: usize,
    src: *const u8,
    dst: *mut u8,
    tables: *const u8,
) {
    for (row, pixel) in (0..outer[0]).flat_map(|r| (0..outer[1]).map(move |p| (r, p))) {
        let at = |side: usize| row * steps[side][0] + pixel * steps[side][1];
        // SAFETY: pixel and channels are within the extents that the caller vouches for.
        unsafe {
            let (src, dst) = (src.add(at(0)), dst.add(at(1)));
            for c in 0..channels {
                dst.add(c).write(tables.add(256 * c + usize::from(src.add(c).read())).read());
            }
        }
    }
}
