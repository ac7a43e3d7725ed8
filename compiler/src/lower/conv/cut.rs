//! How a dense layer is cut: which panels and strips, by the cost model or by the caller's choice.

use super::kernel::{KLoop, Spec};
use super::{Dot, Layer};
use crate::lower::choice::Choice;
use crate::lower::epilogue::Finish;
use crate::lower::tile::{self, Panel, Strip};
use crate::plan::cost;
use crate::qgraph::layout::BLOCK;
use crate::target::{Core, Target};
use std::collections::HashMap;

/// Most ways of cutting a layer that are offered to be timed.
const OFFERED: usize = 6;
/// Ways that are predicted to take so many times what the best takes are not.
const HOPELESS: f64 = 1.25;

/// What is cut.
pub(super) struct Extents {
    pub(super) dot: Dot,
    /// Blocks of output channels of a group.
    pub(super) blocks: usize,
    /// Rows of pixels, and pixels of a row.
    pub(super) rows: usize,
    pub(super) width: usize,
}

/// The cycles of a tile of some pixels by some blocks.
type TileCost<'a> = &'a mut dyn FnMut(usize, usize) -> f64;

impl Extents {
    fn most_blocks(&self, target: &Target) -> usize {
        tile::most_blocks(target, self.rows * self.width).min(self.blocks)
    }

    fn most_pixels(&self, target: &Target, blocks: usize) -> usize {
        tile::most_pixels(target, self.dot, blocks * (BLOCK / target.lanes)).min(self.width)
    }

    /// The tiles of a row that a panel of `blocks` blocks may have, and what the row costs.
    fn rows(&self, target: &Target, blocks: usize, tile: TileCost) -> Vec<(usize, f64)> {
        tile::rows(self.width, self.most_pixels(target, blocks), |pixels| tile(pixels, blocks))
    }

    /// Which nest is likely better for a group with so many bytes of weights, inputs and outputs. With the weights in the outer loop each panel
    /// walks all maps, which must therefore stay in the second-level cache; with the pixels there each tile walks all weights. What the
    /// first-level cache does not hold is carried there anew by every walk: the fewer bytes the better.
    pub(super) fn weights_first(
        &self,
        target: &Target,
        weights: usize,
        [inputs, outputs]: [usize; 2],
    ) -> bool {
        let Core { l1, l2, .. } = target.core;
        if weights > l2 / 2 {
            return true;
        }
        if inputs + outputs > l2 / 4 * 3 {
            return false;
        }
        let blocks = self.most_blocks(target);
        let panels = self.blocks.div_ceil(blocks);
        let tiles = self.rows * self.width.div_ceil(self.most_pixels(target, blocks));
        let carried = |bytes: usize, walks: usize| if bytes > l1 / 2 { bytes * walks } else { bytes };
        weights + carried(inputs, panels) < inputs + carried(weights, tiles)
    }

    /// Ways to cut, the cheapest first; of equal ones the largest tile. `weights_first`: the nest that is likely better.
    pub(super) fn ways(&self, target: &Target, weights_first: bool, tile: TileCost) -> Vec<Choice> {
        let mut ways = Vec::new();
        for blocks in (1..=self.most_blocks(target)).rev() {
            let rest = match self.blocks % blocks {
                0 => 0.0,
                rest => tile::least(&self.rows(target, rest, tile)).1,
            };
            for (pixels, row) in self.rows(target, blocks, tile) {
                let cost = (self.blocks / blocks) as f64 * row + rest;
                ways.push((Choice { blocks, pixels, weights_first }, cost));
            }
        }
        ways.sort_by(|a, b| a.1.total_cmp(&b.1));
        let bound = HOPELESS * ways[0].1;
        let mut ways: Vec<Choice> = ways.into_iter().take_while(|w| w.1 <= bound).map(|w| w.0).collect();
        ways.truncate(OFFERED);
        // The other nest, which is another only if both loops turn.
        if self.blocks > ways[0].blocks && self.rows * self.width > ways[0].pixels {
            ways.push(Choice { weights_first: !weights_first, ..ways[0] });
        }
        ways
    }

    /// A choice that fits, or why it does not.
    pub(super) fn check(&self, target: &Target, choice: Choice) -> Result<Choice, String> {
        let fits = (1..=self.most_blocks(target)).contains(&choice.blocks)
            && (1..=self.most_pixels(target, choice.blocks)).contains(&choice.pixels);
        let Choice { blocks, pixels, .. } = choice;
        if fits {
            return Ok(choice);
        }
        Err(format!(
            "a tile of {pixels} pixels by {blocks} blocks of channels does not fit this layer on {target}"
        ))
    }

    /// The panels and strips of a choice. Where the last panel is smaller the cost model chooses its strips.
    pub(super) fn cut(&self, target: &Target, choice: Choice, tile: TileCost) -> Vec<(Panel, Vec<Strip>)> {
        let strips = |panel: Panel| {
            let pixels = if panel.blocks == choice.blocks {
                choice.pixels
            } else {
                tile::least(&self.rows(target, panel.blocks, tile)).0
            };
            (panel, tile::strips(self.width, pixels))
        };
        tile::panels(self.blocks, choice.blocks).into_iter().map(strips).collect()
    }

    /// What a choice for a layer depends on, as text.
    pub(super) fn key(&self, layer: &Layer, k: &[KLoop]) -> String {
        let (x, y) = (&layer.x.layout, &layer.y.layout);
        let k: Vec<String> = k.iter().map(|l| format!("{}:{}", l.extent, l.x)).collect();
        format!(
            "{:?} images {} groups {} channels {} pixels {}x{} from {}:{} k {} to {}:{} {:?}",
            self.dot,
            x.shape[0],
            layer.shape.groups,
            layer.shape.co,
            self.rows,
            self.width,
            x.row(),
            x.pixel(),
            k.join(","),
            y.row(),
            y.pixel(),
            layer.finish,
        )
    }
}

/// Costs of tiles by what they depend on.
#[derive(Default)]
pub(in crate::lower) struct TileCosts(HashMap<(Dot, Finish, Vec<usize>, [usize; 4]), f64>);

impl TileCosts {
    /// Of a kernel, but for what it asks for ahead and the strides of its loops. `far`: the layer's outputs do not fit the second-level cache.
    pub(super) fn of(&mut self, spec: &Spec, far: bool) -> f64 {
        let k = spec.k.iter().map(|l| l.extent).collect();
        // Where pixels lie without gaps they are stored together.
        let key = (spec.dot, spec.finish, k, [spec.pixels, spec.vectors, spec.y_step, spec.store]);
        let steps: usize = spec.k.iter().map(|l| l.extent).product();
        let kernel = *self.0.entry(key).or_insert_with(|| cost::kernel(&spec.kernel(), spec.target));
        kernel + steps as f64 * crowded(spec) + if far { pages(spec) } else { 0.0 }
    }
}

/// Cycles that each step of a tile's sums loses to lines that its pixels push out of the first-level cache: where they lie a power of two
/// apart, as maps of so many channels do, they share few of its sets.
fn crowded(spec: &Spec) -> f64 {
    const LINE: usize = 64;
    let core = &spec.target.core;
    let sets = core.l1 / (LINE * core.l1_ways);
    let mut lines: Vec<usize> = (0..spec.pixels).map(|p| p * spec.x_step / LINE).collect();
    lines.dedup();
    let mut held = vec![0; sets];
    lines.into_iter().for_each(|line| held[line % sets] += 1);
    let lost: usize = held.into_iter().filter(|&n| n > core.l1_ways).sum();
    lost as f64 * f64::from(core.l1_miss)
}

/// Cycles that a tile waits for outputs, and for what is added to them, that lie beyond the second-level cache: processors fetch ahead within
/// a page, so that the first line of each page that the tile's pixels lie on is waited for. Narrow tiles of many pixels touch many.
fn pages(spec: &Spec) -> f64 {
    const PAGE: usize = 4096;
    let of = |step: usize| (spec.pixels * step.min(PAGE)) as f64 / PAGE as f64;
    let residual = if spec.finish.residual() { of(spec.r_step) } else { 0.0 };
    (of(spec.y_step) + residual) * f64::from(spec.target.core.l3_wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which nest a layer of ResNet-50 gets, `dot` being of 4 channels or one. What each was measured to gain stands in the commit.
    fn weights_first(dot: Dot, [channels, outputs, rows, width]: [usize; 4], input: usize) -> bool {
        let target = Target::avx512vnni();
        let all = Extents { dot, blocks: outputs / BLOCK, rows, width };
        let size = if dot == Dot::F32 { 4 } else { 1 };
        all.weights_first(&target, channels * outputs * size, [input * size, rows * width * outputs * size])
    }

    #[test]
    fn weights_are_walked_once_unless_they_or_the_maps_are_small() {
        // The last stage: 1 MiB of weights, maps of 25 and 100 kB.
        assert!(weights_first(Dot::U8S8, [512, 2048, 1, 49], 49 * 512));
        // Weights that the first-level cache holds.
        assert!(!weights_first(Dot::U8S8, [64, 256, 1, 3136], 3136 * 64));
        // The same layer in float has maps of 4 MB: each panel would fetch them from beyond the second-level cache.
        assert!(!weights_first(Dot::F32, [64, 256, 1, 3136], 3136 * 64));
        // Weights as large as that cache cannot stay there for the next tile whatever the maps are.
        assert!(weights_first(Dot::F32, [512, 1024, 28, 28], 56 * 56 * 512));
    }
}
