//! Every word of the kernel IR, alone and in loops, in generated Rust.

use super::{Case, Machine, check, options};
use crate::kernel_instr::{CASES, Data, Rng, fill};
use qgraph_compiler::blob::Bytes;
use qgraph_compiler::kernel::{Access, Addr, Affine, Instr, Kernel, KernelBuilder, Operand, Regs};
use qgraph_compiler::plan::{Call, FunctionCall, GridDim, Io, Plan, Ptr, Space, Step, Work};
use qgraph_compiler::rust::Code;
use qgraph_compiler::target::Target;
use qgraph_runtime::Dtype;
use qgraph_runtime::functions::{Function, Unary};
use std::sync::Arc;

/// Bytes of input and of output that a kernel has.
const ROOM: usize = 1024;

/// A kernel of two parameters that `body` fills; registers 0 to 2 hold the first three 64 bytes of `x`.
fn kernel(name: &str, lanes: usize, body: impl FnOnce(&mut KernelBuilder, Regs)) -> Kernel {
    let mut b = KernelBuilder::new(name, lanes);
    let x = b.param("x", Access::Read);
    b.param("y", Access::Write);
    let r = b.array("x", 3);
    let bytes = b.vector_bytes();
    b.unroll(3, |b, i| b.op(Instr::Load { dst: r.at(i), src: Addr::new(x, i * 64), bytes }));
    body(&mut b, r);
    b.finish()
}

/// The kernels, each with what its input holds.
fn kernels(lanes: usize) -> Vec<(Kernel, Data)> {
    let (x, y, full) = (0, 1, 4 * lanes);
    let mut all = Vec::new();
    for &(name, data, mem, make, _) in CASES {
        let forms = |b: &mut KernelBuilder, r: Regs| {
            let store = |b: &mut KernelBuilder, k: usize, from: usize| {
                b.op(Instr::Store { dst: Addr::new(y, 64 * k), src: r.at(from), bytes: full });
            };
            b.op(make(r.at(2), r.at(0), Operand::Reg(r.at(1))));
            store(b, 0, 2);
            if mem {
                b.op(Instr::Load { dst: r.at(2), src: Addr::new(x, 128), bytes: full });
                b.op(make(r.at(2), r.at(0), Operand::Mem(Addr::new(x, 64))));
                store(b, 1, 2);
            }
            b.op(make(r.at(0), r.at(0), Operand::Reg(r.at(1))));
            store(b, 2, 0);
            if data != Data::Convertible {
                b.op(make(r.at(1), r.at(0), Operand::Reg(r.at(1))));
                store(b, 3, 1);
            }
        };
        // Some of these are words too, whose functions they must not hide.
        all.push((kernel(name, lanes, forms), data));
    }
    for by in [0, 1, 7, 15] {
        let shifts = kernel(&format!("shifts_{by}"), lanes, |b, r| {
            let (dst, a) = (r.at(2), r.at(0));
            let all = [
                Instr::ShlI32 { dst: dst.clone(), a: a.clone(), by: 2 * by },
                Instr::ShlI16 { dst: dst.clone(), a: a.clone(), by },
                Instr::ShrI16 { dst: dst.clone(), a: a.clone(), by },
                Instr::ShrU16 { dst: dst.clone(), a, by },
            ];
            for (k, instr) in all.into_iter().enumerate() {
                b.op(instr);
                b.op(Instr::Store { dst: Addr::new(y, 64 * k), src: dst.clone(), bytes: full });
            }
        });
        all.push((shifts, Data::Bits));
    }
    // The last lanes of a row are loaded and stored in part, at any address.
    for bytes in 1..=full {
        let part = kernel(&format!("part_{bytes}"), lanes, |b, r| {
            b.op(Instr::Load { dst: r.at(2), src: Addr::new(x, 3), bytes });
            b.op(Instr::Store { dst: Addr::new(y, 0), src: r.at(2), bytes: full });
            b.op(Instr::Store { dst: Addr::new(y, 65), src: r.at(0), bytes });
            b.op(Instr::LoadU8 { dst: r.at(2), src: Addr::new(x, 5), count: bytes.div_ceil(4) });
            b.op(Instr::Store { dst: Addr::new(y, 192), src: r.at(2), bytes: full });
            b.op(Instr::Copy { dst: Addr::new(y, 256), src: Addr::new(x, 7), bytes: 3 * bytes });
        });
        all.push((part, Data::Bits));
    }
    let others = kernel("others", lanes, |b, r| {
        b.op(Instr::Broadcast32 { dst: r.at(2), src: Addr::new(x, 7) });
        b.op(Instr::Store { dst: Addr::new(y, 0), src: r.at(2), bytes: full });
        b.op(Instr::Lookup8 { dst: r.at(2), src: r.at(0), table: Addr::new(x, 256) });
        b.op(Instr::Prefetch { src: Addr::new(x, -100_000), far: false });
        b.op(Instr::Prefetch { src: Addr::new(x, 1 << 28), far: true });
        b.op(Instr::Store { dst: Addr::new(y, 64), src: r.at(2), bytes: full });
    });
    all.push((others, Data::Bits));
    all.push((walk(lanes), Data::Bits));
    all
}

/// Loops that run forwards and backwards, with and without steps, and unrolls that count registers and bytes down.
fn walk(lanes: usize) -> Kernel {
    let mut b = KernelBuilder::new("walk", lanes);
    // Names that are variables, words and keywords of the source, too.
    let (x, y) = (b.param("i", Access::Read), b.param("fn", Access::ReadWrite));
    let t = b.array("load", 4);
    let down = |v| Affine::from(v) * -1i64 + 3i64;
    b.loop_(3, [(x, 20), (y, -4)], |b| {
        b.loop_(5, [(x, 4), (y, -12)], |b| {
            b.op(Instr::Load { dst: t.at(0), src: Addr::new(x, 0), bytes: 4 });
            b.loop_(1, [(y, 1 << 20)], |b| {
                b.op(Instr::Store { dst: Addr::new(y, 0), src: t.at(0), bytes: 4 });
            });
        });
    });
    b.unroll(4, |b, v| b.op(Instr::Load { dst: t.at(down(v)), src: Addr::new(x, v * 4 + 64), bytes: 4 }));
    b.unroll(1, |b, w| {
        b.unroll(4, |b, v| {
            let dst = Addr::new(y, Affine::from(v) * -4i64 + w * 8 + 4i64);
            b.op(Instr::Store { dst, src: t.at(v), bytes: 4 });
        });
    });
    b.loop_(2, [], |b| {
        b.op(Instr::Load { dst: t.at(0), src: Addr::new(y, -8), bytes: 4 });
        b.op(Instr::AddI32 { dst: t.at(0), a: t.at(0), b: Operand::Reg(t.at(0)) });
        b.op(Instr::Store { dst: Addr::new(y, -8), src: t.at(0), bytes: 4 });
    });
    b.finish()
}

/// One step for each kernel, each with its own part of input and output, and one for each runtime function with infinite numbers.
fn plan(target: &Target, input: usize) -> Plan {
    let all = kernels(target.lanes);
    let step = |what, work| Step { layer: "of\na test".into(), what, macs: 0, work };
    let mut steps = Vec::new();
    for (k, (kernel, _)) in all.iter().enumerate() {
        let at = |space, offset| Ptr { space, offset };
        let (mut x, mut y, mut grid) = (ROOM * k, ROOM * k, Vec::new());
        if kernel.name == "walk" {
            // Backwards through the output.
            (x, y) = (x + 256, y + 900);
            grid = vec![
                GridDim { extent: 2, advance: vec![64, -240] },
                GridDim { extent: 1, advance: vec![1 << 30, -(1 << 30)] },
                GridDim { extent: 2, advance: vec![-100, -120] },
            ];
        }
        let args = vec![at(Space::Input(0), x), at(Space::Output(0), y)];
        steps.push(step("word", Work::Kernels(vec![Call { kernel: k, args, grid }])));
    }
    let unary = Unary::Clip { lo: f32::NEG_INFINITY, hi: f32::INFINITY };
    let function = Function::Unary { unary, rows: 1, len: 16, src_stride: 64, dst_stride: 64 };
    let args = vec![
        Ptr { space: Space::Input(0), offset: 0 },
        Ptr { space: Space::Output(0), offset: ROOM * all.len() },
    ];
    steps.push(step("function", Work::Function(FunctionCall { function, args })));
    let io = |name: &str, bytes| Io {
        name: name.into(),
        dtype: Dtype::U8,
        shape: vec![1, bytes],
        image_bytes: bytes,
    };
    Plan {
        name: "words".into(),
        target: target.clone(),
        batch: 1,
        head: steps.len(),
        carried_bytes: 0,
        arena_bytes: 64,
        weights: Arc::new(Bytes::zeroed(64)),
        consts: Arc::new(Bytes::zeroed(64)),
        inputs: vec![io("x", input)],
        outputs: vec![io("y", input)],
        kernels: all.into_iter().map(|k| k.0).collect(),
        steps,
        places: vec![],
        blocks: vec![],
    }
}

/// All words as one network.
pub(super) fn case() -> Case {
    // Targets have different numbers of kernels; inputs and outputs are those of one network.
    let most = kernels(16);
    let bytes = ROOM * (most.len() + 1);
    let mut input = vec![0; bytes];
    let mut rng = Rng(0x5eed_0123);
    for (k, (_, data)) in most.iter().enumerate() {
        fill(&mut input[ROOM * k..][..ROOM], *data, &mut rng);
    }
    let plans = Target::ALL.map(|t| Arc::new(plan(&t, bytes))).to_vec();
    let name = "words".to_string();
    let file = vec![0; 64];
    let options = options(&name);
    Case { name, plans, file, stamp: 0..0, options, input, any_nan: true, expected: None, skipped: 0 }
}

#[test]
fn every_word_gives_the_interpreters_bytes() {
    check("rust-words", &Machine::here(), &[case()]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_word_as_assembly_gives_the_interpreters_bytes() {
    let mut case = case();
    case.options.code = Code::Assembly;
    check("asm-words", &Machine::here(), &[case]);
}
