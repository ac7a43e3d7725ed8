//! The words for AVX2 and FMA: 8 lanes.

use core::arch::x86_64::*;

pub use super::portable::copy;

/// A vector.
pub type Vector = __m256i;

/// Lanes as f32.
#[inline]
#[target_feature(enable = "avx")]
fn f(v: Vector) -> __m256 {
    _mm256_castsi256_ps(v)
}

/// Lanes from f32.
#[inline]
#[target_feature(enable = "avx")]
fn i(v: __m256) -> Vector {
    _mm256_castps_si256(v)
}

/// A number of bits to shift by.
#[inline]
#[target_feature(enable = "avx")]
fn by(bits: u32) -> __m128i {
    _mm_cvtsi32_si128(bits as i32)
}

/// The same vector. The compiler neither regroups sums across this nor keeps what was loaded before it for a load behind it: kernels that
/// take all registers would then hold products and inputs of half a tile besides, on the stack.
#[inline]
#[target_feature(enable = "avx")]
fn in_order(mut v: Vector) -> Vector {
    // SAFETY: no instruction. Without `nomem`, memory may have changed for all that the compiler knows.
    unsafe { core::arch::asm!("/* {0} */", inout(ymm_reg) v, options(nostack, preserves_flags)) };
    v
}

words! { "avx2,fma":
    fn splat(bits: u32) -> Vector { _mm256_set1_epi32(bits as i32) }
    fn dot4(acc: Vector, u: Vector, s: Vector) -> Vector {
        // Even bytes, then odd bytes, as words: no step can overflow.
        let even = _mm256_madd_epi16(
            _mm256_and_si256(u, _mm256_set1_epi16(0xff)),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(s)),
        );
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(u), _mm256_srai_epi16::<8>(s));
        _mm256_add_epi32(acc, _mm256_add_epi32(even, odd))
    }
    fn dot2(acc: Vector, a: Vector, b: Vector) -> Vector {
        in_order(_mm256_add_epi32(acc, _mm256_madd_epi16(a, b)))
    }
    fn add_i32(a: Vector, b: Vector) -> Vector { _mm256_add_epi32(a, b) }
    fn sub_i32(a: Vector, b: Vector) -> Vector { _mm256_sub_epi32(a, b) }
    fn mul_i32(a: Vector, b: Vector) -> Vector { _mm256_mullo_epi32(a, b) }
    fn and(a: Vector, b: Vector) -> Vector { _mm256_and_si256(a, b) }
    fn or(a: Vector, b: Vector) -> Vector { _mm256_or_si256(a, b) }
    fn shl_i32(a: Vector, bits: u32) -> Vector { _mm256_sll_epi32(a, by(bits)) }
    fn shl_i16(a: Vector, bits: u32) -> Vector { _mm256_sll_epi16(a, by(bits)) }
    fn shr_i16(a: Vector, bits: u32) -> Vector { _mm256_sra_epi16(a, by(bits)) }
    fn shr_u16(a: Vector, bits: u32) -> Vector { _mm256_srl_epi16(a, by(bits)) }
    fn max_u8(a: Vector, b: Vector) -> Vector { _mm256_max_epu8(a, b) }
    fn min_u8(a: Vector, b: Vector) -> Vector { _mm256_min_epu8(a, b) }
    fn add_f32(a: Vector, b: Vector) -> Vector { i(_mm256_add_ps(f(a), f(b))) }
    fn sub_f32(a: Vector, b: Vector) -> Vector { i(_mm256_sub_ps(f(a), f(b))) }
    fn mul_f32(a: Vector, b: Vector) -> Vector { i(_mm256_mul_ps(f(a), f(b))) }
    fn div_f32(a: Vector, b: Vector) -> Vector { i(_mm256_div_ps(f(a), f(b))) }
    fn max_f32(a: Vector, b: Vector) -> Vector { i(_mm256_max_ps(f(a), f(b))) }
    fn min_f32(a: Vector, b: Vector) -> Vector { i(_mm256_min_ps(f(a), f(b))) }
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector { i(_mm256_fmadd_ps(f(a), f(b), f(c))) }
    fn f32_from_i32(a: Vector) -> Vector { i(_mm256_cvtepi32_ps(a)) }
    fn i32_from_f32(a: Vector) -> Vector { _mm256_cvtps_epi32(f(a)) }
    fn unpack_lo8(a: Vector, b: Vector) -> Vector { _mm256_unpacklo_epi8(a, b) }
    fn unpack_hi8(a: Vector, b: Vector) -> Vector { _mm256_unpackhi_epi8(a, b) }
    fn unpack_lo16(a: Vector, b: Vector) -> Vector { _mm256_unpacklo_epi16(a, b) }
    fn unpack_hi16(a: Vector, b: Vector) -> Vector { _mm256_unpackhi_epi16(a, b) }
    fn pack_i32_i16(a: Vector, b: Vector) -> Vector { _mm256_packs_epi32(a, b) }
    fn pack_i16_u8(a: Vector, b: Vector) -> Vector { _mm256_packus_epi16(a, b) }
    fn permute32(a: Vector, index: Vector) -> Vector { _mm256_permutevar8x32_epi32(a, index) }
    fn shuffle8(a: Vector, control: Vector) -> Vector { _mm256_shuffle_epi8(a, control) }
}

memory_words! { "avx2,fma":
    fn load(p: *const u8, at: usize, bytes: usize) -> Vector {
        let p = p.wrapping_add(at);
        match bytes {
            32 => _mm256_loadu_si256(p.cast()),
            16 => _mm256_zextsi128_si256(_mm_loadu_si128(p.cast())),
            8 => _mm256_zextsi128_si256(_mm_loadl_epi64(p.cast())),
            4 => _mm256_zextsi128_si256(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned())),
            _ => {
                let mut part = [0u8; 32];
                part.as_mut_ptr().copy_from_nonoverlapping(p, bytes);
                _mm256_loadu_si256(part.as_ptr().cast())
            }
        }
    }
    fn store(p: *mut u8, at: usize, v: Vector, bytes: usize) {
        let (p, half) = (p.wrapping_add(at), _mm256_castsi256_si128(v));
        match bytes {
            32 => _mm256_storeu_si256(p.cast(), v),
            16 => _mm_storeu_si128(p.cast(), half),
            8 => _mm_storel_epi64(p.cast(), half),
            4 => p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(half)),
            _ => {
                let mut part = [0u8; 32];
                _mm256_storeu_si256(part.as_mut_ptr().cast(), v);
                p.copy_from_nonoverlapping(part.as_ptr(), bytes)
            }
        }
    }
    fn broadcast32(p: *const u8, at: usize) -> Vector {
        _mm256_set1_epi32(p.wrapping_add(at).cast::<i32>().read_unaligned())
    }
    fn load_u8(p: *const u8, at: usize, count: usize) -> Vector {
        // As many of the first eight bytes as are wanted.
        _mm256_cvtepu8_epi32(_mm256_castsi256_si128(load(p, at, count)))
    }
    fn prefetch(p: *const u8, at: usize) {
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(at).cast())
    }
    fn prefetch_far(p: *const u8, at: usize) {
        _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(at).cast())
    }
    fn lookup8(a: Vector, p: *const u8, at: usize) -> Vector {
        // Sixteen shuffles of 16 entries each: of src − 16·i, bytes below 16 select, all others give 0.
        let (mut x, mut found) = (a, _mm256_setzero_si256());
        for part in 0..16 {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.wrapping_add(at + 16 * part).cast()));
            // Saturating: 16 and above set bit 7, for which a shuffle gives 0.
            let control = _mm256_adds_epu8(x, _mm256_set1_epi8(0x70));
            found = _mm256_or_si256(found, _mm256_shuffle_epi8(table, control));
            x = _mm256_sub_epi8(x, _mm256_set1_epi8(16));
        }
        found
    }
}
