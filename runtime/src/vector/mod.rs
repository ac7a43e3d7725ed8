//! The words of the kernel IR as functions on vectors: what generated Rust is made of.
//!
//! Each module has one function for each word of the IR, under the name that the IR prints, and a type of vectors. [`portable`] is the
//! definition: plain Rust for any number of lanes, which the compiler's kernel interpreter runs too. The others are the same words in
//! intrinsics of one instruction set, for callers that have its features enabled. All give the same bits. Memory is a pointer and a number of
//! bytes from it, of any alignment.
//!
//! Not here: what a kernel is, and the proof that its accesses are in bounds (the compiler's `kernel` module).

/// Functions with the features of an instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! words {
    ($features:literal: $(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty { $($body:tt)* })*) => {$(
        #[doc = concat!("The word `", stringify!($name), "`.\n\n# Safety\nThe CPU has the features.")]
        #[inline]
        #[target_feature(enable = $features)]
        pub fn $name($($arg: $ty),*) -> $out {
            $($body)*
        }
    )*};
}

/// The same for words that access memory.
#[cfg(target_arch = "x86_64")]
macro_rules! memory_words {
    ($features:literal: $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)? { $($body:tt)* })*) => {$(
        #[doc = concat!("The word `", stringify!($name), "`.\n\n# Safety\nThe CPU has the features; the bytes that it accesses are valid.")]
        // A hint accesses none; compilers differ in whether it is unsafe.
        #[allow(unused_unsafe)]
        #[inline]
        #[target_feature(enable = $features)]
        pub unsafe fn $name($($arg: $ty),*) $(-> $out)? {
            // SAFETY: the caller vouches for these bytes.
            unsafe { $($body)* }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512vnni;
#[cfg(target_arch = "x86_64")]
pub mod avxvnni;
pub mod portable;
