//! The words for AVX2, FMA and AVX-VNNI: those of AVX2 but for the dots.

use core::arch::x86_64::*;

pub use super::avx2::{
    Vector, add_f32, add_i32, and, broadcast32, copy, div_f32, f32_from_i32, fma, i32_from_f32, load,
    load_u8, lookup8, max_f32, max_u8, min_f32, min_u8, mul_f32, mul_i32, or, pack_i16_u8, pack_i32_i16,
    permute32, prefetch, prefetch_far, shl_i16, shl_i32, shr_i16, shr_u16, shuffle8, splat, store, sub_f32,
    sub_i32, unpack_hi8, unpack_hi16, unpack_lo8, unpack_lo16,
};

words! { "avx2,fma,avxvnni":
    fn dot4(acc: Vector, u: Vector, s: Vector) -> Vector { _mm256_dpbusd_avx_epi32(acc, u, s) }
    fn dot2(acc: Vector, a: Vector, b: Vector) -> Vector { _mm256_dpwssd_avx_epi32(acc, a, b) }
}
