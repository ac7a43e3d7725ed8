//! The words for AVX-512 F, BW, DQ, VL and VNNI: 16 lanes.

use core::arch::x86_64::*;

pub use super::portable::copy;

/// A vector.
pub type Vector = __m512i;

/// The first `n` bits.
#[inline(always)]
fn first(n: usize) -> u64 {
    if n < 64 { (1 << n) - 1 } else { u64::MAX }
}

/// Lanes as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn f(v: Vector) -> __m512 {
    _mm512_castsi512_ps(v)
}

/// Lanes from f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn i(v: __m512) -> Vector {
    _mm512_castps_si512(v)
}

/// A number of bits to shift by.
#[inline]
#[target_feature(enable = "avx512f")]
fn by(bits: u32) -> __m128i {
    _mm_cvtsi32_si128(bits as i32)
}

words! { "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni":
    fn splat(bits: u32) -> Vector { _mm512_set1_epi32(bits as i32) }
    fn dot4(acc: Vector, u: Vector, s: Vector) -> Vector { _mm512_dpbusd_epi32(acc, u, s) }
    fn dot2(acc: Vector, a: Vector, b: Vector) -> Vector { _mm512_dpwssd_epi32(acc, a, b) }
    fn add_i32(a: Vector, b: Vector) -> Vector { _mm512_add_epi32(a, b) }
    fn sub_i32(a: Vector, b: Vector) -> Vector { _mm512_sub_epi32(a, b) }
    fn mul_i32(a: Vector, b: Vector) -> Vector { _mm512_mullo_epi32(a, b) }
    fn and(a: Vector, b: Vector) -> Vector { _mm512_and_si512(a, b) }
    fn or(a: Vector, b: Vector) -> Vector { _mm512_or_si512(a, b) }
    fn shl_i32(a: Vector, bits: u32) -> Vector { _mm512_sll_epi32(a, by(bits)) }
    fn shl_i16(a: Vector, bits: u32) -> Vector { _mm512_sll_epi16(a, by(bits)) }
    fn shr_i16(a: Vector, bits: u32) -> Vector { _mm512_sra_epi16(a, by(bits)) }
    fn shr_u16(a: Vector, bits: u32) -> Vector { _mm512_srl_epi16(a, by(bits)) }
    fn max_u8(a: Vector, b: Vector) -> Vector { _mm512_max_epu8(a, b) }
    fn min_u8(a: Vector, b: Vector) -> Vector { _mm512_min_epu8(a, b) }
    fn add_f32(a: Vector, b: Vector) -> Vector { i(_mm512_add_ps(f(a), f(b))) }
    fn sub_f32(a: Vector, b: Vector) -> Vector { i(_mm512_sub_ps(f(a), f(b))) }
    fn mul_f32(a: Vector, b: Vector) -> Vector { i(_mm512_mul_ps(f(a), f(b))) }
    fn div_f32(a: Vector, b: Vector) -> Vector { i(_mm512_div_ps(f(a), f(b))) }
    fn max_f32(a: Vector, b: Vector) -> Vector { i(_mm512_max_ps(f(a), f(b))) }
    fn min_f32(a: Vector, b: Vector) -> Vector { i(_mm512_min_ps(f(a), f(b))) }
    fn fma(a: Vector, b: Vector, c: Vector) -> Vector { i(_mm512_fmadd_ps(f(a), f(b), f(c))) }
    fn f32_from_i32(a: Vector) -> Vector { i(_mm512_cvtepi32_ps(a)) }
    fn i32_from_f32(a: Vector) -> Vector { _mm512_cvtps_epi32(f(a)) }
    fn unpack_lo8(a: Vector, b: Vector) -> Vector { _mm512_unpacklo_epi8(a, b) }
    fn unpack_hi8(a: Vector, b: Vector) -> Vector { _mm512_unpackhi_epi8(a, b) }
    fn unpack_lo16(a: Vector, b: Vector) -> Vector { _mm512_unpacklo_epi16(a, b) }
    fn unpack_hi16(a: Vector, b: Vector) -> Vector { _mm512_unpackhi_epi16(a, b) }
    fn pack_i32_i16(a: Vector, b: Vector) -> Vector { _mm512_packs_epi32(a, b) }
    fn pack_i16_u8(a: Vector, b: Vector) -> Vector { _mm512_packus_epi16(a, b) }
    fn permute32(a: Vector, index: Vector) -> Vector { _mm512_permutexvar_epi32(index, a) }
    fn shuffle8(a: Vector, control: Vector) -> Vector { _mm512_shuffle_epi8(a, control) }
}

memory_words! { "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni":
    fn load(p: *const u8, at: usize, bytes: usize) -> Vector {
        let p = p.wrapping_add(at);
        match bytes {
            64 => _mm512_loadu_si512(p.cast()),
            32 => _mm512_zextsi256_si512(_mm256_loadu_si256(p.cast())),
            16 => _mm512_zextsi128_si512(_mm_loadu_si128(p.cast())),
            _ => _mm512_maskz_loadu_epi8(first(bytes), p.cast()),
        }
    }
    fn store(p: *mut u8, at: usize, v: Vector, bytes: usize) {
        let p = p.wrapping_add(at);
        match bytes {
            64 => _mm512_storeu_si512(p.cast(), v),
            32 => _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(v)),
            16 => _mm_storeu_si128(p.cast(), _mm512_castsi512_si128(v)),
            _ => _mm512_mask_storeu_epi8(p.cast(), first(bytes), v),
        }
    }
    fn broadcast32(p: *const u8, at: usize) -> Vector {
        _mm512_set1_epi32(p.wrapping_add(at).cast::<i32>().read_unaligned())
    }
    fn load_u8(p: *const u8, at: usize, count: usize) -> Vector {
        let p = p.wrapping_add(at);
        _mm512_cvtepu8_epi32(match count {
            16 => _mm_loadu_si128(p.cast()),
            _ => _mm_maskz_loadu_epi8(first(count) as u16, p.cast()),
        })
    }
    fn prefetch(p: *const u8, at: usize) {
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(at).cast())
    }
    fn prefetch_far(p: *const u8, at: usize) {
        _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(at).cast())
    }
    fn lookup8(a: Vector, p: *const u8, at: usize) -> Vector {
        // Words of two entries: the upper seven bits of a byte choose one, its lowest bit an entry of it.
        let table = [0, 64, 128, 192].map(|part| _mm512_loadu_si512(p.wrapping_add(at + part).cast()));
        let bit6 = _mm512_set1_epi16(1 << 6);
        // Permutes take six bits of an index.
        let [even, odd] = [_mm512_srli_epi16::<1>(a), _mm512_srli_epi16::<9>(a)].map(|index| {
            let low = _mm512_permutex2var_epi16(table[0], index, table[1]);
            let high = _mm512_permutex2var_epi16(table[2], index, table[3]);
            _mm512_mask_blend_epi16(_mm512_test_epi16_mask(index, bit6), low, high)
        });
        let odd_bytes = 0xaaaa_aaaa_aaaa_aaaa;
        let first = _mm512_mask_blend_epi8(odd_bytes, even, _mm512_slli_epi16::<8>(odd));
        let second = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi16::<8>(even), odd);
        _mm512_mask_blend_epi8(_mm512_test_epi8_mask(a, _mm512_set1_epi8(1)), first, second)
    }
}
