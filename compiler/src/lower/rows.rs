//! Depthwise convolutions u8 → u8 in whole rows of outputs: what the two ways of making a row ([`super::window`], [`super::sliding`]) share.
//!
//! Pixels narrower than a vector are folded: neighbours lie one after the other, so a vector loaded at a column holds that column for one
//! output and the next column for the next output.

use super::conv::{Dot, Layer};
use super::depthwise::{Ending, padded};
use super::draft::{At, DraftCall};
use super::epilogue::Params;
use super::{Lower, sliding, tile, window};
use crate::kernel::{Addr, Instr, Kernel, KernelBuilder, ParamId, Reg};
use crate::plan::GridDim;
use crate::target::Target;

/// Vectors of channels that lie one after the other, each a kernel call.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    /// First vector of bytes.
    pub(super) first: usize,
    /// How many.
    pub(super) count: usize,
    /// Channels of each that exist, and that may be stored.
    pub(super) channels: usize,
    pub(super) store: usize,
    /// Neighbouring pixels in a vector: see [`fold`].
    pub(super) fold: usize,
}

/// A way to make rows.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// Output rows that a kernel makes at once.
    pub(super) rows: usize,
    /// The kernel for some rows.
    pub(super) kernel: fn(&Rows) -> Kernel,
}

/// Geometry of a kernel that makes whole rows.
pub(super) struct Rows<'a> {
    pub(super) target: &'a Target,
    pub(super) layer: &'a Layer<'a>,
    pub(super) chunk: Chunk,
    /// Output rows.
    pub(super) rows: usize,
}

impl Rows<'_> {
    /// A kernel of its name.
    pub(super) fn builder(&self) -> KernelBuilder {
        let [kh, kw] = self.layer.shape.kernel;
        let kind = if self.layer.finish.residual() { "dwconv_add" } else { "dwconv" };
        let folded = if self.chunk.fold > 1 { format!("_fold{}", self.chunk.fold) } else { String::new() };
        let kind = format!("{kind}{kh}x{kw}_row{}{folded}", self.rows);
        let channels = self.chunk.channels / self.chunk.fold;
        let name = tile::name(Dot::U8S8, &kind, self.layer.map()[1], channels, self.target);
        KernelBuilder::new(name, self.target.lanes)
    }

    /// How accumulators are stored.
    pub(super) fn ending(&self, params: Params) -> Ending<'_> {
        let Chunk { channels, store, .. } = self.chunk;
        Ending { target: self.target, finish: self.layer.finish, params, channels, store }
    }

    /// Loads a vector of the input: of a row and a column from where `x` points.
    pub(super) fn load(&self, x: ParamId, row: usize, column: usize, dst: Reg) -> Instr<Reg, Addr> {
        let layout = &self.layer.x.layout;
        let src = Addr::new(x, row * layout.row() + column * layout.pixel());
        Instr::Load { dst, src, bytes: padded(layout, self.chunk.channels) }
    }

    /// Bytes from one column to the next, and from one output to the next, of what a kernel walks along.
    pub(super) fn pixels(&self) -> [usize; 3] {
        let layer = self.layer;
        [layer.x.layout.pixel(), layer.y.layout.pixel(), layer.r.as_ref().map_or(0, |r| r.layout.pixel())]
    }
}

/// The better way that a layer can be computed in, if there is one.
pub(super) fn way(target: &Target, layer: &Layer) -> Option<Way> {
    window::way(target, layer).or_else(|| sliding::way(target, layer))
}

/// How many neighbouring pixels a vector holds of a layer computed in rows: 1, unless pixels are so narrow that they divide it and rows
/// divide into such groups.
pub(super) fn fold(target: &Target, layer: &Layer) -> usize {
    let bytes = target.vector_bytes();
    let pixel = layer.x.layout.pixel();
    let layouts = [Some(&layer.y), layer.r.as_ref()];
    let alike = layouts.into_iter().flatten().all(|place| place.layout.pixel() == pixel);
    let fold = bytes / pixel;
    let divides = bytes.is_multiple_of(pixel) && layer.map()[1].is_multiple_of(fold.max(1));
    let next = layer.conv.window.strides[1] == 1;
    if next && alike && divides && layer.outputs() <= pixel { fold } else { 1 }
}

impl Lower<'_> {
    /// The calls for some channels of a layer.
    pub(super) fn whole_rows(
        &mut self,
        layer: &Layer,
        way: Way,
        common_at: At,
        chunk: Chunk,
    ) -> Vec<DraftCall> {
        let target = self.target.clone();
        let [oh, _] = layer.map();
        let sy = layer.conv.window.strides[0];
        // Groups of rows, then the rows that are left, one by one.
        let parts = [(0, oh / way.rows, way.rows), (oh / way.rows * way.rows, oh % way.rows, 1)];
        let mut calls = Vec::new();
        for (start, count, rows) in parts.into_iter().filter(|p| p.1 > 0) {
            let kernel = self.draft.kernel((way.kernel)(&Rows { target: &target, layer, chunk, rows }));
            let chunks = chunk.first..chunk.first + chunk.count;
            let table =
                chunks.flat_map(|c| self.depthwise_table(layer, c, 0..rows, chunk.fold)).collect::<Vec<u8>>();
            let table_bytes = table.len() / chunk.count;
            let table = self.draft.constant(table);
            let bytes = target.vector_bytes();
            let (x, y, r) = (&layer.x.layout, &layer.y.layout, layer.r.as_ref().map(|r| &r.layout));
            let skip = chunk.first * bytes;
            let mut args = vec![
                layer.x_first().plus(start * sy * x.row() + skip),
                table,
                common_at,
                layer.y.first().plus(start * y.row() + skip),
            ];
            args.extend(layer.r.as_ref().map(|r| r.first().plus(start * r.layout.row() + skip)));
            let dim = |extent: usize, x: usize, t: usize, y: usize, r: Option<usize>| {
                let advance = [x, t, 0, y].into_iter().chain(r).map(|by| by as i64).collect();
                GridDim { extent, advance }
            };
            let grid = [
                dim(x.shape[0], x.image(), 0, y.image(), r.map(|r| r.image())),
                dim(chunk.count, bytes, table_bytes, bytes, r.map(|_| bytes)),
                dim(count, rows * sy * x.row(), 0, rows * y.row(), r.map(|r| rows * r.row())),
            ];
            calls.push(DraftCall { kernel, args, grid: grid.into_iter().filter(|d| d.extent > 1).collect() });
        }
        calls
    }
}
