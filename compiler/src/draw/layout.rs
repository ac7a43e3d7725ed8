//! Where boxes and lines go: layers from top to bottom, as Sugiyama, Tagawa and Toda draw hierarchies.
//!
//! In: sizes, and what reads what. Out: the middle of every box, and for every line the points it passes. In steps: a node's layer is the
//! longest way to it; a line that passes layers has a point in each, which lines from the same node share; the order within layers
//! is by the mean of neighbours, the one with the fewest crossings counts; places across are those that are nearest to the
//! neighbours' by least squares, with the distances kept.

/// Between boxes of a layer.
const GAP: f64 = 24.0;

/// Between layers.
const RISE: f64 = 26.0;

/// Passes over all layers, each way.
const SWEEPS: usize = 12;

/// A laid out graph, in pixels.
pub(super) struct Layout {
    /// Of every box: the middle.
    pub(super) centres: Vec<[f64; 2]>,
    /// In the order of nodes and of what each reads.
    pub(super) lines: Vec<Line>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A line between two boxes.
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) to: usize,
    /// How it passes the layers between them: the place across, from the layer's top to its bottom.
    pub(super) through: Vec<(f64, [f64; 2])>,
    /// Where it ends: the top of the lower box's layer.
    pub(super) top: f64,
    /// Where it begins: the bottom of the upper box's layer.
    pub(super) bottom: f64,
}

/// A box, or a point of a line.
struct Item {
    width: f64,
    layer: usize,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

impl Item {
    /// Lines keep straight, boxes give way.
    fn weight(&self) -> f64 {
        if self.width == 0.0 { 8.0 } else { 1.0 }
    }
}

struct Build {
    items: Vec<Item>,
    layers: Vec<Vec<usize>>,
}

/// Lays out boxes of the given widths and heights; `from[k]` are indices below `k`.
pub(super) fn layout(sizes: &[[f64; 2]], from: &[&[usize]]) -> Layout {
    let ranks = ranks(from);
    let count = ranks.iter().max().map_or(0, |r| r + 1);
    let mut b = Build { items: Vec::new(), layers: vec![Vec::new(); count] };
    for (size, &layer) in sizes.iter().zip(&ranks) {
        b.add(size[0], layer);
    }
    // Of every box, the points that lines from it have in the layers below.
    let mut chains: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
    for (to, from) in from.iter().enumerate() {
        for &f in *from {
            while chains[f].len() + 1 < ranks[to] - ranks[f] {
                let above = chains[f].last().copied().unwrap_or(f);
                let point = b.add(0.0, ranks[f] + chains[f].len() + 1);
                b.join(above, point);
                chains[f].push(point);
            }
            let passed = ranks[to] - ranks[f] - 1;
            b.join(if passed == 0 { f } else { chains[f][passed - 1] }, to);
        }
    }
    b.order();
    b.place();

    let height = |layer: &usize| {
        let boxes = (0..sizes.len()).filter(|&k| ranks[k] == *layer);
        boxes.map(|k| sizes[k][1]).fold(0.0, f64::max)
    };
    let mut tops = vec![RISE];
    for layer in 0..count {
        tops.push(tops[layer] + height(&layer) + RISE);
    }
    let bottom = |layer: usize| tops[layer + 1] - RISE;
    let left = b.items.iter().map(|i| i.x - i.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = b.items.iter().map(|i| i.x + i.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let x = |item: usize| b.items[item].x - left + GAP;
    let mut lines = Vec::new();
    for (to, from) in from.iter().enumerate() {
        for &f in *from {
            let passed = &chains[f][..ranks[to] - ranks[f] - 1];
            let through = passed.iter().map(|&p| {
                let layer = b.items[p].layer;
                (x(p), [tops[layer], bottom(layer)])
            });
            let through = through.collect();
            lines.push(Line { from: f, to, through, top: tops[ranks[to]], bottom: bottom(ranks[f]) });
        }
    }
    Layout {
        centres: (0..sizes.len()).map(|k| [x(k), (tops[ranks[k]] + bottom(ranks[k])) / 2.0]).collect(),
        lines,
        width: (right - left).max(0.0) + 2.0 * GAP,
        height: tops[count],
    }
}

/// The layer of every node: the longest way to it; what reads nothing stands just above its first reader.
fn ranks(from: &[&[usize]]) -> Vec<usize> {
    let mut ranks = vec![0; from.len()];
    for (k, from) in from.iter().enumerate() {
        ranks[k] = from.iter().map(|&f| ranks[f] + 1).max().unwrap_or(0);
    }
    let mut readers = vec![usize::MAX; from.len()];
    for (k, from) in from.iter().enumerate() {
        from.iter().for_each(|&f| readers[f] = readers[f].min(ranks[k]));
    }
    for (k, _) in from.iter().enumerate().filter(|(k, f)| f.is_empty() && readers[*k] != usize::MAX) {
        ranks[k] = readers[k] - 1;
    }
    ranks
}

impl Build {
    fn add(&mut self, width: f64, layer: usize) -> usize {
        let id = self.items.len();
        self.items.push(Item { width, layer, x: 0.0, above: Vec::new(), below: Vec::new() });
        self.layers[layer].push(id);
        id
    }

    fn join(&mut self, above: usize, below: usize) {
        self.items[above].below.push(below);
        self.items[below].above.push(above);
    }

    fn neighbours(&self, item: usize, down: bool) -> &[usize] {
        if down { &self.items[item].above } else { &self.items[item].below }
    }

    /// Layers in the order of a sweep; the first has nothing to go by.
    fn sweep(&self, down: bool) -> Vec<usize> {
        let all = 0..self.layers.len();
        if down { all.skip(1).collect() } else { all.rev().skip(1).collect() }
    }

    fn order(&mut self) {
        let (mut best, mut crossings) = (self.layers.clone(), self.crossings());
        for down in (0..2 * SWEEPS).map(|k| k % 2 == 0) {
            if crossings == 0 {
                break;
            }
            for layer in self.sweep(down) {
                let mut at = vec![0.0; self.items.len()];
                let all = self.layers.iter().flat_map(|l| l.iter().enumerate());
                all.for_each(|(k, &item)| at[item] = k as f64);
                let mean = |&item: &usize| {
                    let near = self.neighbours(item, down);
                    let sum: f64 = near.iter().map(|&n| at[n]).sum();
                    if near.is_empty() { at[item] } else { sum / near.len() as f64 }
                };
                let mut order = self.layers[layer].clone();
                order.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
                self.layers[layer] = order;
            }
            let now = self.crossings();
            if now < crossings {
                (best, crossings) = (self.layers.clone(), now);
            }
        }
        self.layers = best;
    }

    fn crossings(&self) -> usize {
        let mut at = vec![0; self.items.len()];
        self.layers.iter().for_each(|l| l.iter().enumerate().for_each(|(k, &item)| at[item] = k));
        let between = |layer: &Vec<usize>| {
            let ends = layer.iter().flat_map(|&a| self.items[a].below.iter().map(move |&b| (a, b)));
            let ends: Vec<(usize, usize)> = ends.map(|(a, b)| (at[a], at[b])).collect();
            let cross = |(k, a): (usize, &(usize, usize))| {
                ends[..k].iter().filter(|b| (a.0 < b.0) != (a.1 < b.1) && a.0 != b.0 && a.1 != b.1).count()
            };
            ends.iter().enumerate().map(cross).sum::<usize>()
        };
        self.layers.iter().map(between).sum()
    }

    fn place(&mut self) {
        for layer in 0..self.layers.len() {
            self.settle(layer, |_, _| 0.0);
        }
        for down in (0..2 * SWEEPS).map(|k| k % 2 == 0) {
            for layer in self.sweep(down) {
                self.settle(layer, |b, item| {
                    let near = b.neighbours(item, down);
                    let weight: f64 = near.iter().map(|&n| b.items[n].weight()).sum();
                    let sum: f64 = near.iter().map(|&n| b.items[n].weight() * b.items[n].x).sum();
                    if near.is_empty() { b.items[item].x } else { sum / weight }
                });
            }
        }
    }

    /// Puts the items of a layer as near as can be to where they want, by weighted least squares, in their order and with gaps: what a
    /// regression that only rises gives, when distances are taken off first.
    fn settle(&mut self, layer: usize, wants: impl Fn(&Build, usize) -> f64) {
        // Runs of items that stand at their least distances: weight, weighted sum, items.
        let mut runs: Vec<(f64, f64, usize)> = Vec::new();
        let (mut offsets, mut offset, mut before) = (Vec::new(), 0.0, None);
        for &item in &self.layers[layer] {
            let half = self.items[item].width / 2.0;
            offset += before.map_or(0.0, |b: f64| b + GAP + half);
            before = Some(half);
            offsets.push(offset);
            let weight = self.items[item].weight();
            runs.push((weight, weight * (wants(self, item) - offset), 1));
            while let [.., a, b] = runs[..]
                && a.1 / a.0 > b.1 / b.0
            {
                runs.truncate(runs.len() - 2);
                runs.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
            }
        }
        let places = runs.iter().flat_map(|r| std::iter::repeat_n(r.1 / r.0, r.2));
        for ((&item, place), offset) in self.layers[layer].iter().zip(places).zip(offsets) {
            self.items[item].x = place + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &[&[usize]]) -> Layout {
        layout(&vec![[80.0, 30.0]; from.len()], from)
    }

    #[test]
    fn a_chain_is_straight() {
        let l = of(&[&[], &[0], &[1]]);
        let [a, b, c] = l.centres[..] else { panic!() };
        assert!(a[0] == b[0] && b[0] == c[0] && a[1] < b[1] && b[1] < c[1]);
        assert_eq!(l.width, 80.0 + 2.0 * GAP);
    }

    #[test]
    fn a_line_passes_beside_what_it_skips() {
        // A residual: 0 → 1 → 2 → 3, and 0 → 3.
        let l = of(&[&[], &[0], &[1], &[2, 0]]);
        let skip = l.lines.iter().find(|l| (l.from, l.to) == (0, 3)).unwrap();
        assert_eq!(skip.through.len(), 2);
        for (point, k) in skip.through.iter().zip([1, 2]) {
            assert!((point.0 - l.centres[k][0]).abs() >= 40.0, "through a box");
            assert!(point.1[0] < l.centres[k][1] && l.centres[k][1] < point.1[1]);
        }
        // Straight, but for its ends.
        assert!((skip.through[0].0 - skip.through[1].0).abs() < 1.0);
    }

    #[test]
    fn boxes_keep_apart_and_lines_do_not_cross_for_nothing() {
        // Two branches, given crosswise: 1 and 2 read 0; 3 reads 2, 4 reads 1; 5 reads 4 and 3.
        let l = of(&[&[], &[0], &[0], &[2], &[1], &[4, 3]]);
        let side = |a: usize, b: usize| (l.centres[a][0] - l.centres[b][0]).signum();
        assert_eq!(side(1, 2), side(4, 3));
        for (a, b) in [(1, 2), (3, 4)] {
            assert!((l.centres[a][0] - l.centres[b][0]).abs() >= 80.0 + GAP - 1e-9);
        }
        assert!(l.centres.iter().all(|c| c[0] >= 40.0 && c[0] <= l.width - 40.0 && c[1] < l.height));
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let l = of(&[]);
        assert!(l.width.is_finite() && l.height.is_finite() && l.lines.is_empty());
        // What reads nothing stands above its reader.
        let l = of(&[&[], &[0], &[], &[1, 2]]);
        assert_eq!(l.centres[2][1], l.centres[1][1]);
    }
}
