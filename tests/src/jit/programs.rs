//! Random nests of loops and grids: where pointers are is what is tested here.

use super::*;
use qgraph_compiler::kernel::{Addr, Instr, KernelBuilder};

/// Adds a few accesses and loops, `depth` deep at most.
fn nest(b: &mut KernelBuilder, rng: &mut Rng, params: usize, depth: usize) {
    let bytes = b.vector_bytes();
    for _ in 0..1 + rng.below(3) {
        let p = rng.below(params);
        let offset = rng.within(-300..300);
        // Parameter 0 is written, the others read.
        b.op(Instr::Load { dst: acc(1), src: Addr::new(1 + rng.below(params - 1), offset), bytes });
        b.op(Instr::AddI32 {
            dst: acc(0),
            a: acc(0),
            b: qgraph_compiler::kernel::Operand::Mem(Addr::new(1 + rng.below(params - 1), offset / 2)),
        });
        b.op(Instr::SubI32 { dst: acc(0), a: acc(0), b: qgraph_compiler::kernel::Operand::Reg(acc(1)) });
        if p == 0 {
            b.op(Instr::Store { dst: Addr::new(0, offset), src: acc(0), bytes });
        }
        if depth > 0 && rng.below(3) > 0 {
            let extent = 1 + rng.below(4);
            let mut advance = Vec::new();
            for p in 0..params {
                if rng.below(2) == 0 {
                    advance.push((p, rng.pick(&[64, 4, -4, -64, 1, 300, -70_000, 70_000])));
                }
            }
            b.loop_(extent, advance, |b| nest(b, rng, params, depth - 1));
        }
    }
}

fn acc(i: usize) -> qgraph_compiler::kernel::Reg {
    qgraph_compiler::kernel::Reg { array: 0, index: i.into() }
}

fn program(target: &Target, rng: &mut Rng, depth: usize) -> Kernel {
    let mut b = KernelBuilder::new("program", target.lanes);
    let bytes = target.vector_bytes();
    let params = 2 + rng.below(8);
    const NAMES: [&str; 10] = ["y", "a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for (i, name) in NAMES.iter().enumerate().take(params) {
        b.param(name, if i == 0 { Access::Write } else { Access::Read });
    }
    b.array("r", 2);
    b.op(Instr::Splat { dst: acc(0), bits: 1 });
    nest(&mut b, rng, params, depth);
    b.op(Instr::Store { dst: Addr::new(0, 17), src: acc(0), bytes });
    b.finish()
}

#[test]
fn nested_loops_move_pointers_as_defined() {
    for (target, seed) in targets().iter().flat_map(|t| (0..150).map(move |seed| (t, seed))) {
        let mut rng = Rng::new(100 + seed);
        let kernel = program(target, &mut rng, 4);
        agree(plan_of(target, kernel, vec![]), Data::Bits, &Options::default(), &mut rng);
    }
}

#[test]
fn loops_deeper_than_registers_for_counters() {
    fn level(b: &mut KernelBuilder, x: usize, y: usize, depth: usize) {
        let bytes = b.vector_bytes();
        if depth == 0 {
            b.op(Instr::Load { dst: acc(0), src: Addr::new(x, 0), bytes });
            b.op(Instr::Store { dst: Addr::new(y, 0), src: acc(0), bytes });
        } else {
            b.loop_(2, [(x, 1 << depth), (y, 64 << depth)], |b| level(b, x, y, depth - 1));
        }
    }
    for target in targets() {
        let mut b = KernelBuilder::new("deep", target.lanes);
        let (x, y) = (b.param("x", Access::Read), b.param("y", Access::Write));
        b.array("r", 1);
        level(&mut b, x, y, 9);
        let mut rng = Rng::new(7);
        agree(plan_of(&target, b.finish(), vec![]), Data::Bits, &Options::default(), &mut rng);
    }
}

#[test]
fn grids_move_arguments_as_defined() {
    for (target, seed) in targets().iter().flat_map(|t| (0..60).map(move |seed| (t, seed))) {
        let mut rng = Rng::new(1000 + seed);
        let kernel = program(target, &mut rng, 2);
        let dims = rng.below(4);
        let grid = (0..dims)
            .map(|_| GridDim {
                extent: 1 + rng.below(3),
                advance: kernel.params.iter().map(|_| rng.pick(&[0, 64, -64, 5, 200_000])).collect(),
            })
            .collect();
        // Points of this grid write over each other: the order of points is the same in both engines.
        agree(plan_of(target, kernel, grid), Data::Bits, &Options::default(), &mut rng);
    }
}

#[test]
fn pointers_beyond_32_bits_of_displacement() {
    for target in targets() {
        // The loop leaves `x` 2^32 bytes off, of which nothing is read; the next access must come back.
        let mut b = KernelBuilder::new("far", target.lanes);
        let bytes = target.vector_bytes();
        let (x, y) = (b.param("x", Access::Read), b.param("y", Access::Write));
        b.array("r", 1);
        b.loop_(4, [(x, 1 << 30), (y, 64)], |b| {
            b.op(Instr::Splat { dst: acc(0), bits: 3 });
            b.op(Instr::Store { dst: Addr::new(y, 0), src: acc(0), bytes });
        });
        b.op(Instr::Load { dst: acc(0), src: Addr::new(x, 1), bytes });
        b.op(Instr::Store { dst: Addr::new(y, 0), src: acc(0), bytes });
        let mut rng = Rng::new(8);
        agree(plan_of(&target, b.finish(), vec![]), Data::Bits, &Options::default(), &mut rng);
    }
}
