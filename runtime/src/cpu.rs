//! Which instruction sets this CPU offers and the operating system has enabled, by `cpuid` and `xgetbv`.

/// AVX-512 F, BW, DQ, VL and VNNI, with the operating system saving their registers.
pub fn avx512_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        x86::features().vnni
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// AVX-512 VBMI on top of [`avx512_vnni`]: two-register byte permutes, used by table look-ups.
pub fn avx512_vbmi() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let f = x86::features();
        f.vnni && f.vbmi
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    pub(super) struct Features {
        pub(super) vnni: bool,
        pub(super) vbmi: bool,
    }

    pub(super) fn features() -> Features {
        let none = Features { vnni: false, vbmi: false };
        if __cpuid(0).eax < 7 {
            return none;
        }
        let osxsave = __cpuid(1).ecx & 1 << 27 != 0;
        // XCR0: SSE, AVX, opmask, upper halves of zmm0-15, zmm16-31.
        const STATE: u64 = 0xe6;
        // SAFETY: OSXSAVE says that xgetbv is enabled.
        if !osxsave || unsafe { xgetbv() } & STATE != STATE {
            return none;
        }
        let leaf = __cpuid_count(7, 0);
        // EBX: AVX2 5, F 16, DQ 17, BW 30, VL 31.
        const EBX: u32 = 1 << 5 | 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
        let fma = __cpuid(1).ecx & 1 << 12 != 0;
        Features {
            vnni: fma && leaf.ebx & EBX == EBX && leaf.ecx & 1 << 11 != 0,
            vbmi: leaf.ecx & 1 << 1 != 0,
        }
    }

    #[target_feature(enable = "xsave")]
    fn xgetbv() -> u64 {
        // SAFETY: the caller has checked OSXSAVE.
        unsafe { _xgetbv(0) }
    }
}
