//! Bytes in memory at a 64-byte boundary: weights, constants, arenas. Large blocks lie in pages of 2 MiB where the system has them.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of all data that kernels touch: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// Size of the pages that large blocks ask for: weights and activations in 4 KiB pages miss the translation cache so often that
/// layers which stream their weights run 6 to 10 % slower.
const HUGE_PAGE: usize = 2 << 20;

/// Asks the system to back a block, not yet touched, with large pages. Only a wish: without them all works, slower.
fn advise_huge_pages(ptr: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    {
        /// `MADV_HUGEPAGE` of Linux.
        const HUGE_PAGES: i32 = 14;
        // What `std` links anyway.
        unsafe extern "C" {
            fn madvise(address: *mut u8, len: usize, advice: i32) -> i32;
        }
        // SAFETY: the range was just allocated, begins at a page boundary, and the advice changes no content.
        unsafe { madvise(ptr.as_ptr(), len, HUGE_PAGES) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (ptr, len);
}

/// Gives the empty block its aligned address.
#[repr(align(64))]
struct Line;

/// An owned, zero-initialised, 64-byte aligned block of bytes of fixed length.
pub struct Bytes {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: `Bytes` owns its block exclusively, like `Box<[u8]>`.
unsafe impl Send for Bytes {}
// SAFETY: shared access only reads, like `Box<[u8]>`.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// `len` zero bytes. Large blocks are touched here, in pages as large as the system gives.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Bytes { ptr: NonNull::<Line>::dangling().cast(), len };
        }
        let layout = Self::layout(len);
        if len < HUGE_PAGE {
            // SAFETY: the layout has a size above zero.
            let ptr = NonNull::new(unsafe { alloc_zeroed(layout) });
            return Bytes { ptr: ptr.unwrap_or_else(|| handle_alloc_error(layout)), len };
        }
        // SAFETY: the layout has a size above zero.
        let ptr = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        // Asked for before the first touch: pages that exist already stay small.
        advise_huge_pages(ptr, layout.size());
        // SAFETY: `len` bytes were allocated; this initialises them.
        unsafe { ptr.write_bytes(0, layout.size()) }
        Bytes { ptr, len }
    }

    /// Large blocks take whole pages of [`HUGE_PAGE`], so that the last one is large, too.
    fn layout(len: usize) -> Layout {
        let (size, align) = if len < HUGE_PAGE {
            (len, ALIGN)
        } else {
            (len.checked_next_multiple_of(HUGE_PAGE).unwrap_or(len), HUGE_PAGE)
        };
        Layout::from_size_align(size, align).expect("length fits the address space")
    }
}

impl From<&[u8]> for Bytes {
    fn from(data: &[u8]) -> Self {
        let mut b = Bytes::zeroed(data.len());
        b.copy_from_slice(data);
        b
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeroed` with this layout.
            unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes, owned.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` initialised bytes, owned, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Clone for Bytes {
    fn clone(&self) -> Self {
        Bytes::from(&**self)
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len)
    }
}
