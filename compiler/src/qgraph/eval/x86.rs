//! The inner product of [`conv`](super::conv) with AVX2: the compiler does not keep the sums in registers by itself, which
//! costs a factor of five. Same operations in the same order, so same bits.

use super::super::layout::BLOCK;
use super::conv::{POSITIONS, Tile};
use core::arch::x86_64::*;

/// True if this CPU can run the functions here.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// `acc[p][m] += Σ_k patch[k][p] · weights[k][m]`
#[target_feature(enable = "avx2,fma")]
pub(super) fn sum_i32(acc: &mut Tile<i32>, patch: &[[i32; POSITIONS]], weights: &[[i8; BLOCK]]) {
    let mut sums = acc.map(|sums| {
        let (low, high) = halves(&sums);
        // SAFETY: each half is 8 i32, 32 bytes.
        unsafe { [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())] }
    });
    for (xs, ws) in patch.iter().zip(weights) {
        // SAFETY: 16 bytes.
        let ws = unsafe { _mm_loadu_si128(ws.as_ptr().cast()) };
        let ws = [_mm256_cvtepi8_epi32(ws), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(ws, ws))];
        for (sums, &x) in sums.iter_mut().zip(xs) {
            let x = _mm256_set1_epi32(x);
            sums[0] = _mm256_add_epi32(sums[0], _mm256_mullo_epi32(x, ws[0]));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_mullo_epi32(x, ws[1]));
        }
    }
    for (out, sums) in acc.iter_mut().zip(sums) {
        // SAFETY: 16 i32 are two vectors.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(out.as_mut_ptr().add(BLOCK / 2).cast(), sums[1]);
        }
    }
}

/// `acc[p][m] = fma(patch[k][p], weights[k][m], acc[p][m])` for k in order
#[target_feature(enable = "avx2,fma")]
pub(super) fn sum_f32(acc: &mut Tile<f32>, patch: &[[f32; POSITIONS]], weights: &[[f32; BLOCK]]) {
    // SAFETY: each half is 8 f32, 32 bytes.
    let load = |(low, high): (&[f32], &[f32])| unsafe {
        [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())]
    };
    let mut sums = acc.map(|sums| load(halves(&sums)));
    for (xs, ws) in patch.iter().zip(weights) {
        let ws = load(halves(ws));
        for (sums, &x) in sums.iter_mut().zip(xs) {
            let x = _mm256_set1_ps(x);
            sums[0] = _mm256_fmadd_ps(x, ws[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(x, ws[1], sums[1]);
        }
    }
    for (out, sums) in acc.iter_mut().zip(sums) {
        // SAFETY: 16 f32 are two vectors.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(BLOCK / 2), sums[1]);
        }
    }
}

#[inline(always)]
fn halves<T>(block: &[T; BLOCK]) -> (&[T], &[T]) {
    block.split_at(BLOCK / 2)
}
