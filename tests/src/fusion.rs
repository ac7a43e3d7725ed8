//! Fusion held fixed: what it makes of known patterns (golden diffs with the report), that it never changes what a graph
//! computes (known patterns, random graphs, real models), and that it refuses with a reason.

mod models;
mod mxnet;
mod net;
mod passes;
mod random;

use qgraph_compiler::fuse::{Event, fuse};
use qgraph_compiler::graph::{Graph, Tensor, eval::eval, verify::verify};

/// Fuses, compares what both graphs compute, and holds the diff of their text and the report fixed.
fn golden(name: &str, graph: &Graph) -> Graph {
    let (fused, events) = fused(graph);
    let events: String = events.iter().map(|e| format!("{e}\n")).collect();
    let text = format!("{}\n{events}", diff(&graph.to_string(), &fused.to_string()));
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, text) });
    fused
}

/// Fuses and compares what both graphs compute.
fn fused(graph: &Graph) -> (Graph, Vec<Event>) {
    assert_eq!(verify(graph), [], "{graph}");
    let (fused, events) = fuse(graph).unwrap();
    same(graph, &fused);
    (fused, events)
}

/// Both graphs have the same inputs and outputs and compute the same on one random sample.
fn same(before: &Graph, after: &Graph) {
    assert_eq!(verify(after), [], "{after}");
    let border = |g: &Graph| -> Vec<(String, Vec<usize>)> {
        let ids = g.inputs.iter().chain(&g.outputs);
        ids.map(|&id| (g.value(id).name.clone(), g.shape(id).to_vec())).collect()
    };
    assert_eq!(border(before), border(after));
    let mut random = net::Random::new(7);
    let inputs: Vec<Tensor> = before.inputs.iter().map(|&i| random.tensor(before.shape(i), 1.0)).collect();
    if std::env::var_os("NOEVAL").is_some() {
        return;
    }
    let run = |g: &Graph| eval(g, &inputs, &mut |_, _| {}).unwrap();
    for (k, (a, b)) in run(before).iter().zip(run(after)).enumerate() {
        let largest = a.data.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (i, (x, y)) in a.data.iter().zip(b.data.iter()).enumerate() {
            let close = (x - y).abs() <= 1e-4 * x.abs() + 1e-5 * largest;
            assert!(close, "output {k}, element {i}: {x} before, {y} after\n{before}\n{after}");
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
