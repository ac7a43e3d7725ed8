//! Instructions in their two encodings: EVEX on zmm registers (AVX-512), VEX on ymm registers (AVX2, AVX-VNNI).
//!
//! Not here: what to do where one of the two has no such instruction (`partial`, `scratch`).

use crate::target::Isa;
use iced_x86::{Code, Register};

/// How a target's instructions are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Evex,
    Vex,
}

/// An operation in both encodings.
#[derive(Clone, Copy)]
pub(super) struct Both {
    evex: Code,
    vex: Code,
}

impl Encoding {
    pub(super) fn of(isa: Isa) -> Encoding {
        match isa {
            Isa::Avx512Vnni => Encoding::Evex,
            Isa::AvxVnni | Isa::Avx2 | Isa::Portable => Encoding::Vex,
        }
    }

    /// The code of an operation.
    pub(super) fn code(self, both: Both) -> Code {
        match self {
            Encoding::Evex => both.evex,
            Encoding::Vex => both.vex,
        }
    }

    /// Vector registers of the machine.
    pub(super) fn registers(self) -> u8 {
        match self {
            Encoding::Evex => 32,
            Encoding::Vex => 16,
        }
    }

    /// Bytes of a vector register.
    pub(super) fn bytes(self) -> usize {
        match self {
            Encoding::Evex => 64,
            Encoding::Vex => 32,
        }
    }

    /// Vector register n, whole.
    pub(super) fn vector(self, n: u8) -> Register {
        match self {
            Encoding::Evex => Register::ZMM0 + u32::from(n),
            Encoding::Vex => ymm(n),
        }
    }
}

/// The first 32 bytes of vector register n.
pub(super) fn ymm(n: u8) -> Register {
    Register::YMM0 + u32::from(n)
}

/// Its first 16 bytes.
pub(super) fn xmm(n: u8) -> Register {
    Register::XMM0 + u32::from(n)
}

macro_rules! table {
    ($($name:ident: $evex:ident, $vex:ident;)*) => {
        $(pub(super) const $name: Both = Both { evex: Code::$evex, vex: Code::$vex };)*
    };
}

table! {
    // Whole vectors.
    LOAD: EVEX_Vmovdqu32_zmm_k1z_zmmm512, VEX_Vmovdqu_ymm_ymmm256;
    STORE: EVEX_Vmovdqu32_zmmm512_k1z_zmm, VEX_Vmovdqu_ymmm256_ymm;
    MOVE: EVEX_Vmovdqa32_zmm_k1z_zmmm512, VEX_Vmovdqa_ymm_ymmm256;
    BROADCAST32: EVEX_Vpbroadcastd_zmm_k1z_xmmm32, VEX_Vpbroadcastd_ymm_xmmm32;
    BROADCAST128: EVEX_Vbroadcasti32x4_zmm_k1z_m128, VEX_Vbroadcasti128_ymm_m128;
    // The operand is a quarter of the vector.
    WIDEN_U8: EVEX_Vpmovzxbd_zmm_k1z_xmmm128, VEX_Vpmovzxbd_ymm_xmmm64;

    // AVX2 has neither dot.
    DOT4: EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32, VEX_Vpdpbusd_ymm_ymm_ymmm256;
    DOT2: EVEX_Vpdpwssd_zmm_k1z_zmm_zmmm512b32, VEX_Vpdpwssd_ymm_ymm_ymmm256;

    ADD_I32: EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, VEX_Vpaddd_ymm_ymm_ymmm256;
    SUB_I32: EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, VEX_Vpsubd_ymm_ymm_ymmm256;
    MUL_I32: EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, VEX_Vpmulld_ymm_ymm_ymmm256;
    MADD_I16: EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512, VEX_Vpmaddwd_ymm_ymm_ymmm256;
    AND: EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, VEX_Vpand_ymm_ymm_ymmm256;
    OR: EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, VEX_Vpor_ymm_ymm_ymmm256;
    XOR: EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, VEX_Vpxor_ymm_ymm_ymmm256;
    SHL_I32: EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, VEX_Vpslld_ymm_ymm_imm8;
    SHL_I16: EVEX_Vpsllw_zmm_k1z_zmmm512_imm8, VEX_Vpsllw_ymm_ymm_imm8;
    SHR_I16: EVEX_Vpsraw_zmm_k1z_zmmm512_imm8, VEX_Vpsraw_ymm_ymm_imm8;
    SHR_U16: EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8, VEX_Vpsrlw_ymm_ymm_imm8;
    MAX_U8: EVEX_Vpmaxub_zmm_k1z_zmm_zmmm512, VEX_Vpmaxub_ymm_ymm_ymmm256;
    MIN_U8: EVEX_Vpminub_zmm_k1z_zmm_zmmm512, VEX_Vpminub_ymm_ymm_ymmm256;
    SUB_U8: EVEX_Vpsubb_zmm_k1z_zmm_zmmm512, VEX_Vpsubb_ymm_ymm_ymmm256;
    ADD_SATURATED_U8: EVEX_Vpaddusb_zmm_k1z_zmm_zmmm512, VEX_Vpaddusb_ymm_ymm_ymmm256;

    ADD_F32: EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vaddps_ymm_ymm_ymmm256;
    SUB_F32: EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vsubps_ymm_ymm_ymmm256;
    MUL_F32: EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vmulps_ymm_ymm_ymmm256;
    DIV_F32: EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vdivps_ymm_ymm_ymmm256;
    // Both give the second operand unless the comparison holds, as the IR defines them.
    MAX_F32: EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, VEX_Vmaxps_ymm_ymm_ymmm256;
    MIN_F32: EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, VEX_Vminps_ymm_ymm_ymmm256;
    // Which operands are multiplied: the digits name them, the last is added.
    FMA_231: EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vfmadd231ps_ymm_ymm_ymmm256;
    FMA_213: EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vfmadd213ps_ymm_ymm_ymmm256;
    FMA_132: EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vfmadd132ps_ymm_ymm_ymmm256;
    F32_FROM_I32: EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, VEX_Vcvtdq2ps_ymm_ymmm256;
    I32_FROM_F32: EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er, VEX_Vcvtps2dq_ymm_ymmm256;

    UNPACK_LO8: EVEX_Vpunpcklbw_zmm_k1z_zmm_zmmm512, VEX_Vpunpcklbw_ymm_ymm_ymmm256;
    UNPACK_HI8: EVEX_Vpunpckhbw_zmm_k1z_zmm_zmmm512, VEX_Vpunpckhbw_ymm_ymm_ymmm256;
    UNPACK_LO16: EVEX_Vpunpcklwd_zmm_k1z_zmm_zmmm512, VEX_Vpunpcklwd_ymm_ymm_ymmm256;
    UNPACK_HI16: EVEX_Vpunpckhwd_zmm_k1z_zmm_zmmm512, VEX_Vpunpckhwd_ymm_ymm_ymmm256;
    PACK_I32_I16: EVEX_Vpackssdw_zmm_k1z_zmm_zmmm512b32, VEX_Vpackssdw_ymm_ymm_ymmm256;
    PACK_I16_U8: EVEX_Vpackuswb_zmm_k1z_zmm_zmmm512, VEX_Vpackuswb_ymm_ymm_ymmm256;
    PERMUTE32: EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32, VEX_Vpermd_ymm_ymm_ymmm256;
    SHUFFLE8: EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, VEX_Vpshufb_ymm_ymm_ymmm256;

    // The first bytes of a vector; loads clear the rest.
    LOAD_32: EVEX_Vmovdqu32_ymm_k1z_ymmm256, VEX_Vmovdqu_ymm_ymmm256;
    LOAD_16: EVEX_Vmovdqu32_xmm_k1z_xmmm128, VEX_Vmovdqu_xmm_xmmm128;
    LOAD_8: EVEX_Vmovq_xmm_xmmm64, VEX_Vmovq_xmm_xmmm64;
    LOAD_4: EVEX_Vmovd_xmm_rm32, VEX_Vmovd_xmm_rm32;
    STORE_32: EVEX_Vmovdqu32_ymmm256_k1z_ymm, VEX_Vmovdqu_ymmm256_ymm;
    STORE_16: EVEX_Vmovdqu32_xmmm128_k1z_xmm, VEX_Vmovdqu_xmmm128_xmm;
    STORE_8: EVEX_Vmovq_xmmm64_xmm, VEX_Vmovq_xmmm64_xmm;
    STORE_4: EVEX_Vmovd_rm32_xmm, VEX_Vmovd_rm32_xmm;
    WIDEN_8_U8: EVEX_Vpmovzxbd_ymm_k1z_xmmm64, VEX_Vpmovzxbd_ymm_xmmm64;
    WIDEN_4_U8: EVEX_Vpmovzxbd_xmm_k1z_xmmm32, VEX_Vpmovzxbd_xmm_xmmm32;
    // One element, named by an immediate.
    EXTRACT_4: EVEX_Vpextrd_rm32_xmm_imm8, VEX_Vpextrd_rm32_xmm_imm8;
    EXTRACT_2: EVEX_Vpextrw_r32m16_xmm_imm8, VEX_Vpextrw_r32m16_xmm_imm8;
    EXTRACT_1: EVEX_Vpextrb_r32m8_xmm_imm8, VEX_Vpextrb_r32m8_xmm_imm8;
}
