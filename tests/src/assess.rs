//! Which layers are said to be the worst, and how one keeps them in float.

use qgraph_compiler::assess::Assessment;
use qgraph_compiler::graph::{Conv, Epilogue, Graph, Op, Tensor, eval::eval};
use qgraph_compiler::{calib, quant};
use std::collections::HashMap;

/// x → convolution "it's" → "b" → "c" → softmax, quantized.
fn assessment() -> Assessment {
    let mut g = Graph::new("g");
    let mut x = g.add_input("x", [1, 2, 1, 2]);
    for name in ["it's", "b", "c"] {
        let w = g.add_constant("w", Tensor::new([2, 2, 1, 1], [1.0, -0.5, 0.25, 1.0]));
        let b = g.add_constant("b", Tensor::new([2], [0.0; 2]));
        let conv = Conv {
            kernel: [1, 1],
            strides: [1, 1],
            dilations: [1, 1],
            pads: [0; 4],
            groups: 1,
            epilogue: Epilogue::default(),
        };
        x = g.add_node(name, Op::Conv(conv), [x, w, b]).unwrap();
    }
    let y = g.add_node("y", Op::Softmax { axis: 1 }, [x]).unwrap();
    g.outputs = vec![y];
    let mut run = |inputs: &[Tensor], see: &mut dyn FnMut(&str, &[f32])| {
        eval(&g, inputs, &mut |name, t| see(name, &t.data)).map(|_| ())
    };
    let mut samples = std::iter::once(Ok(vec![Tensor::new([1, 2, 1, 2], [1.0, -1.0, 0.5, 0.0])]));
    let profile = calib::calibrate(&g, &mut samples, &mut run, calib::Options::default()).unwrap();
    let q = quant::quantize(&g, &profile, &quant::Options::default()).unwrap();
    Assessment::new(&g, &q)
}

#[test]
fn the_worst_add_most_noise_to_what_they_read() {
    let mut a = assessment();
    let values: Vec<String> = a.layers().iter().map(|l| l.value.clone()).collect();
    let exact: HashMap<String, Vec<f32>> =
        values.iter().map(String::as_str).chain(["x"]).map(|n| (n.to_string(), vec![1.0; 4])).collect();
    for name in &values {
        let error = match &name[..] {
            // The second has much noise, but not of its own.
            "it's" => 0.2,
            n if n.starts_with('b') => 0.2,
            "c" => 0.3,
            _ => 0.1,
        };
        a.add(&exact, name, &[1.0 + error; 4]);
    }
    let worst = a.worst(5);
    assert_eq!(a.exclude(&worst), "--exclude c --exclude 'it'\\''s'", "{a:?}");
    assert!((a.added_noise(worst[0]) - (0.09 - 0.04)).abs() < 1e-6);
    assert_eq!(a.worst(1), worst[..1]);
    // What converts the input stands for it.
    let first = &a.layers()[0];
    assert_eq!((&first.op[..], first.meter.count()), ("quantize", 4));
}

#[test]
fn nothing_measured_is_nothing_said() {
    let a = assessment();
    assert!(a.worst(5).is_empty() && a.exclude(&[]).is_empty());
    assert!((0..a.layers().len()).all(|k| a.added_noise(k) == 0.0));
}
