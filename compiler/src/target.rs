//! What kernels may use: vector width, registers, instructions. Pure data; only [`Target::native`] and
//! [`Target::detect`] look at the CPU.

use qgraph_runtime::cpu;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Instruction set family of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Isa {
    /// Any CPU: 128-bit vectors of plain arithmetic, as every compiler can map.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

/// How bytes are best multiplied and summed. Both are exact: the bits do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dots {
    /// Four bytes at a time: `Dot4` is one instruction.
    Bytes,
    /// Two words at a time (`Dot2`): kernels split bytes into words first, and share the halves.
    Words,
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
    /// Vector registers a kernel may use. The machine may have one more, which code generation keeps.
    pub registers: usize,
    /// What an inner product of bytes is made of.
    pub dots: Dots,
    /// What instructions and memory cost.
    pub core: Core,
}

/// What the cost model (`plan::cost`) knows of a core. Pipes are bits of a mask; an instruction takes any one pipe of its class. Cores of one
/// instruction set differ: a target has the figures of one that was measured, and [`Target::detect`] those of the CPU it runs on where they are
/// known. They decide between schedules of equal results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    /// Pipes that multiply: dots, products, fused multiply-adds.
    pub multiply: u8,
    /// Pipes of float sums, comparisons and conversions.
    pub add: u8,
    /// Pipes that move bytes within vectors, and shift.
    pub shuffle: u8,
    /// Pipes of everything else on vectors: all there are.
    pub any: u8,
    /// Passes in which a whole vector goes through a pipe or a port, a cycle each.
    pub passes: u32,
    /// Loads per cycle; of whole vectors each pass counts.
    pub loads: u32,
    /// Stores per cycle; the same.
    pub stores: u32,
    /// Instructions issued per cycle.
    pub issue: u32,
    /// Cycles until a dot can be added to.
    pub latency: u32,
    /// Cycles that are lost between the end of a loop, or of a call, and what follows.
    pub turn: u32,
    /// Bytes of first-level data cache.
    pub l1: usize,
    /// Lines of 64 bytes of the first-level cache whose addresses differ by a multiple of its size over this number.
    pub l1_ways: usize,
    /// Cycles that a load of a line loses which that cache has lost, where many are under way.
    pub l1_miss: u32,
    /// Bytes of second-level cache.
    pub l2: usize,
    /// Bytes of third-level cache that a core may count on.
    pub l3: usize,
    /// Bytes per cycle from there.
    pub l3_rate: u32,
    /// Cycles until a line comes from there that nothing has asked for ahead.
    pub l3_wait: u32,
    /// Bytes per cycle from memory.
    pub memory_rate: u32,
    /// Cycles that each line takes which another core has written, many being under way.
    pub line_of_others: u32,
}

/// Four pipes of 256 bits, two of which multiply. Memory as measured on an EPYC of that kind.
const ZEN4: Core = Core {
    multiply: 0b0011,
    add: 0b1100,
    shuffle: 0b0110,
    any: 0b1111,
    passes: 1,
    loads: 2,
    stores: 1,
    issue: 6,
    latency: 4,
    turn: 8,
    l1: 32 << 10,
    l1_ways: 8,
    l1_miss: 2,
    l2: 1 << 20,
    l3: 8 << 20,
    l3_rate: 19,
    l3_wait: 200,
    memory_rate: 7,
    line_of_others: 20,
};

/// With 512-bit vectors: each passes pipes and ports in two halves.
const ZEN4_512: Core = Core { passes: 2, ..ZEN4 };

/// Golden Cove and its successors in servers, with 512-bit vectors: two pipes of that width, one of which shuffles. Memory as measured on a Xeon
/// of that kind, a virtual machine's share.
const GOLDEN_COVE_512: Core = Core {
    multiply: 0b11,
    add: 0b11,
    shuffle: 0b10,
    any: 0b11,
    passes: 1,
    loads: 2,
    stores: 1,
    issue: 6,
    latency: 5,
    turn: 8,
    l1: 48 << 10,
    l1_ways: 12,
    l1_miss: 2,
    l2: 2 << 20,
    l3: 8 << 20,
    l3_rate: 8,
    l3_wait: 300,
    memory_rate: 4,
    line_of_others: 20,
};

impl Target {
    /// 128-bit vectors, 16 registers, no special instruction.
    pub const fn portable() -> Self {
        Target {
            isa: Isa::Portable,
            name: "portable",
            lanes: 4,
            registers: 16,
            dots: Dots::Bytes,
            core: Core { l2: 512 << 10, ..ZEN4 },
        }
    }

    /// 256-bit vectors, `vpmaddwd`. One of the 16 registers holds the products before they are added.
    pub const fn avx2() -> Self {
        Target {
            isa: Isa::Avx2,
            name: "avx2",
            lanes: 8,
            registers: 15,
            dots: Dots::Words,
            core: Core { l2: 512 << 10, ..ZEN4 },
        }
    }

    /// 256-bit vectors, 16 registers, `vpdpbusd`.
    pub const fn avxvnni() -> Self {
        Target { isa: Isa::AvxVnni, name: "avxvnni", lanes: 8, registers: 16, dots: Dots::Bytes, core: ZEN4 }
    }

    /// 512-bit vectors, 32 registers, `vpdpbusd`.
    pub const fn avx512vnni() -> Self {
        Target {
            isa: Isa::Avx512Vnni,
            name: "avx512vnni",
            lanes: 16,
            registers: 32,
            dots: Dots::Bytes,
            core: GOLDEN_COVE_512,
        }
    }

    /// All targets, best last.
    pub const ALL: [Target; 4] =
        [Target::portable(), Target::avx2(), Target::avxvnni(), Target::avx512vnni()];

    /// The target of a name.
    pub fn named(name: &str) -> Option<Target> {
        Target::ALL.into_iter().find(|t| t.name == name)
    }

    /// The best target this CPU and operating system can run, with the figures of this CPU.
    pub fn detect() -> Self {
        let mut target = Target::ALL.into_iter().rfind(Target::native).unwrap_or(Target::portable());
        if target.isa == Isa::Avx512Vnni && cpu::identity().0.starts_with(b"AMD") {
            target.core = ZEN4_512;
        }
        target
    }

    /// Whether this CPU and operating system can run machine code made for the target.
    pub fn native(&self) -> bool {
        match self.isa {
            Isa::Portable => false,
            Isa::Avx2 => cpu::avx2(),
            Isa::AvxVnni => cpu::avx_vnni(),
            Isa::Avx512Vnni => cpu::avx512_vnni(),
        }
    }

    /// What machine code for the target needs, for messages; `None` if there is no machine code.
    pub fn needs(&self) -> Option<&'static str> {
        match self.isa {
            Isa::Portable => None,
            Isa::Avx2 => Some("AVX2 and FMA"),
            Isa::AvxVnni => Some("AVX-VNNI"),
            Isa::Avx512Vnni => Some("AVX-512 VNNI"),
        }
    }

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
