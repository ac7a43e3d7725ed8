//! Every instruction in every operand form, on every target that runs here and all of its registers, alone between loads and
//! stores of all registers: its result must be right and nothing else may change.

use super::*;
use qgraph_compiler::kernel::{Addr, Instr, KernelBuilder, Operand, Reg};

type Op = Operand<Reg, Addr>;
/// The instruction of destination (or accumulator), two operands, source and destination memory.
type Make = fn(Reg, Reg, Op) -> Instr<Reg, Addr>;

/// Parameters of a case's kernel: memory the instruction reads and writes.
const SRC: usize = 2;
const DST: usize = 3;

/// A kernel that loads `n` registers, executes what `body` adds, and stores them all.
fn around(target: &Target, n: usize, body: impl FnOnce(&mut KernelBuilder, &dyn Fn(usize) -> Reg)) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new("case", target.lanes);
    let before = b.param("before", Access::Read);
    let after = b.param("after", Access::Write);
    b.param("src", Access::Read);
    b.param("dst", Access::Write);
    let r = b.array("r", n);
    b.unroll(n, |b, i| b.op(Instr::Load { dst: r.at(i), src: Addr::new(before, i * bytes), bytes }));
    body(&mut b, &|i| r.at(i));
    b.unroll(n, |b, i| b.op(Instr::Store { dst: Addr::new(after, i * bytes), src: r.at(i), bytes }));
    b.finish()
}

/// Runs what `body` adds between loads and stores of all registers of the target.
fn check(
    target: &Target,
    data: Data,
    rng: &mut Rng,
    body: impl FnOnce(&mut KernelBuilder, &dyn Fn(usize) -> Reg),
) {
    let kernel = around(target, target.registers, body);
    agree(plan_of(target, kernel, vec![]), data, &Options::default(), rng);
}

/// Displacements of all encodings: none, one byte (also scaled by 64), four bytes.
const FAR: [i64; 12] = [0, 1, -1, 63, 64, -64, 127 * 64, -128 * 64, 128 * 64, 100_001, -100_001, -131_072];

const BINARY: [(Data, Make); 18] = [
    (Data::Bits, |d, a, b| Instr::MaxF32 { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::MinF32 { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::Dot4 { acc: d, u: a, s: b }),
    (Data::Bits, |d, a, b| Instr::Dot2 { acc: d, a, b }),
    (Data::Bits, |d, a, b| Instr::AddI32 { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::SubI32 { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::MulI32 { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::And { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::Or { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::MaxU8 { dst: d, a, b }),
    (Data::Bits, |d, a, b| Instr::MinU8 { dst: d, a, b }),
    (Data::Floats, |d, a, b| Instr::AddF32 { dst: d, a, b }),
    (Data::Floats, |d, a, b| Instr::SubF32 { dst: d, a, b }),
    (Data::Floats, |d, a, b| Instr::MulF32 { dst: d, a, b }),
    (Data::Floats, |d, a, b| Instr::DivF32 { dst: d, a, b }),
    (Data::Floats, |d, a, b| Instr::FmaAcc { acc: d, a, b }),
    (Data::Floats, |d, a, b| Instr::FmaMul { x: d, m: b, c: a }),
    (Data::Bits, |d, a, b| Instr::Shuffle8 { dst: d, src: a, control: b }),
];

#[test]
fn two_operands_in_registers_and_memory() {
    let mut rng = Rng::new(1);
    for target in targets() {
        for (data, make) in BINARY {
            for far in FAR {
                let [d, x, y] = [(); 3].map(|()| rng.below(target.registers));
                check(&target, data, &mut rng, |b, r| b.op(make(r(d), r(x), Operand::Reg(r(y)))));
                let memory = Operand::Mem(Addr::new(SRC, far));
                check(&target, data, &mut rng, |b, r| b.op(make(r(d), r(x), memory)));
            }
        }
    }
}

#[test]
fn maximum_and_minimum_of_special_values_take_the_second_operand() {
    let mut rng = Rng::new(2);
    for target in targets() {
        for make in [BINARY[0].1, BINARY[1].1, BINARY[0].1, BINARY[1].1] {
            check(&target, Data::Floats, &mut rng, |b, r| b.op(make(r(0), r(1), Operand::Reg(r(2)))));
        }
    }
}

#[test]
fn operands_in_registers_only() {
    let all: [(Data, Make); 19] = [
        (Data::Bits, |dst, src, _| Instr::Move { dst, src }),
        (Data::Bits, |dst, src, _| Instr::CvtI32F32 { dst, src }),
        (Data::Convertible, |dst, src, _| Instr::CvtF32I32 { dst, src }),
        (Data::Bits, |dst, a, b| Instr::UnpackLo8 { dst, a, b: reg(b) }),
        (Data::Bits, |dst, a, b| Instr::UnpackHi8 { dst, a, b: reg(b) }),
        (Data::Bits, |dst, a, b| Instr::UnpackLo16 { dst, a, b: reg(b) }),
        (Data::Bits, |dst, a, b| Instr::UnpackHi16 { dst, a, b: reg(b) }),
        (Data::Bits, |dst, a, b| Instr::PackI32I16 { dst, a, b: reg(b) }),
        (Data::Bits, |dst, a, b| Instr::PackI16U8 { dst, a, b: reg(b) }),
        (Data::Bits, |dst, src, b| Instr::Permute32 { dst, src, index: reg(b) }),
        (Data::Bits, |dst, a, _| Instr::ShlI32 { dst, a, by: 0 }),
        (Data::Bits, |dst, a, _| Instr::ShlI32 { dst, a, by: 13 }),
        (Data::Bits, |dst, a, _| Instr::ShlI32 { dst, a, by: 31 }),
        (Data::Bits, |dst, a, _| Instr::ShlI16 { dst, a, by: 8 }),
        (Data::Bits, |dst, a, _| Instr::ShlI16 { dst, a, by: 15 }),
        (Data::Bits, |dst, a, _| Instr::ShrI16 { dst, a, by: 8 }),
        (Data::Bits, |dst, a, _| Instr::ShrI16 { dst, a, by: 15 }),
        (Data::Bits, |dst, a, _| Instr::ShrU16 { dst, a, by: 0 }),
        (Data::Bits, |dst, a, _| Instr::ShrU16 { dst, a, by: 8 }),
    ];
    let mut rng = Rng::new(3);
    for target in targets() {
        let n = target.registers;
        for (data, make) in all {
            for _ in 0..10 {
                let [d, x, y] = [(); 3].map(|()| rng.below(n));
                check(&target, data, &mut rng, |b, r| b.op(make(r(d), r(x), Operand::Reg(r(y)))));
            }
        }
        for bits in [0, 1, u32::MAX, 0x8000_0000, 0x1234_5678] {
            for d in [0, n / 2 - 1, n / 2, n - 1] {
                check(&target, Data::Bits, &mut rng, |b, r| b.op(Instr::Splat { dst: r(d), bits }));
            }
        }
    }
}

fn reg(op: Op) -> Reg {
    match op {
        Operand::Reg(r) => r,
        Operand::Mem(_) => panic!("a register is wanted"),
    }
}

#[test]
fn loads_and_stores_of_every_size() {
    let mut rng = Rng::new(4);
    for target in targets() {
        let (registers, bytes) = (target.registers, target.vector_bytes());
        for n in 1..=bytes {
            let (r0, r1) = (rng.below(registers), rng.below(registers));
            let (near, far) = (rng.pick(&FAR), rng.pick(&FAR));
            check(&target, Data::Bits, &mut rng, |b, r| {
                b.op(Instr::Load { dst: r(r0), src: Addr::new(SRC, near), bytes: n });
                b.op(Instr::Store { dst: Addr::new(DST, far), src: r(r1), bytes: n });
                b.op(Instr::Broadcast32 { dst: r(r1), src: Addr::new(SRC, near + 3) });
                let count = 1 + n % target.lanes;
                b.op(Instr::LoadU8 { dst: r(registers - 1 - r0), src: Addr::new(SRC, far), count });
            });
        }
        // More masks than mask registers.
        check(&target, Data::Bits, &mut rng, |b, r| {
            for n in 1..=bytes {
                b.op(Instr::Load { dst: r(n % registers), src: Addr::new(SRC, n), bytes: n });
                let src = r((n + 7) % registers);
                b.op(Instr::Store { dst: Addr::new(DST, 65 * n), src, bytes: n });
            }
        });
    }
}

#[test]
fn copies_of_every_size_and_prefetch() {
    let mut rng = Rng::new(5);
    for target in targets() {
        for n in (1..=140).chain([511, 512, 513, 575, 1000, 4096 + 47]) {
            let registers = rng.pick(&[4, target.registers - 1, target.registers]);
            let (near, far) = (rng.pick(&FAR), rng.pick(&FAR));
            let kernel = around(&target, registers, |b, _| {
                b.op(Instr::Copy { dst: Addr::new(DST, near), src: Addr::new(SRC, far), bytes: n });
                b.op(Instr::Prefetch { src: Addr::new(SRC, 1 << 28), far: n % 2 == 0 });
            });
            agree(plan_of(&target, kernel, vec![]), Data::Bits, &Options::default(), &mut rng);
        }
    }
}

#[test]
fn look_ups_by_permutes_of_bytes_and_words_and_by_shuffles_with_and_without_free_registers() {
    let mut rng = Rng::new(6);
    let vbmi = [cpu::avx512_vbmi(), false];
    for (target, vbmi) in targets().iter().flat_map(|t| vbmi.iter().map(move |&v| (t, v))) {
        let options = Options { vbmi, ..Options::default() };
        let all = target.registers;
        for registers in [2, all - 8, all - 7, all - 6, all - 5, all - 4, all - 1, all] {
            for (second, moves) in [(0, 0), (256, 0), (0, 64)] {
                let (d, s) = (rng.below(registers), rng.below(registers));
                let kernel = around(target, registers, |b, r| {
                    b.loop_(2, [(SRC, moves)], |b| {
                        b.op(Instr::Lookup8 { dst: r(d), src: r(s), table: Addr::new(SRC, 0) });
                        b.op(Instr::Lookup8 { dst: r(s), src: r(s), table: Addr::new(SRC, second) });
                        // A copy must not take the table's registers.
                        b.op(Instr::Copy { dst: Addr::new(DST, 0), src: Addr::new(SRC, 5), bytes: 80 });
                    });
                });
                agree(plan_of(target, kernel, vec![]), Data::Bits, &options, &mut rng);
            }
        }
    }
}
