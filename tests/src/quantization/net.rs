//! Small float graphs with random weights, and the two comparisons that every test makes.

use qgraph_compiler::calib::{self, Profile};
use qgraph_compiler::graph::{self, *};
use qgraph_compiler::qgraph::{self, QGraph};
use qgraph_compiler::quant;

/// A graph in the making.
pub(super) struct Net {
    pub(super) graph: Graph,
    state: u64,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Net { graph: Graph::new("net"), state: seed.wrapping_mul(2) + 1 }
    }

    /// Uniform in −1..1.
    pub(super) fn random(&mut self) -> f32 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.state >> 40) as f32) / (1u32 << 23) as f32 - 1.0
    }

    pub(super) fn tensor(&mut self, shape: &[usize], amplitude: f32) -> Tensor {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.random() * amplitude).collect();
        Tensor::new(shape, data)
    }

    pub(super) fn input(&mut self, shape: &[usize]) -> ValueId {
        self.graph.add_input("x", shape)
    }

    pub(super) fn constant(&mut self, name: &str, shape: &[usize], amplitude: f32) -> ValueId {
        let t = self.tensor(shape, amplitude);
        self.graph.add_constant(name, t)
    }

    pub(super) fn op(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        self.graph.add_node(name, op, inputs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A convolution of `outputs` channels, its weights scaled so that the result is about as large as x.
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        outputs: usize,
        conv: Conv,
        residual: Option<ValueId>,
    ) -> ValueId {
        let c = self.graph.shape(x)[1] / conv.groups;
        let [kh, kw] = conv.kernel;
        let gain = 1.7 / ((c * kh * kw) as f32).sqrt();
        let w = self.constant(&format!("{name}.w"), &[outputs, c, kh, kw], gain);
        let b = self.constant(&format!("{name}.b"), &[outputs], 0.3);
        let inputs: Vec<ValueId> = [x, w, b].into_iter().chain(residual).collect();
        self.op(name, Op::Conv(conv), &inputs)
    }

    /// A k×k convolution that keeps the extents.
    pub(super) fn same(
        &mut self,
        name: &str,
        x: ValueId,
        outputs: usize,
        k: usize,
        act: Option<Unary>,
    ) -> ValueId {
        let mut c = conv(k, 1, k / 2);
        c.epilogue.activation = act;
        self.conv(name, x, outputs, c, None)
    }

    pub(super) fn transposed(
        &mut self,
        name: &str,
        x: ValueId,
        outputs: usize,
        conv: ConvTranspose,
    ) -> ValueId {
        let c = self.graph.shape(x)[1];
        let [kh, kw] = conv.kernel;
        let gain = 1.7 / ((c * kh * kw / conv.groups) as f32).sqrt();
        let w = self.constant(&format!("{name}.w"), &[c, outputs / conv.groups, kh, kw], gain);
        let b = self.constant(&format!("{name}.b"), &[outputs], 0.3);
        self.op(name, Op::ConvTranspose(conv), &[x, w, b])
    }

    pub(super) fn dense(&mut self, name: &str, x: ValueId, units: usize, epilogue: Epilogue) -> ValueId {
        let k = *self.graph.shape(x).last().expect("a matrix");
        let w = self.constant(&format!("{name}.w"), &[units, k], 1.7 / (k as f32).sqrt());
        let b = self.constant(&format!("{name}.b"), &[units], 0.3);
        self.op(name, Op::Dense(epilogue), &[x, w, b])
    }

    pub(super) fn batch_norm(&mut self, name: &str, x: ValueId) -> ValueId {
        let c = self.graph.shape(x)[1];
        let [gamma, beta, mean] = ["g", "b", "m"].map(|p| self.constant(&format!("{name}.{p}"), &[c], 1.0));
        let var: Vec<f32> = (0..c).map(|_| 0.6 + 0.5 * self.random()).collect();
        let var = self.graph.add_constant(format!("{name}.v"), Tensor::new([c], var));
        self.op(name, Op::BatchNorm { epsilon: 1e-5 }, &[x, gamma, beta, mean, var])
    }

    /// The finished graph with these outputs.
    pub(super) fn done(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        let problems = graph::verify::verify(&self.graph);
        assert!(problems.is_empty(), "{problems:?}");
        self.graph
    }
}

/// Geometry with a square window.
pub(super) fn conv(kernel: usize, stride: usize, pad: usize) -> Conv {
    Conv {
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1, 1],
        pads: [pad; 4],
        groups: 1,
        epilogue: Epilogue::default(),
    }
}

/// One random sample for each input.
pub(super) fn sample(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut net = Net::new(seed);
    graph.inputs.iter().map(|&i| net.tensor(graph.shape(i), 1.0)).collect()
}

/// The profile of a few random samples.
pub(super) fn profile(graph: &Graph) -> Profile {
    let mut samples = (100..104).map(|seed| Ok(sample(graph, seed)));
    let mut run = |inputs: &[Tensor], see: &mut dyn FnMut(&str, &[f32])| {
        graph::eval::eval(graph, inputs, &mut |name, t| see(name, &t.data)).map(|_| ())
    };
    calib::calibrate(graph, &mut samples, &mut run, calib::Options::new(calib::Mode::Naive))
        .unwrap_or_else(|e| panic!("{e}"))
}

/// The graph, quantized.
pub(super) fn quantized(graph: &Graph) -> QGraph {
    quant::quantize(graph, &profile(graph), &Default::default()).unwrap_or_else(|e| panic!("{e}\n{graph}"))
}

/// Outputs of both graphs on a sample that calibration has seen.
pub(super) fn both(graph: &Graph, q: &QGraph) -> Vec<(Vec<f32>, Vec<f32>)> {
    let x = sample(graph, 100);
    let real = graph::eval::eval(graph, &x, &mut |_, _| {}).expect("evaluates");
    let inputs: Vec<Vec<f32>> = x.iter().map(|t| t.data.to_vec()).collect();
    let ours = qgraph::eval::eval(q, &inputs, &mut |_, _| {}).expect("evaluates");
    assert_eq!(real.len(), ours.len());
    let names = graph.outputs.iter().zip(&q.outputs);
    for (a, b) in names {
        assert_eq!(graph.shape(*a), &q.value(*b).shape[..]);
    }
    real.into_iter().map(|t| t.data.to_vec()).zip(ours).collect()
}

/// Signal to noise ratio in decibels.
pub(super) fn sqnr(real: &[f32], ours: &[f32]) -> f64 {
    let power = |x: f64| x * x;
    let signal: f64 = real.iter().map(|&x| power(f64::from(x))).sum();
    let noise: f64 = real.iter().zip(ours).map(|(&a, &b)| power(f64::from(a) - f64::from(b))).sum();
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}

/// `float` computes what the float graph does.
pub(super) fn check_float(graph: &Graph) {
    let q = quant::float(graph).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    assert!(q.nodes.iter().all(|n| n.float_reason.is_none()));
    for (k, (real, ours)) in both(graph, &q).into_iter().enumerate() {
        let largest = real.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        for (i, (a, b)) in real.iter().zip(&ours).enumerate() {
            assert!((a - b).abs() <= 1e-5 * largest, "output {k}, element {i}: {a} and {b}\n{graph}\n{q}");
        }
    }
}

/// Both roads: float within rounding, integers within `decibels`. Gives the integer graph.
pub(super) fn check(graph: &Graph, decibels: f64) -> QGraph {
    check_float(graph);
    let q = quantized(graph);
    for (real, ours) in both(graph, &q) {
        let got = sqnr(&real, &ours);
        assert!(got >= decibels, "{got:.1} dB\n{graph}\n{q}");
    }
    q
}
