//! What kernels may use: vector width, registers, instructions. Pure data; only [`Target::detect`] looks at
//! the CPU.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Instruction set family of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Isa {
    /// Any CPU: 128-bit vectors of plain arithmetic, as every compiler can map.
    Portable,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

/// A target: data that scheduling reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The family.
    pub isa: Isa,
    /// Name used in kernel names and on the command line.
    pub name: &'static str,
    /// 32-bit lanes of a vector register.
    pub lanes: usize,
    /// Vector registers a kernel may use.
    pub registers: usize,
    /// Bytes of first-level data cache.
    pub l1: usize,
    /// Bytes of second-level cache.
    pub l2: usize,
}

impl Target {
    /// 128-bit vectors, 16 registers, no special instruction.
    pub const fn portable() -> Self {
        Target { isa: Isa::Portable, name: "portable", lanes: 4, registers: 16, l1: 32 << 10, l2: 512 << 10 }
    }

    /// 512-bit vectors, 32 registers, `vpdpbusd`.
    pub const fn avx512vnni() -> Self {
        Target {
            isa: Isa::Avx512Vnni,
            name: "avx512vnni",
            lanes: 16,
            registers: 32,
            l1: 32 << 10,
            l2: 1 << 20,
        }
    }

    /// The best target this CPU and operating system can run.
    pub fn detect() -> Self {
        if qgraph_runtime::cpu::avx512_vnni() { Self::avx512vnni() } else { Self::portable() }
    }

    /// All targets, best last.
    pub const ALL: [Target; 2] = [Target::portable(), Target::avx512vnni()];

    /// Bytes of a vector register.
    pub const fn vector_bytes(&self) -> usize {
        self.lanes * 4
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
