//! Which instruction sets this CPU offers and the operating system has enabled, by `cpuid` and `xgetbv`.

/// AVX2 and FMA, with the operating system saving 256-bit registers.
pub fn avx2() -> bool {
    features().avx2
}

/// AVX-VNNI (`vpdpbusd` in VEX encoding) on top of [`avx2`].
pub fn avx_vnni() -> bool {
    features().avx_vnni
}

/// AVX-512 F, BW, DQ, VL and VNNI on top of [`avx2`], with the operating system saving their registers.
pub fn avx512_vnni() -> bool {
    features().avx512_vnni
}

/// AVX-512 VBMI on top of [`avx512_vnni`]: two-register byte permutes, used by table look-ups.
pub fn avx512_vbmi() -> bool {
    features().avx512_vbmi
}

/// Which CPU this is: nothing is known without `cpuid`.
#[cfg(not(target_arch = "x86_64"))]
pub fn identity() -> ([u8; 48], u32) {
    ([0; 48], 0)
}

/// Which CPU this is: the text that its maker gave it, padded with zeros, and its family, model and stepping, as `cpuid` has them.
#[cfg(target_arch = "x86_64")]
pub fn identity() -> ([u8; 48], u32) {
    use core::arch::x86_64::__cpuid;
    /// The first of three leaves.
    const BRAND: u32 = 0x8000_0002;
    let mut brand = [0; 48];
    if __cpuid(0x8000_0000).eax >= BRAND + 2 {
        for (leaf, part) in (BRAND..).zip(brand.chunks_exact_mut(16)) {
            let r = __cpuid(leaf);
            for (word, bytes) in [r.eax, r.ebx, r.ecx, r.edx].into_iter().zip(part.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    (brand, __cpuid(1).eax)
}

/// What is usable; each implies what its function above says it is on top of.
#[derive(Default)]
struct Features {
    avx2: bool,
    avx_vnni: bool,
    avx512_vnni: bool,
    avx512_vbmi: bool,
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Features {
    Features::default()
}

#[cfg(target_arch = "x86_64")]
fn features() -> Features {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    fn xgetbv() -> u64 {
        // SAFETY: the caller has checked OSXSAVE.
        unsafe { _xgetbv(0) }
    }

    /// XCR0: SSE, AVX.
    const YMM: u64 = 0x6;
    /// The same, opmask, upper halves of zmm0-15, zmm16-31.
    const ZMM: u64 = 0xe6;
    /// EBX of leaf 7: F 16, DQ 17, BW 30, VL 31.
    const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;

    if __cpuid(0).eax < 7 {
        return Features::default();
    }
    let bit = |word: u32, k: u32| word & 1 << k != 0;
    let (one, seven) = (__cpuid(1).ecx, __cpuid_count(7, 0));
    // SAFETY: OSXSAVE says that xgetbv is enabled.
    let saved = if bit(one, 27) { unsafe { xgetbv() } } else { 0 };
    let avx2 = saved & YMM == YMM && bit(one, 12) && bit(seven.ebx, 5);
    let avx512_vnni = avx2 && saved & ZMM == ZMM && seven.ebx & AVX512 == AVX512 && bit(seven.ecx, 11);
    Features {
        avx2,
        avx_vnni: avx2 && seven.eax >= 1 && bit(__cpuid_count(7, 1).eax, 4),
        avx512_vnni,
        avx512_vbmi: avx512_vnni && bit(seven.ecx, 1),
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    #[test]
    fn the_standard_library_sees_the_same_cpu() {
        let vnni = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512vnni")
            && std::is_x86_feature_detected!("fma");
        assert_eq!(super::avx512_vnni(), vnni);
        assert_eq!(super::avx512_vbmi(), vnni && std::is_x86_feature_detected!("avx512vbmi"));
    }
}
