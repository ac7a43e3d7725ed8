//! Every instruction of the kernel IR, as the interpreter executes it, against a second definition written on bytes:
//! all lane counts, operands in registers and in memory, result on top of an operand, special values.

use qgraph_compiler::kernel::interp::Program;
use qgraph_compiler::kernel::{Access, Addr, Instr, KernelBuilder, Operand, Reg};
use qgraph_runtime::requant::fma_exact;

pub(crate) type Op = Operand<Reg, Addr>;
/// The instruction with destination (or accumulator), first and second operand.
pub(crate) type Make = fn(Reg, Reg, Op) -> Instr<Reg, Addr>;
/// Its result, from the bytes of the first and second operand and of the destination before.
pub(crate) type Model = fn(&[u8], &[u8], &[u8]) -> Vec<u8>;

/// Where the operands, the result and the look-up table lie in a test's memory.
const A: i64 = 0;
const B: i64 = 64;
const C: i64 = 128;
const OUT: i64 = 192;
const TABLE: i64 = 256;
const MEMORY: usize = 512;

/// xorshift64*: a different stream per seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Data of a case.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Data {
    /// Any bits.
    Bits,
    /// f32 of all sizes, with zeros, infinities, NaN and subnormals.
    Floats,
    /// f32 below 2^31 in magnitude, many of them halves.
    Convertible,
    /// i32 near the limits of i16.
    Words,
}

pub(crate) fn fill(memory: &mut [u8], data: Data, rng: &mut Rng) {
    const SPECIAL: [f32; 10] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN_POSITIVE,
        1.0e-42,
    ];
    for lane in memory.chunks_exact_mut(4) {
        let r = rng.next();
        let v = match data {
            Data::Bits => (r >> 32) as u32,
            Data::Floats if r.is_multiple_of(4) => SPECIAL[(r >> 32) as usize % SPECIAL.len()].to_bits(),
            Data::Floats => ((r >> 32) as i32 as f32 * 2f32.powi((r >> 8) as i32 % 40)).to_bits(),
            Data::Convertible if r.is_multiple_of(3) => ((r >> 40) as i32 as f32 - 8_000_000.5).to_bits(),
            Data::Convertible if r % 3 == 1 => ((r >> 56) as f32 / 2.0 - 64.0).to_bits(),
            Data::Convertible => ((((r >> 32) as i32) / 2) as f32 * 1.99).to_bits(),
            Data::Words => ((r >> 46) as i32 - (1 << 17)) as u32,
        };
        lane.copy_from_slice(&v.to_le_bytes());
    }
}

fn words(v: &[u8]) -> Vec<u32> {
    v.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn bytes(v: impl IntoIterator<Item = u32>) -> Vec<u8> {
    v.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn by_lane(a: &[u8], b: &[u8], f: impl Fn(u32, u32) -> u32) -> Vec<u8> {
    bytes(words(a).into_iter().zip(words(b)).map(|(a, b)| f(a, b)))
}

fn by_float(a: &[u8], b: &[u8], f: impl Fn(f32, f32) -> f32) -> Vec<u8> {
    by_lane(a, b, |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits())
}

fn fma3(a: &[u8], b: &[u8], c: &[u8]) -> Vec<u8> {
    let f = |v: &[u8]| words(v).into_iter().map(f32::from_bits).collect::<Vec<_>>();
    let (a, b, c) = (f(a), f(b), f(c));
    bytes((0..a.len()).map(|i| fma_exact(a[i], b[i], c[i]).to_bits()))
}

/// Interleaves units of `size` bytes of each half (`upper` or lower) of every 16-byte block.
fn unpack(a: &[u8], b: &[u8], size: usize, upper: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        let half = if upper { 8..16 } else { 0..8 };
        for (x, y) in a[half.clone()].chunks(size).zip(b[half].chunks(size)) {
            out.extend_from_slice(x);
            out.extend_from_slice(y);
        }
    }
    out
}

fn to_i32(v: u32) -> u32 {
    let x = f64::from(f32::from_bits(v));
    let floor = x.floor();
    let up = x - floor > 0.5 || (x - floor == 0.5 && floor % 2.0 != 0.0);
    (floor as i64 + i64::from(up)) as i32 as u32
}

fn reg(x: Op) -> Reg {
    match x {
        Operand::Reg(r) => r,
        Operand::Mem(_) => unreachable!("register-only instruction"),
    }
}

/// Name, data, whether the second operand may be in memory, instruction, model.
pub(crate) type Case = (&'static str, Data, bool, Make, Model);

pub(crate) const CASES: &[Case] = &[
    (
        "splat",
        Data::Bits,
        false,
        |dst, _, _| Instr::Splat { dst, bits: 0x8123_4567 },
        |a, _, _| [0x67, 0x45, 0x23, 0x81].repeat(a.len() / 4),
    ),
    ("move", Data::Bits, false, |dst, src, _| Instr::Move { dst, src }, |a, _, _| a.to_vec()),
    (
        "dot4",
        Data::Bits,
        true,
        |acc, u, s| Instr::Dot4 { acc, u, s },
        |u, s, c| {
            let acc = words(c).into_iter().zip(u.chunks(4).zip(s.chunks(4)));
            bytes(acc.map(|(c, (u, s))| {
                let sum: i64 = u.iter().zip(s).map(|(&u, &s)| i64::from(u) * i64::from(s as i8)).sum();
                (i64::from(c) + sum) as u32
            }))
        },
    ),
    (
        "dot2",
        Data::Bits,
        true,
        |acc, a, b| Instr::Dot2 { acc, a, b },
        |a, b, c| {
            let acc = words(c).into_iter().zip(a.chunks(4).zip(b.chunks(4)));
            bytes(acc.map(|(c, (a, b))| {
                let word = |v: &[u8]| i64::from(i16::from_le_bytes([v[0], v[1]]));
                let sum: i64 = a.chunks(2).zip(b.chunks(2)).map(|(a, b)| word(a) * word(b)).sum();
                (i64::from(c) + sum) as u32
            }))
        },
    ),
    (
        "add_i32",
        Data::Bits,
        true,
        |dst, a, b| Instr::AddI32 { dst, a, b },
        |a, b, _| by_lane(a, b, |a, b| (i64::from(a) + i64::from(b)) as u32),
    ),
    (
        "sub_i32",
        Data::Bits,
        true,
        |dst, a, b| Instr::SubI32 { dst, a, b },
        |a, b, _| by_lane(a, b, |a, b| (i64::from(a) - i64::from(b)) as u32),
    ),
    (
        "mul_i32",
        Data::Bits,
        true,
        |dst, a, b| Instr::MulI32 { dst, a, b },
        |a, b, _| by_lane(a, b, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u32),
    ),
    (
        "and",
        Data::Bits,
        true,
        |dst, a, b| Instr::And { dst, a, b },
        |a, b, _| a.iter().zip(b).map(|(a, b)| a & b).collect(),
    ),
    (
        "or",
        Data::Bits,
        true,
        |dst, a, b| Instr::Or { dst, a, b },
        |a, b, _| a.iter().zip(b).map(|(a, b)| a | b).collect(),
    ),
    (
        "shl_i32",
        Data::Bits,
        false,
        |dst, a, _| Instr::ShlI32 { dst, a, by: 31 },
        |a, _, _| by_lane(a, a, |a, _| (a % 2) * 0x8000_0000),
    ),
    (
        "shl_i16",
        Data::Bits,
        false,
        |dst, a, _| Instr::ShlI16 { dst, a, by: 8 },
        |a, _, _| a.chunks(2).flat_map(|w| [0, w[0]]).collect(),
    ),
    (
        "shr_i16",
        Data::Bits,
        false,
        |dst, a, _| Instr::ShrI16 { dst, a, by: 8 },
        |a, _, _| a.chunks(2).flat_map(|w| [w[1], if w[1] < 128 { 0 } else { 255 }]).collect(),
    ),
    (
        "shr_u16",
        Data::Bits,
        false,
        |dst, a, _| Instr::ShrU16 { dst, a, by: 15 },
        |a, _, _| a.chunks(2).flat_map(|w| [w[1] / 128, 0]).collect(),
    ),
    (
        "max_u8",
        Data::Bits,
        true,
        |dst, a, b| Instr::MaxU8 { dst, a, b },
        |a, b, _| a.iter().zip(b).map(|(a, b)| if a < b { *b } else { *a }).collect(),
    ),
    (
        "min_u8",
        Data::Bits,
        true,
        |dst, a, b| Instr::MinU8 { dst, a, b },
        |a, b, _| a.iter().zip(b).map(|(a, b)| if a < b { *a } else { *b }).collect(),
    ),
    (
        "add_f32",
        Data::Floats,
        true,
        |dst, a, b| Instr::AddF32 { dst, a, b },
        |a, b, _| by_float(a, b, |a, b| (f64::from(a) + f64::from(b)) as f32),
    ),
    (
        "sub_f32",
        Data::Floats,
        true,
        |dst, a, b| Instr::SubF32 { dst, a, b },
        |a, b, _| by_float(a, b, |a, b| (f64::from(a) - f64::from(b)) as f32),
    ),
    (
        "mul_f32",
        Data::Floats,
        true,
        |dst, a, b| Instr::MulF32 { dst, a, b },
        |a, b, _| by_float(a, b, |a, b| (f64::from(a) * f64::from(b)) as f32),
    ),
    (
        "div_f32",
        Data::Floats,
        true,
        |dst, a, b| Instr::DivF32 { dst, a, b },
        // Division in f64 rounded to f32 is the correctly rounded quotient (53 ≥ 2·24 + 2).
        |a, b, _| by_float(a, b, |a, b| (f64::from(a) / f64::from(b)) as f32),
    ),
    (
        "max_f32",
        Data::Floats,
        true,
        |dst, a, b| Instr::MaxF32 { dst, a, b },
        |a, b, _| {
            by_float(a, b, |a, b| match a.partial_cmp(&b) {
                Some(std::cmp::Ordering::Greater) => a,
                _ => b,
            })
        },
    ),
    (
        "min_f32",
        Data::Floats,
        true,
        |dst, a, b| Instr::MinF32 { dst, a, b },
        |a, b, _| {
            by_float(a, b, |a, b| match a.partial_cmp(&b) {
                Some(std::cmp::Ordering::Less) => a,
                _ => b,
            })
        },
    ),
    ("fma_acc", Data::Floats, true, |acc, a, b| Instr::FmaAcc { acc, a, b }, |a, b, c| fma3(a, b, c)),
    ("fma_mul", Data::Floats, true, |x, c, m| Instr::FmaMul { x, m, c }, |a, b, c| fma3(c, b, a)),
    (
        "f32_from_i32",
        Data::Bits,
        false,
        |dst, src, _| Instr::CvtI32F32 { dst, src },
        |a, _, _| by_lane(a, a, |a, _| (f64::from(a as i32) as f32).to_bits()),
    ),
    (
        "i32_from_f32",
        Data::Convertible,
        false,
        |dst, src, _| Instr::CvtF32I32 { dst, src },
        |a, _, _| by_lane(a, a, |a, _| to_i32(a)),
    ),
    (
        "unpack_lo8",
        Data::Bits,
        false,
        |dst, a, b| Instr::UnpackLo8 { dst, a, b: reg(b) },
        |a, b, _| unpack(a, b, 1, false),
    ),
    (
        "unpack_hi8",
        Data::Bits,
        false,
        |dst, a, b| Instr::UnpackHi8 { dst, a, b: reg(b) },
        |a, b, _| unpack(a, b, 1, true),
    ),
    (
        "unpack_lo16",
        Data::Bits,
        false,
        |dst, a, b| Instr::UnpackLo16 { dst, a, b: reg(b) },
        |a, b, _| unpack(a, b, 2, false),
    ),
    (
        "unpack_hi16",
        Data::Bits,
        false,
        |dst, a, b| Instr::UnpackHi16 { dst, a, b: reg(b) },
        |a, b, _| unpack(a, b, 2, true),
    ),
    (
        "pack_i32_i16",
        Data::Words,
        false,
        |dst, a, b| Instr::PackI32I16 { dst, a, b: reg(b) },
        |a, b, _| {
            let blocks = a.chunks(16).zip(b.chunks(16)).flat_map(|(a, b)| [a, b]).flat_map(words);
            let saturate = |v: u32| match v as i32 {
                v if v > 32767 => 32767,
                v if v < -32768 => -32768,
                v => v as i16,
            };
            blocks.flat_map(|v| saturate(v).to_le_bytes()).collect()
        },
    ),
    (
        "pack_i16_u8",
        Data::Bits,
        false,
        |dst, a, b| Instr::PackI16U8 { dst, a, b: reg(b) },
        |a, b, _| {
            let blocks = a.chunks(16).zip(b.chunks(16)).flat_map(|(a, b)| [a, b]);
            let saturate = |v: &[u8]| match v {
                [_, 128..=255] => 0,
                [low, 0] => *low,
                _ => 255,
            };
            blocks.flat_map(|v| v.chunks(2)).map(saturate).collect()
        },
    ),
    (
        "permute32",
        Data::Bits,
        false,
        |dst, src, b| Instr::Permute32 { dst, src, index: reg(b) },
        |a, b, _| {
            let v = words(a);
            bytes(words(b).into_iter().map(|i| v[i as usize % v.len()]))
        },
    ),
    (
        "shuffle8",
        Data::Bits,
        true,
        |dst, src, control| Instr::Shuffle8 { dst, src, control },
        |a, b, _| {
            let pick = |(i, &c): (usize, &u8)| if c >= 128 { 0 } else { a[i / 16 * 16 + c as usize % 16] };
            b.iter().enumerate().map(pick).collect()
        },
    ),
];

/// Runs `instr` between loads of the three operands and a store of register `out`.
fn run(lanes: usize, memory: &mut [u8], instr: Instr<Reg, Addr>, out: i64) {
    let full = 4 * lanes;
    let mut b = KernelBuilder::new("one", lanes);
    let m = b.param("m", Access::ReadWrite);
    let r = b.array("r", 3);
    for (i, at) in [A, B, C].into_iter().enumerate() {
        b.op(Instr::Load { dst: r.at(i), src: Addr::new(m, at), bytes: full });
    }
    b.op(instr);
    b.op(Instr::Store { dst: Addr::new(m, OUT), src: r.at(out), bytes: full });
    Program::new(&b.finish()).unwrap().run_on(memory, &[0]).unwrap();
}

/// Equal bits, or NaN in the same f32 lanes (which NaN is not defined).
pub(crate) fn same(a: &[u8], b: &[u8], floats: bool) -> bool {
    let nan = |v: u32| f32::from_bits(v).is_nan();
    words(a).into_iter().zip(words(b)).all(|(a, b)| a == b || floats && nan(a) && nan(b))
}

#[test]
fn every_instruction_means_what_the_model_says() {
    let regs = qgraph_compiler::kernel::Regs(0);
    for &(name, data, mem, make, model) in CASES {
        for lanes in [4, 8, 16] {
            for seed in 1..200 {
                let mut rng = Rng(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
                let mut memory = [0u8; MEMORY];
                fill(&mut memory, data, &mut rng);
                let part = |at: i64| memory[at as usize..][..4 * lanes].to_vec();
                let (a, b, c) = (part(A), part(B), part(C));
                let floats = data == Data::Floats;
                let check = |what: &str, instr, out, expected: Vec<u8>| {
                    let mut memory = memory;
                    run(lanes, &mut memory, instr, out);
                    let found = &memory[OUT as usize..][..4 * lanes];
                    assert!(
                        same(found, &expected, floats),
                        "{name} {what}, {lanes} lanes, seed {seed}:\n found {found:x?}\n not   {expected:x?}\n \
                         from  {a:x?}\n       {b:x?}\n       {c:x?}"
                    );
                };
                let second = Operand::Reg(regs.at(1));
                check("registers", make(regs.at(2), regs.at(0), second.clone()), 2, model(&a, &b, &c));
                check("onto a", make(regs.at(0), regs.at(0), second.clone()), 0, model(&a, &b, &a));
                check("onto b", make(regs.at(1), regs.at(0), second), 1, model(&a, &b, &b));
                if mem {
                    let second = Operand::Mem(Addr::new(0, B));
                    check("memory", make(regs.at(2), regs.at(0), second), 2, model(&a, &b, &c));
                }
            }
        }
    }
}

#[test]
fn loads_stores_and_look_ups() {
    let regs = qgraph_compiler::kernel::Regs(0);
    for lanes in [4, 8, 16] {
        let mut memory = [0u8; MEMORY];
        fill(&mut memory, Data::Bits, &mut Rng(9));
        let full = 4 * lanes;
        let check = |instr, expected: Vec<u8>| {
            let mut m = memory;
            run(lanes, &mut m, instr, 2);
            assert_eq!(m[OUT as usize..][..full], expected, "{lanes} lanes");
        };
        // Unaligned on purpose.
        for bytes in 1..=full {
            let mut expected = memory[3..3 + bytes].to_vec();
            expected.resize(full, 0);
            check(Instr::Load { dst: regs.at(2), src: Addr::new(0, 3), bytes }, expected);
        }
        for count in 1..=lanes {
            let mut expected: Vec<u8> = memory[5..5 + count].iter().flat_map(|&b| [b, 0, 0, 0]).collect();
            expected.resize(full, 0);
            check(Instr::LoadU8 { dst: regs.at(2), src: Addr::new(0, 5), count }, expected);
        }
        check(Instr::Broadcast32 { dst: regs.at(2), src: Addr::new(0, 7) }, memory[7..11].repeat(lanes));
        check(
            Instr::Lookup8 { dst: regs.at(2), src: regs.at(0), table: Addr::new(0, TABLE) },
            memory[..full].iter().map(|&b| memory[TABLE as usize + b as usize]).collect(),
        );
        for bytes in 1..=full {
            let mut m = memory;
            run(lanes, &mut m, Instr::Store { dst: Addr::new(0, TABLE + 1), src: regs.at(1), bytes }, 0);
            let mut expected = memory;
            expected.copy_within(0..full, OUT as usize);
            expected.copy_within(B as usize..B as usize + bytes, TABLE as usize + 1);
            assert_eq!(m, expected, "store of {bytes} bytes");
        }
        let mut m = memory;
        run(lanes, &mut m, Instr::Copy { dst: Addr::new(0, TABLE), src: Addr::new(0, 1), bytes: 77 }, 0);
        assert_eq!(m[TABLE as usize..][..78], [&memory[1..78], &memory[TABLE as usize + 77..][..1]].concat());
        assert_eq!(m[..OUT as usize], memory[..OUT as usize]);
    }
}

/// Nested loops that run forwards and backwards put parameters back.
#[test]
fn loops_move_parameters_and_undo_it() {
    let mut b = KernelBuilder::new("transpose", 4);
    let x = b.param("x", Access::Read);
    let y = b.param("y", Access::Write);
    let t = b.array("t", 1);
    // y (5×3 words, written backwards) = transposed x (3×5).
    b.loop_(3, [(x, 20), (y, -4)], |b| {
        b.loop_(5, [(x, 4), (y, -12)], |b| {
            b.op(Instr::Load { dst: t.at(0), src: Addr::new(x, 0), bytes: 4 });
            b.op(Instr::Store { dst: Addr::new(y, 0), src: t.at(0), bytes: 4 });
        });
    });
    b.op(Instr::Load { dst: t.at(0), src: Addr::new(x, 0), bytes: 4 });
    b.op(Instr::Store { dst: Addr::new(y, 4), src: t.at(0), bytes: 4 });
    let p = Program::new(&b.finish()).unwrap();
    let mut memory: Vec<u8> = bytes(0..31);
    p.run_on(&mut memory, &[0, 29 * 4]).unwrap();
    let mut expected: Vec<u32> = (0..31).collect();
    for i in 0..3 {
        for j in 0..5 {
            expected[29 - i - 3 * j] = (5 * i + j) as u32;
        }
    }
    expected[30] = 0;
    assert_eq!(words(&memory), expected);
    // One byte less, before or after, is refused.
    assert!(p.run_on(&mut memory[..30 * 4 + 3], &[0, 29 * 4]).is_err());
    assert!(p.run_on(&mut memory, &[0, 14 * 4 - 1]).is_err());
    assert!(p.run_on(&mut memory, &[usize::MAX, 29 * 4]).is_err());
    assert!(p.run_on(&mut memory, &[0]).is_err());
}
