//! Depthwise convolutions u8 → u8: four vertical taps per dot.
//!
//! Four rows of a column are unpacked against each other (`unpack`), so that every dword holds four vertical taps of one channel.
//! Unpacking works in 16-byte blocks, and so do the packs of the epilogue: channels come out in order. Bias, scale, offset and weights are
//! stored in the order of unpacked channels.

use super::conv::{Dot, Layer};
use super::draft::DraftCall;
use super::epilogue::{Common, Finish, Params, common, common_table, pack};
use super::rows::{self, Chunk};
use super::tile;
use super::unpack::{self, Unpack};
use super::{Layout, Lower};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand, Reg, Regs};
use crate::plan::{GridDim, cost};
use crate::target::Target;
use std::ops::Range;

impl Lower<'_> {
    pub(super) fn depthwise(&mut self, layer: &Layer) {
        let target = self.target.clone();
        let (x, y) = (&layer.x.layout, &layer.y.layout);
        let channels = layer.outputs();
        let chunk = target.vector_bytes();
        let [oh, ow] = layer.map();
        let window = &layer.conv.window;
        let common_at = common_table(&target, &mut self.draft, &layer.common);
        let dot = Dot::of(&target, true);
        let others = unpack::registers(&target) + usize::from(dot == Dot::Words);
        let most = (target.registers - others) / 4;
        let mut calls = Vec::new();
        // Whole chunks first, then what is left.
        let whole = channels / chunk;
        let parts =
            [(0, whole, chunk), (whole, usize::from(!channels.is_multiple_of(chunk)), channels % chunk)];
        let way = rows::way(&target, layer);
        let fold = way.map_or(1, |_| rows::fold(&target, layer));
        for (first, count, lanes) in parts.into_iter().filter(|p| p.1 > 0) {
            let store = padded(y, lanes);
            if let Some(way) = way {
                let (channels, store) = if fold > 1 { (chunk, chunk) } else { (lanes, store) };
                let chunk = Chunk { first, count, channels, store, fold };
                calls.extend(self.whole_rows(layer, way, common_at, chunk));
                continue;
            }
            let table = (first..first + count)
                .flat_map(|c| self.depthwise_table(layer, c, 0..1, 1))
                .collect::<Vec<u8>>();
            let table_bytes = table.len() / count;
            let table = self.draft.constant(table);
            let kernel =
                |pixels| Spec { target: &target, dot, layer, pixels, channels: lanes, store }.kernel();
            let rows = tile::rows(ow, most, |pixels| cost::kernel(&kernel(pixels), &target));
            for strip in tile::strips(ow, tile::least(&rows).0) {
                let kernel = self.draft.kernel(kernel(strip.pixels));
                let [sy, sx] = window.strides;
                let skip = first * chunk;
                let mut args = vec![
                    layer.x_first().plus(strip.start * sx * x.pixel() + skip),
                    table,
                    common_at,
                    layer.y.first().plus(strip.start * y.pixel() + skip),
                ];
                let r = layer.r.as_ref();
                args.extend(r.map(|r| r.first().plus(strip.start * r.layout.pixel() + skip)));
                let dim = |extent: usize, by: [usize; 2], r: usize, t: usize| {
                    let mut advance = vec![by[0] as i64, t as i64, 0, by[1] as i64];
                    advance.extend(layer.r.is_some().then_some(r as i64));
                    GridDim { extent, advance }
                };
                let (rx, rr, rp) =
                    r.map_or((0, 0, 0), |r| (r.layout.image(), r.layout.row(), r.layout.pixel()));
                let p = strip.pixels;
                let grid = [
                    dim(x.shape[0], [x.image(), y.image()], rx, 0),
                    dim(count, [chunk, chunk], chunk, table_bytes),
                    dim(oh, [sy * x.row(), y.row()], rr, 0),
                    dim(strip.count, [p * sx * x.pixel(), p * y.pixel()], p * rp, 0),
                ];
                let grid = grid.into_iter().filter(|d| d.extent > 1).collect();
                calls.push(DraftCall { kernel, args, grid });
            }
        }
        self.draft.step(&layer.node.name, "depthwise conv", layer.macs, calls);
    }

    /// Bias, scale, perhaps offset, then weights `[kw][ceil(kh/4)][4 vectors]` of one chunk, in unpacked order. For dots of words,
    /// `[kw][ceil(kh/4)][taps 0 and 2, taps 1 and 3][4 vectors]`.
    /// Repeated for each shift: the weights of an output row that lies so many rows below. With `fold` pixels in a vector, each has its
    /// part of it.
    pub(super) fn depthwise_table(
        &self,
        layer: &Layer,
        chunk: usize,
        shifts: Range<usize>,
        fold: usize,
    ) -> Vec<u8> {
        let lanes = self.target.lanes;
        let outputs = layer.outputs();
        let pixel = 4 * lanes / fold;
        let channel =
            move |j: usize, lane: usize| chunk * 4 * lanes + (16 * (lane / 4) + 4 * j + lane % 4) % pixel;
        let mut bytes = Vec::new();
        let order = (0..4).flat_map(move |j| (0..lanes).map(move |lane| channel(j, lane)));
        bytes.extend(layer.table(order.clone(), outputs));
        let weights = self.graph.blob_bytes(layer.conv.weight);
        let [kh, kw] = layer.shape.kernel;
        let words = Dot::of(self.target, true) == Dot::Words;
        let steps =
            shifts.flat_map(|s| (0..kw).flat_map(move |x| (0..kh.div_ceil(4)).map(move |g| (s, x, g))));
        for (shift, x, group) in steps {
            let weight = |c: usize, row: usize, x: usize| {
                let exists = c < outputs && (shift..shift + kh).contains(&row);
                if exists { weights[layer.shape.index(c, 0, row - shift, x)] } else { 0 }
            };
            let row = 4 * group;
            if words {
                for half in [row, row + 1] {
                    let word = |c, row| i16::from(weight(c, row, x) as i8).to_le_bytes();
                    let taps = |c| [word(c, half), word(c, half + 2)];
                    bytes.extend(order.clone().flat_map(taps).flatten());
                }
            } else {
                bytes.extend(order.clone().flat_map(|c| [0, 1, 2, 3].map(|t| weight(c, row + t, x))));
            }
        }
        bytes
    }
}

/// Bytes from a [`Lower::depthwise_table`] to one vector of weights: of a shift, a column, a group of rows and a half of its taps.
pub(super) fn weights_at(
    target: &Target,
    layer: &Layer,
    [shift, column, group, half]: [usize; 4],
    vector: usize,
) -> usize {
    let [kh, kw] = layer.shape.kernel;
    let halves = if Dot::of(target, true) == Dot::Words { 2 } else { 1 };
    let fours = ((shift * kw + column) * kh.div_ceil(4) + group) * halves + half;
    (4 * (layer.finish.table_vectors() + fours) + vector) * target.vector_bytes()
}

/// Bytes of a pixel's channels, with the padding behind them.
pub(super) fn padded(layout: &Layout, channels: usize) -> usize {
    let rounded = channels.next_multiple_of(16);
    if layout.pixel() >= rounded { rounded } else { channels }
}

/// Geometry of a depthwise kernel.
struct Spec<'a> {
    target: &'a Target,
    dot: Dot,
    layer: &'a Layer<'a>,
    pixels: usize,
    channels: usize,
    store: usize,
}

/// Registers of a depthwise kernel.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) acc: Regs,
    pub(super) unpack: Unpack,
}

impl Tile {
    /// Loads the bias into the accumulators of some outputs, given the first of each.
    pub(super) fn start(
        self,
        b: &mut KernelBuilder,
        target: &Target,
        params: Params,
        outputs: usize,
        first: impl Fn(usize) -> usize,
    ) {
        let bytes = target.vector_bytes();
        for j in 0..4 {
            let dst = self.acc.at(first(0) + j);
            b.op(Instr::Load { dst, src: Addr::new(params.t, j * bytes), bytes });
            // A move costs less than a load: registers are renamed.
            for o in 1..outputs {
                b.op(Instr::Move { dst: self.acc.at(first(o) + j), src: self.acc.at(first(0) + j) });
            }
        }
    }
}

impl Spec<'_> {
    fn kernel(&self) -> Kernel {
        let kind = if self.layer.finish.residual() { "dwconv_add" } else { "dwconv" };
        let [kh, kw] = self.layer.shape.kernel;
        let kind = format!("{kind}{kh}x{kw}");
        let name = tile::name(self.dot, &kind, self.pixels, self.channels, self.target);
        let mut b = KernelBuilder::new(name, self.target.lanes);
        let x = b.param("x", Access::Read);
        let params = Params::declare(&mut b, self.layer.finish);
        let acc = b.array("acc", 4 * self.pixels);
        let t = Tile { acc, unpack: Unpack::declare(&mut b, self.target) };
        let even = (self.dot == Dot::Words).then(|| b.array("even", 1).at(0));
        if let Some(dst) = even.clone() {
            b.op(Instr::Splat { dst, bits: 0x00ff_00ff });
        }
        t.start(&mut b, self.target, params, self.pixels, |p| 4 * p);
        for group in 0..kh.div_ceil(4) {
            self.taps(&mut b, t, even.as_ref(), x, params, group);
        }
        let ending = Ending {
            target: self.target,
            finish: self.layer.finish,
            params,
            channels: self.channels,
            store: self.store,
        };
        let (y, r) = (self.layer.y.layout.pixel(), self.layer.r.as_ref().map_or(0, |r| r.layout.pixel()));
        let outputs: Vec<_> = (0..self.pixels).map(|p| Output { acc: 4 * p, y: p * y, r: p * r }).collect();
        ending.emit(&mut b, t, &outputs);
        b.finish()
    }

    /// Up to four kernel rows over all columns of the tile. `even`: all bits of even bytes, where dots take words.
    fn taps(
        &self,
        b: &mut KernelBuilder,
        t: Tile,
        even: Option<&Reg>,
        x: usize,
        params: Params,
        group: usize,
    ) {
        let layout = &self.layer.x.layout;
        let window = &self.layer.conv.window;
        let [kh, kw] = window.kernel;
        let (stride, dilation) = (window.strides[1], window.dilations[1]);
        let rows = (kh - 4 * group).min(4);
        let column = |p: usize, k: usize| p * stride + k * dilation;
        let mut columns: Vec<usize> =
            (0..self.pixels).flat_map(|p| (0..kw).map(move |k| column(p, k))).collect();
        columns.sort_unstable();
        columns.dedup();
        for c in columns {
            let load = |row: usize, dst: Reg| {
                let row = (4 * group + row) * window.dilations[0];
                let src = Addr::new(x, row * layout.row() + c * layout.pixel());
                Instr::Load { dst, src, bytes: padded(layout, self.channels) }
            };
            // Pixels that this column belongs to, and the column of weights that it meets there.
            let users = (0..self.pixels).flat_map(|p| (0..kw).map(move |k| (p, k)));
            let users: Vec<(usize, usize)> = users.filter(|&(p, k)| column(p, k) == c).collect();
            // The weights of missing rows are zero.
            t.unpack.dwords(b, rows, load, |b, j, u, free| {
                for (half, u) in split(b, even, rows, u, free).into_iter().enumerate() {
                    for &(p, k) in &users {
                        let acc = t.acc.at(4 * p + j);
                        let at = weights_at(self.target, self.layer, [0, k, group, half], j);
                        let weights = Addr::new(params.t, at).into();
                        b.op(match self.dot {
                            Dot::U8S8 | Dot::F32 => Instr::Dot4 { acc, u: u.clone(), s: weights },
                            Dot::Words => Instr::Dot2 { acc, a: u.clone(), b: weights },
                        });
                    }
                }
            });
        }
    }
}

/// What dots take of dwords of up to four taps: the dwords, or, where they take words, those of taps 0 and 2, then 1 and 3, as far as there
/// are any.
fn split(b: &mut KernelBuilder, even: Option<&Reg>, rows: usize, u: Reg, free: Reg) -> Vec<Reg> {
    let Some(even) = even else { return vec![u] };
    b.op(Instr::And { dst: free.clone(), a: u.clone(), b: even.clone().into() });
    if rows == 1 {
        return vec![free];
    }
    b.op(Instr::ShrU16 { dst: u.clone(), a: u.clone(), by: 8 });
    vec![free, u]
}

/// An output pixel of a kernel: its first accumulator, and its bytes from `y` and `r`.
pub(super) struct Output {
    pub(super) acc: usize,
    pub(super) y: usize,
    pub(super) r: usize,
}

/// How accumulators of four vectors become stored bytes.
pub(super) struct Ending<'a> {
    pub(super) target: &'a Target,
    pub(super) finish: Finish,
    pub(super) params: Params,
    /// Channels that exist, and channels that may be stored.
    pub(super) channels: usize,
    pub(super) store: usize,
}

impl Ending<'_> {
    pub(super) fn emit(&self, b: &mut KernelBuilder, t: Tile, outputs: &[Output]) {
        let Finish::Requantize { residual, guard, magic, zero_last, lo, hi } = self.finish else { return };
        let (bytes, params) = (self.target.vector_bytes(), self.params);
        let constant = |which| Operand::<Reg, Addr>::Mem(common(self.target, params.c, which));
        let load = |dst: Reg, src: Addr| Instr::Load { dst, src, bytes };
        let [offset, scale] = t.unpack.free();
        if !magic && !zero_last {
            b.op(load(offset.clone(), common(self.target, params.c, Common::Offset)));
        }
        for j in 0..4 {
            if magic {
                b.op(load(offset.clone(), Addr::new(params.t, (8 + j) * bytes)));
            }
            b.op(load(scale.clone(), Addr::new(params.t, (4 + j) * bytes)));
            for o in outputs {
                let acc = t.acc.at(o.acc + j);
                if !magic {
                    b.op(Instr::CvtI32F32 { dst: acc.clone(), src: acc.clone() });
                }
                b.op(if zero_last && !magic {
                    Instr::MulF32 { dst: acc.clone(), a: acc, b: scale.clone().into() }
                } else {
                    Instr::FmaMul { x: acc, m: scale.clone().into(), c: offset.clone() }
                });
            }
        }
        if zero_last {
            b.op(load(offset.clone(), common(self.target, params.c, Common::Offset)));
        }
        for o in outputs {
            let acc = |j: usize| t.acc.at(o.acc + j);
            if let (true, Some(r)) = (residual, params.r) {
                // One byte and three zeros in every dword.
                let row = |row: usize, dst: Reg| match row {
                    0 => Instr::Load { dst, src: Addr::new(r, o.r), bytes: self.channels },
                    _ => Instr::Splat { dst, bits: 0 },
                };
                t.unpack.dwords(b, 2, row, |b, j, q, _| {
                    b.op(Instr::CvtI32F32 { dst: q.clone(), src: q.clone() });
                    let scale = constant(Common::ResidualScale);
                    b.op(Instr::FmaAcc { acc: acc(j), a: q, b: scale });
                });
            }
            for j in 0..4 {
                if guard {
                    b.op(Instr::MaxF32 { dst: acc(j), a: acc(j), b: constant(Common::FloatLo) });
                    b.op(Instr::MinF32 { dst: acc(j), a: acc(j), b: constant(Common::FloatHi) });
                }
                b.op(Instr::CvtF32I32 { dst: acc(j), src: acc(j) });
                if zero_last {
                    b.op(Instr::AddI32 { dst: acc(j), a: acc(j), b: offset.clone().into() });
                }
            }
            let lo = lo.then(|| constant(Common::Lo));
            let hi = hi.then(|| constant(Common::Hi));
            let src = pack(b, &[acc(0), acc(1), acc(2), acc(3)], lo, hi, None);
            b.op(Instr::Store { dst: Addr::new(params.y, o.y), src, bytes: self.store });
        }
    }
}
