//! Fusion held fixed: what it makes of known patterns (golden diffs with the report), that it never changes what a graph
//! computes (known patterns, random graphs, real models, whichever passes run), and that it refuses with a reason.

mod features;
mod models;
mod mxnet;
mod net;
mod passes;
mod random;

use qgraph_compiler::fuse::{Event, Options, PASSES, fuse_with};
use qgraph_compiler::graph::{Binary, Graph, Op, Tensor, ValueId, eval::eval, verify::verify};

/// Holds the diff of the text before and after fusion and the report fixed, and what [`fused`] holds, for each pair of passes
/// switched off too.
fn golden(name: &str, graph: &Graph) -> Graph {
    let (fused, events) = fused(graph);
    let known = Known::of(graph);
    for (k, first) in PASSES.iter().enumerate() {
        for second in &PASSES[..k] {
            known.without(&[first.name, second.name]);
        }
    }
    let events: String = events.iter().map(|e| format!("{e}\n")).collect();
    let text = format!("{}\n{events}", diff(&graph.to_string(), &fused.to_string()));
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, text) });
    fused
}

/// Fuses. With every pass, with each one switched off, and with none, the graph stays what it was to its caller.
fn fused(graph: &Graph) -> (Graph, Vec<Event>) {
    let known = Known::of(graph);
    for pass in PASSES {
        known.without(&[pass.name]);
    }
    let all: Vec<&str> = PASSES.iter().map(|p| p.name).collect();
    let (untouched, events) = known.without(&all);
    assert_eq!((untouched.to_string(), events), (graph.to_string(), vec![]));
    let (fused, events) = known.without(&[]);
    every_refusal_is_explained(&fused, &events);
    (fused, events)
}

/// What could have been part of the layer before it, and is not, is named among the declined.
fn every_refusal_is_explained(fused: &Graph, events: &[Event]) {
    let from_layer =
        |id: &ValueId| fused.producer(*id).is_some_and(|p| fused.nodes[p].op.epilogue().is_some());
    for node in &fused.nodes {
        let fusible = match node.op {
            Op::BatchNorm { .. } => true,
            Op::Unary(_) | Op::PRelu | Op::Binary(Binary::Add) => node.inputs.iter().any(from_layer),
            _ => false,
        };
        let names = |e: &&Event| e.node == node.name || e.message.contains(&node.name);
        assert!(
            !fusible || events.iter().filter(|e| !e.done).any(|e| names(&e)),
            "{}: {events:?}\n{fused}",
            node.name
        );
    }
}

/// A graph with what it gives for one random sample.
struct Known<'a> {
    graph: &'a Graph,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Known<'_> {
    fn of(graph: &Graph) -> Known<'_> {
        assert_eq!(verify(graph), [], "{graph}");
        let mut random = net::Random::new(7);
        let inputs: Vec<Tensor> = graph.inputs.iter().map(|&i| random.tensor(graph.shape(i), 1.0)).collect();
        let outputs = eval(graph, &inputs, &mut |_, _| {}).unwrap();
        Known { graph, inputs, outputs }
    }

    /// Fuses with the passes `off` switched off. They do nothing; the others settle, and change nothing that the caller sees.
    fn without(&self, off: &[&str]) -> (Graph, Vec<Event>) {
        let mut options = Options::default();
        off.iter().for_each(|name| options.set(name, false).unwrap());
        let fuse =
            |graph| fuse_with(graph, &options).unwrap_or_else(|e| panic!("without {off:?}: {e}\n{graph}"));
        let (fused, events) = fuse(self.graph);
        assert!(events.iter().all(|e| !off.contains(&e.pass)), "without {off:?}: {events:?}");
        let (again, more) = fuse(&fused);
        assert!(more.iter().all(|e| !e.done), "without {off:?}, a second time: {more:?}\n{fused}");
        assert_eq!(again, fused);
        self.is_computed_by(&fused, off);
        (fused, events)
    }

    /// The same inputs and outputs by name and shape, and the same results.
    fn is_computed_by(&self, after: &Graph, off: &[&str]) {
        let before = self.graph;
        assert_eq!(verify(after), [], "without {off:?}\n{after}");
        let border = |g: &Graph| -> Vec<(String, Vec<usize>)> {
            let ids = g.inputs.iter().chain(&g.outputs);
            ids.map(|&id| (g.value(id).name.clone(), g.shape(id).to_vec())).collect()
        };
        assert_eq!(border(before), border(after));
        let results = eval(after, &self.inputs, &mut |_, _| {}).unwrap();
        for (k, (a, b)) in self.outputs.iter().zip(results).enumerate() {
            let largest = a.data.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (i, (x, y)) in a.data.iter().zip(b.data.iter()).enumerate() {
                let close = (x - y).abs() <= 1e-4 * x.abs() + 1e-5 * largest || x.is_nan() && y.is_nan();
                assert!(
                    close,
                    "without {off:?}, output {k}, element {i}: {x} before, {y} after\n{before}\n{after}"
                );
            }
        }
    }
}

/// Lines that went with `-`, lines that came with `+`, lines that stayed with a blank (longest common subsequence).
fn diff(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let equal = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { 0 };
            common[i][j] = equal.max(common[i + 1][j]).max(common[i][j + 1]);
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, vec![]);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push(format!("  {}\n", a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("- {}\n", a[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}\n", b[j]));
            j += 1;
        }
    }
    lines.concat()
}
