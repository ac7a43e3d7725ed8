//! Which memory every value gets, before any kernel is chosen: views, concatenation in place, residuals in place, halos.
//!
//! In: an integer graph. Out: a [`Place`] per value and the storages behind them with their lifetimes. What holds: two values share bytes
//! only if one is dead when the other is written, or both hold the same elements, or they are channel slices of one concatenation.

use super::draft::{At, Base, Draft, Place};
use super::layout::{Halo, Layout};
use crate::plan::Space;
use crate::qgraph::{QGraph, QNode, QOp, QType, QValueId, Window};

/// Bytes of an element of this type.
pub(super) fn element_size(ty: QType) -> usize {
    match ty {
        QType::F32 => 4,
        QType::U8 { .. } => 1,
    }
}

/// What a window reads around a map of `input` pixels to make `output` pixels.
pub(super) fn window_halo(w: &Window, input: &[usize], output: &[usize]) -> Halo {
    let beyond = |axis: usize| {
        let reach = (output[2 + axis] - 1) * w.strides[axis] + (w.kernel[axis] - 1) * w.dilations[axis] + 1;
        reach.saturating_sub(w.pads[axis] + input[2 + axis])
    };
    Halo { top: w.pads[0], left: w.pads[1], bottom: beyond(0), right: beyond(1) }
}

/// What a node wants outside the map of its first input: the halo and the bits it is filled with.
pub(super) fn wanted_halo(graph: &QGraph, node: &QNode) -> Option<(Halo, u32)> {
    let (window, max) = match &node.op {
        QOp::Conv(c) => (&c.window, false),
        QOp::AvgPool { window, .. } => (window, false),
        QOp::MaxPool(window) => (window, true),
        _ => return None,
    };
    let x = graph.value(node.inputs[0]);
    let halo = window_halo(window, &x.shape, &graph.value(node.output).shape);
    let fill = match (x.ty, max) {
        (QType::U8 { .. }, true) => 0,
        (QType::U8 { zero_point, .. }, false) => u32::from_ne_bytes([zero_point; 4]),
        (QType::F32, true) => f32::NEG_INFINITY.to_bits(),
        (QType::F32, false) => 0,
    };
    (!halo.is_empty()).then_some((halo, fill))
}

/// Where values live.
pub(super) struct Memory {
    /// Per value; for a graph input its staged copy in the arena.
    pub(super) places: Vec<Place>,
    /// Per value: bits its halo is filled with when it is written, if it needs one.
    pub(super) fills: Vec<Option<u32>>,
    /// Per value: true if a graph input must be copied to its place.
    pub(super) staged: Vec<bool>,
    /// Per value: true if nothing overwrites it during a run.
    pub(super) lasting: Vec<bool>,
    /// First node that runs for all images of the batch at once; see [`super::batch`].
    pub(super) tail: usize,
    /// Bytes of an image in [`Space::Carried`].
    pub(super) carried_bytes: usize,
}

impl Memory {
    /// From here on nodes run for all images: what was carried over is seen with all of them.
    pub(super) fn enter_tail(&mut self, images: usize) {
        for place in self.places.iter_mut().filter(|p| p.base.base == Base::Fixed(Space::Carried)) {
            place.layout.shape[0] = images;
            place.layout.strides[0] = self.carried_bytes;
        }
    }
}

/// Values that share a storage: each value points to its parent and the byte where it starts in it.
struct Sharing {
    parent: Vec<Option<(usize, usize)>>,
    /// Number of values that share with this root.
    members: Vec<usize>,
    /// The root is the target of a concatenation: its slices are written at different times.
    sliced: Vec<bool>,
}

impl Sharing {
    fn root(&self, mut v: usize) -> (usize, usize) {
        let mut offset = 0;
        while let Some((p, o)) = self.parent[v] {
            v = p;
            offset += o;
        }
        (v, offset)
    }

    fn join(&mut self, child: usize, parent: usize, offset: usize) {
        self.parent[child] = Some((parent, offset));
        let root = self.root(parent).0;
        self.members[root] += self.members[child];
        self.sliced[root] |= self.sliced[child];
    }
}

struct Analysis<'a> {
    graph: &'a QGraph,
    /// Per value, the node that writes it; `None` for inputs.
    producer: Vec<Option<usize>>,
    /// Per value, the last node that reads it; the number of nodes for outputs.
    last: Vec<usize>,
    sharing: Sharing,
}

/// Decides the memory of every value for a batch of images. With `keep_values` nothing is shared or reused.
pub(super) fn assign(graph: &QGraph, batch: usize, keep_values: bool, draft: &mut Draft) -> Memory {
    let count = graph.values.len();
    let mut a = Analysis {
        graph,
        producer: vec![None; count],
        last: vec![0; count],
        sharing: Sharing { parent: vec![None; count], members: vec![1; count], sliced: vec![false; count] },
    };
    for (k, n) in graph.nodes.iter().enumerate() {
        a.producer[n.output.0 as usize] = Some(k);
        a.last[n.output.0 as usize] = k;
        n.inputs.iter().for_each(|i| a.last[i.0 as usize] = k);
    }
    for o in &graph.outputs {
        a.last[o.0 as usize] = graph.nodes.len();
    }
    if !keep_values {
        a.share_views();
        a.share_concats();
        a.share_in_place();
    }
    a.places(batch, keep_values, draft)
}

impl Analysis<'_> {
    fn shape(&self, v: usize) -> &[usize] {
        &self.graph.values[v].shape
    }

    fn esz(&self, v: usize) -> usize {
        element_size(self.graph.values[v].ty)
    }

    /// A value written by a node into arena memory (not an input, not a constant).
    fn computed(&self, v: usize) -> bool {
        self.producer[v].is_some_and(|n| !matches!(self.graph.nodes[n].op, QOp::Constant(_)))
    }

    fn reads_window(&self, v: usize) -> bool {
        self.graph
            .nodes
            .iter()
            .any(|n| n.inputs.first() == Some(&QValueId(v as u32)) && wanted_halo(self.graph, n).is_some())
    }

    /// Reshapes between [N, C] and [N, C, 1, 1] move nothing.
    fn share_views(&mut self) {
        for n in &self.graph.nodes {
            let (x, y) = (n.inputs.first().map_or(0, |i| i.0 as usize), n.output.0 as usize);
            let vector = |s: &[usize]| match *s {
                [n, c] | [n, c, 1, 1] => Some([n, c]),
                _ => None,
            };
            let same = vector(self.shape(x)).is_some() && vector(self.shape(x)) == vector(self.shape(y));
            let step = |v: usize| Layout::arena(self.shape(v), self.esz(v), Halo::default()).strides[0];
            let same_layout = same && (self.shape(x)[0] == 1 || step(x) == step(y));
            if n.op == QOp::Reshape
                && same_layout
                && self.computed(x)
                && !self.reads_window(x)
                && !self.reads_window(y)
            {
                self.sharing.join(y, x, 0);
            }
        }
    }

    /// Producers write straight into their slice of a concatenation over channels.
    fn share_concats(&mut self) {
        // Later concatenations first, so that one inside another finds its parent already placed.
        for n in self.graph.nodes.iter().rev() {
            if n.op != (QOp::Concat { axis: 1 }) || self.shape(n.output.0 as usize).len() != 4 {
                continue;
            }
            let y = n.output.0 as usize;
            let mut offset = 0usize;
            for (k, x) in n.inputs.iter().enumerate() {
                let x = x.0 as usize;
                let bytes = self.shape(x)[1] * self.esz(x);
                let aligned =
                    offset.is_multiple_of(16) && (bytes.is_multiple_of(16) || k + 1 == n.inputs.len());
                let alone = self.sharing.parent[x].is_none()
                    && (self.sharing.members[x] == 1 || self.sharing.sliced[x]);
                let once = n.inputs.iter().filter(|i| i.0 as usize == x).count() == 1;
                let output = self.graph.outputs.contains(&QValueId(x as u32));
                if aligned
                    && alone
                    && once
                    && !output
                    && self.computed(x)
                    && self.shape(y)[1] * self.esz(y) > 3
                {
                    self.sharing.join(x, y, offset);
                    self.sharing.sliced[y] = true;
                }
                offset += bytes;
            }
            if self.sharing.sliced[y] {
                let root = self.sharing.root(y).0;
                self.sharing.sliced[root] = true;
            }
        }
    }

    /// The result of an element-by-element node takes the place of an operand that dies there.
    fn share_in_place(&mut self) {
        for (k, n) in self.graph.nodes.iter().enumerate() {
            let y = n.output.0 as usize;
            let candidates: &[QValueId] = match &n.op {
                QOp::Conv(_) => &n.inputs[1..],
                QOp::Add { .. } | QOp::Mul { .. } | QOp::Binary { .. } => &n.inputs,
                QOp::Affine { .. } | QOp::Table(_) | QOp::Unary(_) | QOp::PRelu(_) => &n.inputs,
                QOp::Quantize
                | QOp::Dequantize
                | QOp::MaxPool(_)
                | QOp::AvgPool { .. }
                | QOp::Concat { .. } => &[],
                QOp::Slice(_) | QOp::Pad { .. } | QOp::Transpose(_) | QOp::Reshape | QOp::Constant(_) => &[],
                QOp::DepthToSpace { .. } | QOp::ResizeNearest { .. } | QOp::ResizeLinear { .. } => &[],
                QOp::Softmax { .. } | QOp::Lrn { .. } | QOp::Peak => &[],
            };
            if self.sharing.parent[y].is_some() || self.sharing.sliced[y] {
                continue;
            }
            let fit = candidates.iter().map(|r| r.0 as usize).find(|&r| {
                let root = self.sharing.root(r).0;
                let dies = (0..self.last.len()).all(|v| self.sharing.root(v).0 != root || self.last[v] <= k);
                // A convolution reads neighbours of its input: that one must stay.
                let read_apart =
                    matches!(n.op, QOp::Conv(_)) && self.sharing.root(n.inputs[0].0 as usize).0 == root;
                // An operand read by broadcast is needed beyond the element it lies under.
                let broadcast_alias = n.inputs.iter().any(|i| {
                    let i = i.0 as usize;
                    i != r && self.sharing.root(i).0 == root
                });
                dies && !read_apart
                    && !broadcast_alias
                    && self.computed(r)
                    && !self.sharing.sliced[root]
                    && self.shape(r) == self.shape(y)
                    && self.shape(root) == self.shape(y)
                    && self.esz(r) == self.esz(y)
            });
            if let Some(r) = fit {
                self.sharing.join(y, r, 0);
            }
        }
    }

    /// An output whose kernels can write dense row-major memory directly: f32, channels contiguous in the logical order too.
    fn writes_output(&self, root: usize) -> Option<usize> {
        let in_group = |v: usize| self.sharing.root(v).0 == root;
        let k = self.graph.outputs.iter().position(|o| in_group(o.0 as usize))?;
        let dense = |v: usize| {
            let s = self.shape(v);
            self.esz(v) == 4 && self.computed(v) && (s.len() != 4 || s[2] * s[3] == 1)
        };
        let once = self.graph.outputs.iter().filter(|o| in_group(o.0 as usize)).count() == 1;
        let read = |v: usize| {
            // Only a view of the group may read a member: everything else would read the output back.
            self.graph.nodes.iter().any(|n| {
                n.inputs.contains(&QValueId(v as u32))
                    && !(n.op == QOp::Reshape && in_group(n.output.0 as usize))
            })
        };
        let all = (0..self.last.len()).filter(|&v| in_group(v)).all(|v| dense(v) && !read(v));
        (once && all).then_some(k)
    }

    fn places(self, batch: usize, keep_values: bool, draft: &mut Draft) -> Memory {
        let g = self.graph;
        let count = g.values.len();
        let root = |v: QValueId| self.sharing.root(v.0 as usize).0;
        let view = |n: &QNode| root(n.inputs[0]) == root(n.output);
        let tail = if keep_values { g.nodes.len() } else { super::batch::tail(g, batch, view) };
        let mut carried_bytes = 0;
        let mut halos = vec![Halo::default(); count];
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); count];
        let mut fills = vec![None; count];
        let mut staged = vec![false; count];
        for n in &g.nodes {
            if let Some((halo, fill)) = wanted_halo(g, n) {
                let x = n.inputs[0].0 as usize;
                let root = self.sharing.root(x).0;
                halos[root] = halos[root].union(halo);
                wanted[root].push(fill);
                // Padding of a sum wins over padding of a maximum, which then makes its own padded copy.
                if !matches!(n.op, QOp::MaxPool(_)) || fills[x].is_none() {
                    fills[x] = Some(fill);
                }
            }
            if n.op != QOp::Quantize {
                for i in &n.inputs {
                    staged[i.0 as usize] |= g.inputs.contains(i);
                }
            }
        }
        // Slices of one storage must agree on the content of the common halo.
        for (v, fill) in fills.iter_mut().enumerate() {
            let root = self.sharing.root(v).0;
            let sum_fill =
                |w: &[u32]| w.iter().copied().find(|&f| f != 0 && f != f32::NEG_INFINITY.to_bits());
            if self.sharing.sliced[root]
                && fill.is_some()
                && wanted[root].iter().any(|&w| w != wanted[root][0])
            {
                let f32_fill = (g.values[v].ty == QType::F32).then_some(0);
                *fill = f32_fill.or(sum_fill(&wanted[root]));
            }
        }
        let mut storage = vec![None; count];
        // Per root, the first node that writes a member and the last that reads one.
        let mut lives = vec![(usize::MAX, 0); count];
        for v in 0..count {
            let (first, last) = &mut lives[self.sharing.root(v).0];
            *first = (*first).min(self.producer[v].unwrap_or(0));
            *last = (*last).max(self.last[v]);
        }
        let mut places = Vec::with_capacity(count);
        for v in 0..count {
            let (root, offset) = self.sharing.root(v);
            let direct = if keep_values { None } else { self.writes_output(root) };
            let (first, last) = if keep_values { (0, g.nodes.len()) } else { lives[root] };
            let images = |shape: &[usize]| {
                let mut shape = shape.to_vec();
                if let (true, Some(n)) = (first >= tail, shape.first_mut()) {
                    *n *= batch;
                }
                shape
            };
            let place = if let Some(k) = direct {
                let layout = Layout::dense(&images(self.shape(v)), self.esz(v));
                Place { base: At { base: Base::Fixed(Space::Output(k)), offset: 0 }, layout }
            } else {
                let whole = Layout::arena(&images(self.shape(root)), self.esz(root), halos[root]);
                let base = *storage[root].get_or_insert_with(|| {
                    if first < tail && last >= tail && tail < g.nodes.len() {
                        let offset = carried_bytes;
                        carried_bytes += whole.bytes.next_multiple_of(64);
                        return At { base: Base::Fixed(Space::Carried), offset };
                    }
                    At { base: Base::Storage(draft.storage(whole.bytes, first, last)), offset: 0 }
                });
                let mut layout = Layout::arena(&images(self.shape(v)), self.esz(v), halos[root]);
                layout.origin = whole.origin + offset;
                layout.strides = match (layout.strides.len(), whole.strides.len()) {
                    (2, 4) => whole.strides[..2].to_vec(),
                    (4, 2) => vec![whole.strides[0], whole.strides[1], whole.strides[0], whole.strides[0]],
                    _ => whole.strides,
                };
                Place { base, layout }
            };
            places.push(place);
        }
        Memory { places, fills, staged, lasting: vec![keep_values; count], tail, carried_bytes }
    }
}
