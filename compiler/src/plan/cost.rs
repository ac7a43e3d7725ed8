//! The cost model: how many cycles kernels and steps take on a target, from its constants alone. Pure functions, no clock.
//!
//! All extents of a kernel are constants, so counting its instructions is exact. Straight runs of instructions, between loops, take as long as
//! the busiest of what they share ([`Core`]): any set of vector pipes, load and store ports, issue, or the longest chain of dots into one
//! accumulator. Runs follow one after the other, and each change of run loses a few cycles.
//!
//! A step is its calls and what they wait for: constants and inputs, which a run reads once, come from beyond the second-level cache, and so
//! do activations that do not fit it. Kernels that prefetch wait for constants only where those take longer than the calls.
//!
//! Tiles are chosen (`lower::tile`) and threads balanced ([`super::split`]) by this model; `qgraph bench --profile` shows how well it predicts.
//!
//! Not here: what waits for unaligned addresses, page walks, other cores.

use super::area::{Deed, Reach};
use super::{Call, Plan, Space, Work};
use crate::kernel::{Addr, Instr, Kernel, Operand, Reg, Stmt, VarId};
use crate::target::{Core, Dots, Isa, Target};

/// Cycles that a runtime function takes per byte it reads or writes: plain loops, mostly of exponentials or divisions.
const FUNCTION: f64 = 4.0;

/// What a step is expected to cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Cycles, of one core.
    pub cycles: f64,
    /// Bytes of weights and tables.
    pub constants: usize,
    /// Bytes of activations that are read.
    pub read: usize,
    /// Bytes of activations that are written.
    pub written: usize,
}

/// The cost of each step of a plan, as often as it says ([`Plan::images`]).
pub fn steps(plan: &Plan) -> Vec<Cost> {
    let reach: Vec<Reach> = plan.kernels.iter().map(Reach::of).collect();
    let cycles: Vec<f64> = plan.kernels.iter().map(|k| kernel(k, &plan.target)).collect();
    let ahead: Vec<bool> = plan.kernels.iter().map(|k| prefetches(&k.body)).collect();
    let Core { l3, l3_rate, memory_rate, .. } = plan.target.core;
    let all = plan.weights.len() + plan.consts.len() + plan.arena_bytes;
    // The part of what was not used since the last run that the third-level cache has lost meanwhile.
    let lost = 1.0 - (l3 as f64 / all.max(1) as f64).min(1.0);
    let far = lost / f64::from(memory_rate) + (1.0 - lost) / f64::from(l3_rate);
    let cost = |work: &Work| {
        let Bytes { mut cost, inputs } = bytes(work, &reach);
        let (calls, hidden) = match work {
            Work::Kernels(calls) => {
                let hidden = calls.iter().any(|c| ahead[c.kernel]);
                (self::calls(calls, &cycles), hidden)
            }
            Work::Function(_) => (FUNCTION * (cost.read + cost.written) as f64, false),
        };
        let constants = far * cost.constants as f64;
        let beyond = (cost.read + cost.written).saturating_sub(inputs + plan.target.core.l2);
        cost.cycles = if hidden { constants.max(calls) } else { constants + calls };
        cost.cycles += far * inputs as f64 + beyond as f64 / f64::from(l3_rate);
        cost
    };
    plan.steps.iter().map(|s| cost(&s.work)).collect()
}

fn prefetches(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::Op(instr) => matches!(instr, Instr::Prefetch { .. }),
        Stmt::Loop { body, .. } | Stmt::Unroll { body, .. } => prefetches(body),
    })
}

/// Cycles of a call, given those of every kernel.
pub(super) fn call(call: &Call, kernels: &[f64]) -> f64 {
    call.grid.iter().fold(kernels[call.kernel], |n, d| n * d.extent as f64)
}

/// The same of several calls.
pub(super) fn calls(calls: &[Call], kernels: &[f64]) -> f64 {
    calls.iter().map(|c| call(c, kernels)).sum()
}

/// Bytes of weights and tables that some work reads.
pub(super) fn constants(work: &Work, reach: &[Reach]) -> usize {
    bytes(work, reach).cost.constants
}

/// What a step touches.
#[derive(Default)]
struct Bytes {
    cost: Cost,
    /// Bytes of the model's inputs, which [`Cost::read`] counts too.
    inputs: usize,
}

/// Bytes that a step touches: what several calls or points touch counts once.
fn bytes(work: &Work, reach: &[Reach]) -> Bytes {
    let mut touched: Vec<(bool, Space, i128, i128, i128)> = Vec::new();
    match work {
        Work::Kernels(calls) => {
            for call in calls {
                for (p, arg) in call.args.iter().enumerate() {
                    let area = |deed| reach[call.kernel].area(call, p, deed);
                    let written = area(Deed::Written);
                    if let Some(area) = written.as_ref().or(area(Deed::Touched).as_ref()) {
                        let (start, end) = area.hull();
                        touched.push((written.is_some(), arg.space, start, end, area.bytes()));
                    }
                }
            }
        }
        Work::Function(call) => {
            for (i, ptr) in call.args.iter().enumerate() {
                let (read, written) = call.function.footprint(i);
                let at = ptr.offset as i128;
                for (deed, n) in [(true, written as i128), (false, read as i128)] {
                    touched.extend((n > 0).then_some((deed, ptr.space, at, at + n, n)));
                }
            }
        }
    }
    touched.sort_unstable();
    let Bytes { mut cost, mut inputs } = Bytes::default();
    let mut all = touched.into_iter().peekable();
    while let Some((written, space, start, mut end, mut bytes)) = all.next() {
        // Areas that overlap are ways through the same bytes.
        while let Some(more) = all.next_if(|m| (m.0, m.1) == (written, space) && m.2 < end) {
            end = end.max(more.3);
            bytes = (bytes + more.4).min(end - start);
        }
        *match (space, written) {
            (Space::Weights | Space::Consts, _) => &mut cost.constants,
            (_, false) => &mut cost.read,
            (_, true) => &mut cost.written,
        } += bytes as usize;
        if matches!(space, Space::Input(_)) {
            inputs += bytes as usize;
        }
    }
    Bytes { cost, inputs }
}

/// Cycles of a call of a kernel, which the verifier accepts.
pub fn kernel(kernel: &Kernel, target: &Target) -> f64 {
    let mut walk = Walk { target, done: 0.0 };
    let mut run = Run::default();
    walk.body(&kernel.body, &mut Vec::new(), &mut run);
    walk.done + run.cycles(&target.core) + f64::from(target.core.turn)
}

struct Walk<'a> {
    target: &'a Target,
    /// Cycles of all runs that have ended.
    done: f64,
}

/// A straight run of instructions: how much it has of each thing that can be short.
#[derive(Default)]
struct Run<'a> {
    /// Passes through each class of pipes.
    pipes: Vec<(u8, f64)>,
    /// Passes through load and store ports.
    loads: f64,
    stores: f64,
    instructions: f64,
    /// Cycles of the chain through each register that is added to.
    chains: Vec<(&'a Reg, f64)>,
}

impl<'k> Walk<'_> {
    /// Adds statements to a run. `open`: the unrolls around them, with their extents.
    fn body(&mut self, body: &'k [Stmt], open: &mut Vec<(VarId, usize)>, run: &mut Run<'k>) {
        for stmt in body {
            match stmt {
                Stmt::Op(instr) => run.add(instr, open, self.target),
                Stmt::Unroll { var, extent, body } => {
                    open.push((*var, *extent));
                    self.body(body, open, run);
                    open.pop();
                }
                Stmt::Loop { extent, advance, body } => {
                    let times = open.iter().fold(*extent as f64, |n, v| n * v.1 as f64);
                    let mut inner = Walk { target: self.target, done: 0.0 };
                    // A counter, a jump, and the pointers.
                    let mut turn = Run { instructions: 2.0 + advance.len() as f64, ..Run::default() };
                    inner.body(body, &mut Vec::new(), &mut turn);
                    self.done += times * (inner.done + turn.cycles(&self.target.core));
                    self.done += times / *extent as f64 * f64::from(self.target.core.turn);
                }
            }
        }
    }
}

impl<'k> Run<'k> {
    fn add(&mut self, instr: &'k Instr<Reg, Addr>, open: &[(VarId, usize)], target: &Target) {
        let core = &target.core;
        let times = open.iter().fold(1.0, |n, v| n * v.1 as f64);
        let needs = needs(instr, target);
        self.instructions += times * needs.instructions;
        self.loads += times * needs.loads;
        self.stores += times * needs.stores;
        let passes = times * f64::from(core.passes);
        for (pipes, n) in needs.pipes {
            match self.pipes.iter_mut().find(|p| p.0 == pipes) {
                Some(p) => p.1 += passes * n,
                None => self.pipes.push((pipes, passes * n)),
            }
        }
        if let Some((acc, latency)) = chain(instr, core) {
            // Repetitions that do not choose another register follow each other.
            let same = open.iter().filter(|v| acc.index.terms.iter().all(|t| t.0 != v.0 || t.1 == 0));
            let length = same.fold(latency, |n, v| n * v.1 as f64);
            match self.chains.iter_mut().find(|c| c.0 == acc) {
                Some(c) => c.1 += length,
                None => self.chains.push((acc, length)),
            }
        }
    }

    fn cycles(&self, core: &Core) -> f64 {
        // What only some pipes can do keeps each of them busy for its share.
        let busy = |set: u8| {
            let inside = self.pipes.iter().filter(|p| p.0 & !set == 0).map(|p| p.1).sum::<f64>();
            inside / f64::from(set.count_ones())
        };
        let pipes = (1..=core.any).map(busy).fold(0.0, f64::max);
        let chain = self.chains.iter().map(|c| c.1).fold(0.0, f64::max);
        let issue = self.instructions / f64::from(core.issue);
        let (loads, stores) = (self.loads / f64::from(core.loads), self.stores / f64::from(core.stores));
        [pipes, loads, stores, issue, chain].into_iter().fold(0.0, f64::max)
    }
}

/// What an instruction takes.
struct Needs {
    /// Vector instructions, by the pipes that can do them.
    pipes: [(u8, f64); 2],
    /// Passes through the ports.
    loads: f64,
    stores: f64,
    instructions: f64,
}

/// What an instruction takes in the machine code of a target.
fn needs(instr: &Instr<Reg, Addr>, target: &Target) -> Needs {
    use Instr::*;
    let Core { multiply, add, shuffle, any, passes, .. } = target.core;
    let vector = target.vector_bytes();
    let whole = f64::from(passes);
    let masks = target.isa == Isa::Avx512Vnni;
    // Odd sizes go through a mask, whole, or in pieces.
    let pieces = |bytes: usize| (bytes / 16 + (bytes % 16).count_ones() as usize) as f64;
    let moved = |bytes: usize| match bytes {
        _ if bytes == vector || (masks && !bytes.is_power_of_two()) => whole,
        _ if bytes.is_power_of_two() => 1.0,
        _ => pieces(bytes),
    };
    let none = (any, 0.0);
    let plain = |pipes: u8| Needs { pipes: [(pipes, 1.0), none], loads: 0.0, stores: 0.0, instructions: 1.0 };
    let with = |pipes: u8, b: &Operand<Reg, Addr>| {
        let loads = if matches!(b, Operand::Mem(_)) { whole } else { 0.0 };
        Needs { loads, ..plain(pipes) }
    };
    let loaded = |n: f64| Needs { pipes: [none, none], loads: n, stores: 0.0, instructions: 1.0 };
    match instr {
        // Renaming does these.
        Move { .. } | Splat { bits: 0, .. } => Needs { pipes: [none, none], ..plain(any) },
        Splat { .. } => Needs { instructions: 2.0, ..plain(shuffle) },
        Load { bytes, .. } => loaded(moved(*bytes)),
        Broadcast32 { .. } | Prefetch { .. } => loaded(1.0),
        LoadU8 { count, .. } => Needs { loads: moved(*count).min(pieces(*count)), ..plain(shuffle) },
        Store { bytes, .. } => Needs { loads: 0.0, stores: moved(*bytes), ..loaded(0.0) },
        Copy { bytes, .. } => {
            let vectors = (bytes / vector) as f64 + (bytes % vector).min(1) as f64;
            let n = vectors * whole;
            Needs { loads: n, stores: n, instructions: 2.0 * vectors, ..loaded(0.0) }
        }
        Dot4 { s, .. } if target.dots == Dots::Bytes => with(multiply, s),
        // Both operands are split into words.
        Dot4 { s, .. } => {
            Needs { pipes: [(multiply, 2.0), (shuffle, 6.0)], instructions: 8.0, ..with(multiply, s) }
        }
        Dot2 { b, .. } if target.dots == Dots::Bytes => with(multiply, b),
        // Products, then a sum.
        Dot2 { b, .. } => Needs { pipes: [(multiply, 1.0), (any, 1.0)], instructions: 2.0, ..with(any, b) },
        MulI32 { b, .. } | MulF32 { b, .. } | FmaAcc { b, .. } | FmaMul { m: b, .. } => with(multiply, b),
        DivF32 { b, .. } => Needs { pipes: [(multiply, 6.0), none], ..with(multiply, b) },
        AddF32 { b, .. } | SubF32 { b, .. } | MaxF32 { b, .. } | MinF32 { b, .. } => with(add, b),
        CvtI32F32 { .. } | CvtF32I32 { .. } => plain(add),
        AddI32 { b, .. } | SubI32 { b, .. } | And { b, .. } | Or { b, .. } => with(any, b),
        MaxU8 { b, .. } | MinU8 { b, .. } => with(any, b),
        ShlI32 { .. } | ShlI16 { .. } | ShrI16 { .. } | ShrU16 { .. } => plain(shuffle),
        UnpackLo8 { .. } | UnpackHi8 { .. } | UnpackLo16 { .. } | UnpackHi16 { .. } => plain(shuffle),
        PackI32I16 { .. } | PackI16U8 { .. } | Permute32 { .. } => plain(shuffle),
        Shuffle8 { control, .. } => with(shuffle, control),
        // As with AVX-512 VBMI, 128 bytes of the table at a time; permutes of words, where it is missing, take longer. Without AVX-512 16 at a time.
        Lookup8 { .. } if masks => {
            Needs { pipes: [(shuffle, 4.0), (any, 3.0)], instructions: 7.0, ..plain(any) }
        }
        Lookup8 { .. } => {
            Needs { pipes: [(shuffle, 16.0), (any, 32.0)], loads: 16.0, instructions: 48.0, ..plain(any) }
        }
    }
}

/// The register that an instruction adds to, and the cycles until the next can.
fn chain<'a>(instr: &'a Instr<Reg, Addr>, core: &Core) -> Option<(&'a Reg, f64)> {
    use Instr::*;
    let (dst, a, cycles) = match instr {
        Dot4 { acc, .. } | Dot2 { acc, .. } | FmaAcc { acc, .. } => (acc, acc, core.latency),
        AddF32 { dst, a, .. } | MaxF32 { dst, a, .. } | MinF32 { dst, a, .. } => (dst, a, core.latency),
        AddI32 { dst, a, .. } | MaxU8 { dst, a, .. } | MinU8 { dst, a, .. } => (dst, a, 1),
        Splat { .. } | Move { .. } | Load { .. } | Store { .. } | Broadcast32 { .. } | LoadU8 { .. } => None?,
        Copy { .. } | Prefetch { .. } | SubI32 { .. } | MulI32 { .. } | And { .. } | Or { .. } => None?,
        ShlI32 { .. } | ShlI16 { .. } | ShrI16 { .. } | ShrU16 { .. } | SubF32 { .. } | MulF32 { .. } => {
            None?
        }
        DivF32 { .. } | FmaMul { .. } | CvtI32F32 { .. } | CvtF32I32 { .. } | UnpackLo8 { .. } => None?,
        UnpackHi8 { .. } | UnpackLo16 { .. } | UnpackHi16 { .. } | PackI32I16 { .. } => None?,
        PackI16U8 { .. } | Permute32 { .. } | Shuffle8 { .. } | Lookup8 { .. } => None?,
    };
    (dst == a).then_some((dst, f64::from(cycles)))
}
