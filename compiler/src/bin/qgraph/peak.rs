//! What this core can do at most: dots (or fused multiply-adds) on registers alone, through the same code generator.

use qgraph_compiler::blob::Bytes;
use qgraph_compiler::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand};
use qgraph_compiler::plan::{Call, Plan, Ptr, Space, Step, Work, cost};
use qgraph_compiler::runner::{Engine, compile};
use qgraph_compiler::target::{Dots, Target};
use std::sync::Arc;
use std::time::Instant;

/// Independent accumulators, if there are as many registers: more than the latency of a dot needs.
const CHAINS: usize = 24;
/// Iterations of the measured loop.
const TURNS: usize = 20_000;
/// Measurements; the best counts.
const TRIES: usize = 40;

/// Peaks of one core in multiply-accumulates per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peak {
    /// u8·i8 dots.
    pub(crate) int8: f64,
    /// f32 fused multiply-adds.
    pub(crate) float: f64,
    /// Cycles per second, as the cost model counts them: the loop of dots takes what it predicts.
    pub(crate) clock: f64,
}

/// Measures both peaks; `None` where there is no machine code to measure with.
pub(crate) fn measure(target: &Target) -> Option<Peak> {
    if Engine::best(target) != Engine::Jit {
        return None;
    }
    let ((int8, clock), (float, _)) = (rates(target, true)?, rates(target, false)?);
    Some(Peak { int8, float, clock })
}

/// Multiply-accumulates and cycles per second.
fn rates(target: &Target, integer: bool) -> Option<(f64, f64)> {
    let plan = plan(target, integer);
    let cycles = cost::kernel(&plan.kernels[0], target);
    let model = compile(Arc::new(plan), Engine::Jit, 1).ok()?;
    let mut arena = Bytes::zeroed(model.arena_bytes());
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let start = Instant::now();
        model.run(&[], &mut [], &mut arena).ok()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let per_dot = match (integer, target.dots) {
        (true, Dots::Bytes) => 4 * target.lanes,
        (true, Dots::Words) => 2 * target.lanes,
        (false, _) => target.lanes,
    };
    Some(((TURNS * chains(target) * per_dot) as f64 / best, cycles / best))
}

/// Accumulators of the measured loop; one register holds the operand.
fn chains(target: &Target) -> usize {
    CHAINS.min(target.registers - 1)
}

fn plan(target: &Target, integer: bool) -> Plan {
    let bytes = target.vector_bytes();
    let call = Call {
        kernel: 0,
        args: vec![Ptr { space: Space::Arena, offset: 0 }, Ptr { space: Space::Consts, offset: 0 }],
        grid: Vec::new(),
    };
    let step = Step { layer: "peak".into(), what: "peak", macs: 0, work: Work::Kernels(vec![call]) };
    Plan {
        name: "peak".into(),
        target: target.clone(),
        batch: 1,
        head: 1,
        carried_bytes: 0,
        arena_bytes: bytes.next_multiple_of(64),
        weights: Arc::new(Bytes::zeroed(0)),
        consts: Arc::new(Bytes::zeroed(bytes)),
        inputs: Vec::new(),
        outputs: Vec::new(),
        kernels: vec![kernel(target, integer)],
        steps: vec![step],
        places: Vec::new(),
        blocks: Vec::new(),
    }
}

fn kernel(target: &Target, integer: bool) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new(format!("peak_{}", target.name), target.lanes);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    let acc = b.array("acc", chains(target));
    let v = b.array("v", 1).at(0);
    b.op(Instr::Load { dst: v.clone(), src: Addr::new(x, 0), bytes });
    b.unroll(chains(target), |b, k| b.op(Instr::Splat { dst: acc.at(k), bits: 0 }));
    b.loop_(TURNS, [], |b| {
        b.unroll(chains(target), |b, k| {
            let (acc, other) = (acc.at(k), Operand::Reg(v.clone()));
            b.op(match (integer, target.dots) {
                (true, Dots::Bytes) => Instr::Dot4 { acc, u: v.clone(), s: other },
                (true, Dots::Words) => Instr::Dot2 { acc, a: v.clone(), b: other },
                (false, _) => Instr::FmaAcc { acc, a: v.clone(), b: other },
            });
        });
    });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: acc.at(0), bytes });
    b.finish()
}
