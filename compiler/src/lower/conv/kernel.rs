//! The kernels of dense convolutions: direct, no lowering to a matrix.
//!
//! A kernel computes a tile of `pixels × vectors` accumulators. A k-step takes 4 bytes of each pixel (4 u8 channels or one f32) by
//! broadcast, and one vector per 16 bytes of a weight line.

use super::Dot;
use crate::kernel::{Access, Addr, Affine, Instr, Kernel, KernelBuilder, Operand, ParamId, Reg, Regs};
use crate::lower::epilogue::{Finish, Outputs, Params};
use crate::lower::prefetch::{self, Ahead};
use crate::lower::tile;
use crate::qgraph::layout::BLOCK;
use crate::target::Target;

/// Most k-steps that are unrolled in one loop body.
const UNROLL: usize = 16;
/// K-steps of a body that loops over more than [`UNROLL`].
const BODY: usize = 8;

/// A loop over k-steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KLoop {
    pub(super) extent: usize,
    pub(super) x: usize,
    pub(super) w: usize,
}

/// Whether all k-steps of these loops stand in one straight run.
fn straight(k: &[KLoop]) -> bool {
    k.iter().map(|l| l.extent).product::<usize>() <= UNROLL
}

/// Straight runs of k-steps that a kernel over these loops executes, but for the remainder of an innermost loop.
pub(super) fn leaves(k: &[KLoop]) -> usize {
    match k {
        _ if straight(k) => 1,
        [l] => l.extent / BODY,
        [l, rest @ ..] => l.extent * leaves(rest),
        [] => 1,
    }
}

/// Geometry of a dense kernel.
pub(super) struct Spec<'a> {
    pub(super) target: &'a Target,
    pub(super) dot: Dot,
    pub(super) finish: Finish,
    pub(super) k: &'a [KLoop],
    pub(super) pixels: usize,
    pub(super) vectors: usize,
    pub(super) channels: usize,
    pub(super) store: usize,
    pub(super) block_bytes: usize,
    pub(super) x_step: usize,
    pub(super) y_step: usize,
    pub(super) r_step: usize,
    pub(super) ahead: Ahead,
}

/// Registers and parameters of a dense kernel while it is written.
pub(super) struct Tile {
    pub(super) x: ParamId,
    pub(super) w: ParamId,
    /// What is asked for ahead, if anything.
    pub(super) next: Option<ParamId>,
    /// The layer-wide table.
    pub(super) c: ParamId,
    pub(super) acc: Regs,
    pub(super) weights: Regs,
    pub(super) input: Reg,
}

impl Spec<'_> {
    pub(super) fn kernel(&self) -> Kernel {
        let kind = if self.finish.residual() { "conv_add" } else { "conv" };
        let name = tile::name(self.dot, kind, self.pixels, self.channels, self.target);
        let mut b = KernelBuilder::new(name, self.target.lanes);
        let x = b.param("x", Access::Read);
        let w = b.param("w", Access::Read);
        let params = Params::declare(&mut b, self.finish);
        let next = (self.ahead.lines > 0).then(|| b.param("next", Access::Read));
        let acc = b.array("acc", self.pixels * self.vectors);
        let weights = b.array("w", tile::weight_registers(self.dot, self.pixels, self.vectors).max(2));
        let input = b.array("x", 1).at(0);
        let t = Tile { x, w, c: params.c, next, acc, weights, input };
        let bytes = self.target.vector_bytes();
        b.unroll(self.vectors, |b, v| {
            b.op(Instr::Load { dst: acc.at(v), src: Addr::new(params.t, v * bytes), bytes });
        });
        // All pixels start alike. A move costs less than a load: registers are renamed.
        b.unroll(self.pixels - 1, |b, p| {
            b.unroll(self.vectors, |b, v| {
                b.op(Instr::Move { dst: acc.at((p + 1) * self.vectors + v), src: acc.at(v) });
            });
        });
        self.sum(&mut b, &t, self.k);
        let outputs = Outputs {
            target: self.target,
            finish: self.finish,
            params,
            acc,
            pixels: self.pixels,
            vectors: self.vectors,
            channels: self.channels,
            store: self.store,
            y_step: self.y_step,
            r_step: self.r_step,
            offset: weights.at(0),
            order: weights.at(1),
            scratch: t.input.clone(),
        };
        outputs.emit(&mut b);
        b.finish()
    }

    /// All k-steps of the given loops.
    fn sum(&self, b: &mut KernelBuilder, t: &Tile, k: &[KLoop]) {
        let by = |l: &KLoop, inside: &[KLoop], steps: usize| {
            let next = t.next.map(|n| (n, (leaves(inside) * self.ahead.lines * prefetch::LINE) as i64));
            let moves = [(t.x, (steps * l.x) as i64), (t.w, (steps * l.w) as i64)];
            moves.into_iter().chain(next).collect::<Vec<_>>()
        };
        match k {
            [l, rest @ ..] if !straight(k) && !rest.is_empty() => {
                b.loop_(l.extent, by(l, rest, 1), |b| self.sum(b, t, rest));
            }
            [l] if !straight(k) => {
                let main = l.extent / BODY;
                let body = KLoop { extent: BODY, ..*l };
                b.loop_(main, by(l, &[body], BODY), |b| {
                    self.ask(b, t);
                    self.steps(b, t, &[body], Default::default());
                });
                let (done, rest) = (main * BODY, l.extent % BODY);
                let at = ((done * l.x).into(), (done * l.w).into());
                self.steps(b, t, &[KLoop { extent: rest, ..*l }], at);
            }
            _ => {
                self.ask(b, t);
                self.steps(b, t, k, Default::default());
            }
        }
    }

    /// Asks for what comes next.
    fn ask(&self, b: &mut KernelBuilder, t: &Tile) {
        if let Some(next) = t.next {
            b.unroll(self.ahead.lines, |b, i| {
                b.op(Instr::Prefetch { src: Addr::new(next, i * prefetch::LINE), far: true });
            });
        }
    }

    /// K-steps without a loop, from an offset in x and w.
    fn steps(&self, b: &mut KernelBuilder, t: &Tile, k: &[KLoop], at: (Affine, Affine)) {
        match k {
            [] => self.step(b, t, at),
            [l, rest @ ..] => b.unroll(l.extent, |b, u| {
                self.steps(b, t, rest, (at.0 + u * l.x, at.1 + u * l.w));
            }),
        }
    }

    /// Vector `v` of the weights of the k-step at `w`: part v mod parts of a line, in block v / parts.
    pub(super) fn weight(&self, t: &Tile, w: &Affine, v: usize) -> Addr {
        let parts = BLOCK / self.target.lanes;
        Addr::new(t.w, w.clone() + v / parts * self.block_bytes + v % parts * self.target.vector_bytes())
    }

    /// One k-step at offsets of x and w: every pixel's 4 bytes times every vector of weights.
    fn step(&self, b: &mut KernelBuilder, t: &Tile, at: (Affine, Affine)) {
        match self.dot {
            Dot::U8S8 => self.step_of(b, t, at, |acc, u, s| Instr::Dot4 { acc, u, s }),
            Dot::F32 => self.step_of(b, t, at, |acc, a, b| Instr::FmaAcc { acc, a, b }),
            Dot::Words => self.step_of_words(b, t, at),
        }
    }

    fn step_of(
        &self,
        b: &mut KernelBuilder,
        t: &Tile,
        (x, w): (Affine, Affine),
        dot: impl Fn(Reg, Reg, Operand<Reg, Addr>) -> Instr<Reg, Addr>,
    ) {
        let bytes = self.target.vector_bytes();
        let in_registers = tile::weight_registers(self.dot, self.pixels, self.vectors);
        let weight = |v: usize| self.weight(t, &w, v);
        let dot = |acc, weight| dot(acc, t.input.clone(), weight);
        for v in 0..in_registers {
            b.op(Instr::Load { dst: t.weights.at(v), src: weight(v), bytes });
        }
        b.unroll(self.pixels, |b, p| {
            let src = Addr::new(t.x, p * self.x_step + x.clone());
            b.op(Instr::Broadcast32 { dst: t.input.clone(), src });
            b.unroll(in_registers, |b, v| {
                b.op(dot(t.acc.at(p * self.vectors + v), t.weights.at(v).into()));
            });
            for v in in_registers..self.vectors {
                b.op(dot(t.acc.at(p * self.vectors + v), weight(v).into()));
            }
        });
    }
}
