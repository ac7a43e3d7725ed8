//! The words in plain Rust: their definition. `L` lanes of 32 bits, at most 16; in memory lanes are little-endian.

use crate::requant;
use core::array::from_fn;

/// A vector.
pub type Vector<const L: usize> = [u32; L];

/// A value in memory, anywhere. (`read_unaligned` would do, but debug builds check its pointer every time.)
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Lanes as memory has them, from lanes as numbers, or back.
#[inline(always)]
fn little<const L: usize>(v: Vector<L>) -> Vector<L> {
    if cfg!(target_endian = "big") { v.map(u32::to_le) } else { v }
}

/// Every lane is `bits`.
#[inline(always)]
pub fn splat<const L: usize>(bits: u32) -> Vector<L> {
    [bits; L]
}

/// The first `bytes` bytes of the vector are memory, the rest 0.
///
/// # Safety
/// The bytes are readable, and at most `4·L`.
#[inline(always)]
pub unsafe fn load<const L: usize>(p: *const u8, at: usize, bytes: usize) -> Vector<L> {
    let from = p.wrapping_add(at);
    if bytes == 4 * L {
        // SAFETY: the caller's.
        return little(unsafe { (*from.cast::<Unaligned<Vector<L>>>()).0 });
    }
    let mut v = [0u32; L];
    // SAFETY: the caller's; `v` has room for them.
    unsafe { v.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(from, bytes) };
    little(v)
}

/// Memory becomes the first `bytes` bytes of the vector.
///
/// # Safety
/// The bytes are writable, and at most `4·L`.
#[inline(always)]
pub unsafe fn store<const L: usize>(p: *mut u8, at: usize, v: Vector<L>, bytes: usize) {
    let (v, to) = (little(v), p.wrapping_add(at));
    if bytes == 4 * L {
        // SAFETY: the caller's.
        unsafe { (*to.cast::<Unaligned<Vector<L>>>()).0 = v };
    } else {
        // SAFETY: the caller's; `v` has them.
        unsafe { to.copy_from_nonoverlapping(v.as_ptr().cast(), bytes) };
    }
}

/// Every lane is the 4 bytes in memory.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub unsafe fn broadcast32<const L: usize>(p: *const u8, at: usize) -> Vector<L> {
    // SAFETY: the caller's.
    let bytes = unsafe { *p.wrapping_add(at).cast::<[u8; 4]>() };
    [u32::from_le_bytes(bytes); L]
}

/// Lane i is byte i of memory, for the first `count` lanes; the others are 0.
///
/// # Safety
/// The bytes are readable, and at most `L`.
#[inline(always)]
pub unsafe fn load_u8<const L: usize>(p: *const u8, at: usize, count: usize) -> Vector<L> {
    // SAFETY: the caller's; lanes from `count` on read nothing.
    from_fn(|i| if i < count { unsafe { p.wrapping_add(at + i).read() }.into() } else { 0 })
}

/// `bytes` bytes of memory go elsewhere. (They do not overlap, but may be where they go to: a kernel in place.)
///
/// # Safety
/// The first are writable, the second readable.
#[inline(always)]
pub unsafe fn copy(dst: *mut u8, dst_at: usize, src: *const u8, src_at: usize, bytes: usize) {
    // SAFETY: the caller's.
    unsafe { dst.wrapping_add(dst_at).copy_from(src.wrapping_add(src_at), bytes) }
}

/// Nothing: a hint.
#[inline(always)]
pub fn prefetch(_: *const u8, _: usize) {}

/// Nothing: a hint.
#[inline(always)]
pub fn prefetch_far(_: *const u8, _: usize) {}

/// `f` by lane.
#[inline(always)]
fn lanes<const L: usize>(a: Vector<L>, b: Vector<L>, f: impl Fn(u32, u32) -> u32) -> Vector<L> {
    from_fn(|i| f(a[i], b[i]))
}

/// `f` by lane as f32.
#[inline(always)]
fn floats<const L: usize>(a: Vector<L>, b: Vector<L>, f: impl Fn(f32, f32) -> f32) -> Vector<L> {
    lanes(a, b, |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits())
}

/// `f` by byte.
#[inline(always)]
fn bytes<const L: usize>(a: Vector<L>, b: Vector<L>, f: impl Fn(u8, u8) -> u8) -> Vector<L> {
    lanes(a, b, |a, b| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        u32::from_le_bytes(from_fn(|i| f(a[i], b[i])))
    })
}

/// `f` by 16-bit word.
#[inline(always)]
fn words<const L: usize>(a: Vector<L>, f: impl Fn(u16) -> u16) -> Vector<L> {
    a.map(|a| u32::from(f(a as u16)) | u32::from(f((a >> 16) as u16)) << 16)
}

/// `f` by block of 16 bytes.
#[inline(always)]
fn blocks<const L: usize>(
    a: Vector<L>,
    b: Vector<L>,
    f: impl Fn([u8; 16], [u8; 16]) -> [u8; 16],
) -> Vector<L> {
    let mut out = [0; L];
    for block in 0..L / 4 {
        let cut = |v: &Vector<L>| -> [u8; 16] { from_fn(|i| v[4 * block + i / 4].to_le_bytes()[i % 4]) };
        let result = f(cut(&a), cut(&b));
        for lane in 0..4 {
            out[4 * block + lane] = u32::from_le_bytes(from_fn(|i| result[4 * lane + i]));
        }
    }
    out
}

/// acc.i32 + Σ over 4 bytes of u.u8 · s.i8, exact, wrapping. Nearly all time goes here.
#[inline(always)]
pub fn dot4<const L: usize>(mut acc: Vector<L>, u: Vector<L>, s: Vector<L>) -> Vector<L> {
    // The plain loop below becomes vector code if it is long enough; four lanes need to be told.
    #[cfg(target_arch = "x86_64")]
    if L == 4 {
        use core::arch::x86_64::*;
        let vector = |v: &Vector<L>| {
            let v: [i32; 4] = from_fn(|i| v[i] as i32);
            // SAFETY: SSE2 is part of x86-64.
            unsafe { _mm_set_epi32(v[3], v[2], v[1], v[0]) }
        };
        let (c, u, s) = (vector(&acc), vector(&u), vector(&s));
        // SAFETY: SSE2 is part of x86-64; 128 bits are four lanes.
        let sum: [u32; 4] = unsafe {
            // Even and odd bytes as words; their products are summed in 32 bits, so all is exact.
            let even = _mm_madd_epi16(
                _mm_and_si128(u, _mm_set1_epi16(0xff)),
                _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(s)),
            );
            let odd = _mm_madd_epi16(_mm_srli_epi16::<8>(u), _mm_srai_epi16::<8>(s));
            core::mem::transmute(_mm_add_epi32(c, _mm_add_epi32(even, odd)))
        };
        acc.copy_from_slice(&sum);
        return acc;
    }
    for i in 0..L {
        // Wrapping, as checks would keep it from becoming vector code; the products cannot overflow.
        let product = |k: u32| {
            let x = (u[i] >> (8 * k)) & 0xff;
            let w = ((s[i] << (24 - 8 * k)) as i32) >> 24;
            x.wrapping_mul(w as u32)
        };
        for k in 0..4 {
            acc[i] = acc[i].wrapping_add(product(k));
        }
    }
    acc
}

/// acc.i32 + Σ over 2 words of a.i16 · b.i16, exact, wrapping.
#[inline(always)]
pub fn dot2<const L: usize>(acc: Vector<L>, a: Vector<L>, b: Vector<L>) -> Vector<L> {
    let word = |v: u32, k: u32| i32::from((v >> (16 * k)) as i16);
    let product = |a, b, k| (word(a, k) * word(b, k)) as u32;
    from_fn(|i| acc[i].wrapping_add(product(a[i], b[i], 0)).wrapping_add(product(a[i], b[i], 1)))
}

/// i32 a + b, wrapping.
#[inline(always)]
pub fn add_i32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    lanes(a, b, u32::wrapping_add)
}

/// i32 a − b, wrapping.
#[inline(always)]
pub fn sub_i32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    lanes(a, b, u32::wrapping_sub)
}

/// Low 32 bits of i32 a · b.
#[inline(always)]
pub fn mul_i32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    lanes(a, b, u32::wrapping_mul)
}

/// a & b.
#[inline(always)]
pub fn and<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    lanes(a, b, |a, b| a & b)
}

/// a | b.
#[inline(always)]
pub fn or<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    lanes(a, b, |a, b| a | b)
}

/// Each lane shifted left by `by` (0..32) bits.
#[inline(always)]
pub fn shl_i32<const L: usize>(a: Vector<L>, by: u32) -> Vector<L> {
    a.map(|a| a << by)
}

/// Each word shifted left by `by` (0..16) bits.
#[inline(always)]
pub fn shl_i16<const L: usize>(a: Vector<L>, by: u32) -> Vector<L> {
    words(a, |w| w << by)
}

/// Each i16 shifted right by `by` (0..16) bits, sign kept.
#[inline(always)]
pub fn shr_i16<const L: usize>(a: Vector<L>, by: u32) -> Vector<L> {
    words(a, |w| (w as i16 >> by) as u16)
}

/// Each u16 shifted right by `by` (0..16) bits.
#[inline(always)]
pub fn shr_u16<const L: usize>(a: Vector<L>, by: u32) -> Vector<L> {
    words(a, |w| w >> by)
}

/// Bytewise unsigned maximum.
#[inline(always)]
pub fn max_u8<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    bytes(a, b, u8::max)
}

/// Bytewise unsigned minimum.
#[inline(always)]
pub fn min_u8<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    bytes(a, b, u8::min)
}

/// f32 a + b.
#[inline(always)]
pub fn add_f32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    floats(a, b, |a, b| a + b)
}

/// f32 a − b.
#[inline(always)]
pub fn sub_f32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    floats(a, b, |a, b| a - b)
}

/// f32 a · b.
#[inline(always)]
pub fn mul_f32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    floats(a, b, |a, b| a * b)
}

/// f32 a / b.
#[inline(always)]
pub fn div_f32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    floats(a, b, |a, b| a / b)
}

/// a > b ? a : b per lane (so NaN in either gives b).
#[inline(always)]
pub fn max_f32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    floats(a, b, |a, b| if a > b { a } else { b })
}

/// a < b ? a : b per lane (so NaN in either gives b).
#[inline(always)]
pub fn min_f32<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    floats(a, b, |a, b| if a < b { a } else { b })
}

/// f32 a · b + c, rounded once.
#[inline(always)]
pub fn fma<const L: usize>(a: Vector<L>, b: Vector<L>, c: Vector<L>) -> Vector<L> {
    let lane = |a, b, c| requant::fma(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c)).to_bits();
    from_fn(|i| lane(a[i], b[i], c[i]))
}

/// f32(i32), half to even.
#[inline(always)]
pub fn f32_from_i32<const L: usize>(a: Vector<L>) -> Vector<L> {
    a.map(|v| (v as i32 as f32).to_bits())
}

/// i32(f32), half to even, of values in (−2^31, 2^31).
#[inline(always)]
pub fn i32_from_f32<const L: usize>(a: Vector<L>) -> Vector<L> {
    a.map(|v| {
        let v = f32::from_bits(v);
        debug_assert!(v.abs() < 2_147_483_648.0, "lowering keeps {v} in the range of i32");
        round_ties_even(v) as i32 as u32
    })
}

/// The nearest integer, half to even. (The standard library's is not in `core`.)
#[inline(always)]
fn round_ties_even(v: f32) -> f32 {
    // From 2^23 on every f32 is an integer. Below, adding 2^23 of the same sign leaves no bits for a fraction, and rounds.
    const WHOLE: f32 = 8_388_608.0;
    let whole = WHOLE.copysign(v);
    if v.abs() < WHOLE { (v + whole) - whole } else { v }
}

/// Per block of 16 bytes: bytes a0 b0 a1 b1 … of the lower halves.
#[inline(always)]
pub fn unpack_lo8<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    blocks(a, b, |a, b| from_fn(|i| [a, b][i % 2][i / 2]))
}

/// The same of the upper halves.
#[inline(always)]
pub fn unpack_hi8<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    blocks(a, b, |a, b| from_fn(|i| [a, b][i % 2][8 + i / 2]))
}

/// Per block of 16 bytes: words a0 b0 a1 b1 … of the lower halves.
#[inline(always)]
pub fn unpack_lo16<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    blocks(a, b, |a, b| from_fn(|i| [a, b][i / 2 % 2][i / 4 * 2 + i % 2]))
}

/// The same of the upper halves.
#[inline(always)]
pub fn unpack_hi16<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    blocks(a, b, |a, b| from_fn(|i| [a, b][i / 2 % 2][8 + i / 4 * 2 + i % 2]))
}

/// Per block of 16 bytes: 4 i32 of a then 4 of b, saturated to i16.
#[inline(always)]
pub fn pack_i32_i16<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    blocks(a, b, |a, b| {
        from_fn(|i| {
            let (v, at) = ([a, b][i / 8], i % 8 / 2 * 4);
            let v = i32::from_le_bytes([v[at], v[at + 1], v[at + 2], v[at + 3]]);
            (v.clamp(i16::MIN.into(), i16::MAX.into()) as i16).to_le_bytes()[i % 2]
        })
    })
}

/// Per block of 16 bytes: 8 i16 of a then 8 of b, saturated to u8.
#[inline(always)]
pub fn pack_i16_u8<const L: usize>(a: Vector<L>, b: Vector<L>) -> Vector<L> {
    blocks(a, b, |a, b| {
        from_fn(|i| {
            let (v, at) = ([a, b][i / 8], i % 8 * 2);
            i16::from_le_bytes([v[at], v[at + 1]]).clamp(0, 255) as u8
        })
    })
}

/// Lane i is lane `index[i] mod L` of a.
#[inline(always)]
pub fn permute32<const L: usize>(a: Vector<L>, index: Vector<L>) -> Vector<L> {
    index.map(|i| a[i as usize % L])
}

/// Per block of 16 bytes: byte i = `control[i] < 128 ? a[control[i] & 15] : 0`.
#[inline(always)]
pub fn shuffle8<const L: usize>(a: Vector<L>, control: Vector<L>) -> Vector<L> {
    blocks(a, control, |a, c| from_fn(|i| if c[i] < 128 { a[(c[i] & 15) as usize] } else { 0 }))
}

/// Byte i is `table[a byte i]`; the table is 256 bytes in memory.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub unsafe fn lookup8<const L: usize>(a: Vector<L>, p: *const u8, at: usize) -> Vector<L> {
    let table = p.wrapping_add(at);
    // SAFETY: the caller's; an index is a byte.
    a.map(|v| u32::from_le_bytes(v.to_le_bytes().map(|b| unsafe { table.add(b.into()).read() })))
}
