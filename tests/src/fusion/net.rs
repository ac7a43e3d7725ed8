//! Writing small float graphs with seeded random weights.

use qgraph_compiler::graph::*;

/// A seeded generator (xorshift64*); the same numbers everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Uniform in −1..1.
    pub(super) fn number(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(super) fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.number() * scale).collect();
        Tensor::new(shape, data)
    }
}

/// A graph being written. Every method that adds a node names node and value alike.
pub(super) struct Net {
    pub(super) graph: Graph,
    random: Random,
}

impl Net {
    pub(super) fn new(name: &str) -> Self {
        Net { graph: Graph::new(name), random: Random::new(1 + name.len() as u64) }
    }

    pub(super) fn input(&mut self, shape: &[usize]) -> ValueId {
        let name =
            if self.graph.inputs.is_empty() { "x".into() } else { format!("x{}", self.graph.inputs.len()) };
        self.graph.add_input(name, shape)
    }

    pub(super) fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        self.graph.add_node(name, op, inputs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(super) fn constant(&mut self, name: &str, shape: &[usize], data: &[f32]) -> ValueId {
        self.graph.add_constant(name, Tensor::new(shape, data))
    }

    pub(super) fn random_constant(&mut self, name: &str, shape: &[usize], scale: f32) -> ValueId {
        let tensor = self.random.tensor(shape, scale);
        self.graph.add_constant(name, tensor)
    }

    /// A convolution with `kernel`×`kernel` taps, stride 1.
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        outputs: usize,
        kernel: usize,
        pad: usize,
    ) -> ValueId {
        self.conv_with(name, x, outputs, kernel, [pad; 4], 1)
    }

    pub(super) fn conv_with(
        &mut self,
        name: &str,
        x: ValueId,
        outputs: usize,
        kernel: usize,
        pads: [usize; 4],
        groups: usize,
    ) -> ValueId {
        let ci = self.graph.shape(x)[1] / groups;
        let scale = 1.0 / ((ci * kernel * kernel) as f32).sqrt();
        let w = self.random_constant(&format!("{name}.w"), &[outputs, ci, kernel, kernel], scale);
        let b = self.random_constant(&format!("{name}.b"), &[outputs], 0.5);
        let conv = Conv {
            kernel: [kernel; 2],
            strides: [1; 2],
            dilations: [1; 2],
            pads,
            groups,
            epilogue: Epilogue::default(),
        };
        self.node(name, Op::Conv(conv), &[x, w, b])
    }

    /// A transposed convolution, 2×2 taps, stride 2.
    pub(super) fn conv_transpose(
        &mut self,
        name: &str,
        x: ValueId,
        outputs: usize,
        groups: usize,
    ) -> ValueId {
        let c = self.graph.shape(x)[1];
        let w = self.random_constant(&format!("{name}.w"), &[c, outputs / groups, 2, 2], 0.5);
        let b = self.random_constant(&format!("{name}.b"), &[outputs], 0.5);
        let conv = ConvTranspose {
            kernel: [2; 2],
            strides: [2; 2],
            dilations: [1; 2],
            pads: [0; 4],
            output_padding: [0; 2],
            groups,
            epilogue: Epilogue::default(),
        };
        self.node(name, Op::ConvTranspose(conv), &[x, w, b])
    }

    pub(super) fn dense(&mut self, name: &str, x: ValueId, outputs: usize) -> ValueId {
        let k = *self.graph.shape(x).last().unwrap();
        let w = self.random_constant(&format!("{name}.w"), &[outputs, k], 1.0 / (k as f32).sqrt());
        let b = self.random_constant(&format!("{name}.b"), &[outputs], 0.5);
        self.node(name, Op::Dense(Epilogue::default()), &[x, w, b])
    }

    pub(super) fn batch_norm(&mut self, name: &str, x: ValueId) -> ValueId {
        let c = self.graph.shape(x)[1];
        let parameter = |net: &mut Net, role: &str, offset: f32| {
            let drawn = net.random.tensor(&[c], 0.5);
            let data: Vec<f32> = drawn.data.iter().map(|v| v + offset).collect();
            net.constant(&format!("{name}.{role}"), &[c], &data)
        };
        let gamma = parameter(self, "gamma", 1.0);
        let beta = parameter(self, "beta", 0.0);
        let mean = parameter(self, "mean", 0.0);
        let var = parameter(self, "var", 1.0);
        self.node(name, Op::BatchNorm { epsilon: 1e-5 }, &[x, gamma, beta, mean, var])
    }

    pub(super) fn unary(&mut self, name: &str, x: ValueId, unary: Unary) -> ValueId {
        self.node(name, Op::Unary(unary), &[x])
    }

    pub(super) fn relu(&mut self, name: &str, x: ValueId) -> ValueId {
        self.unary(name, x, Unary::Relu)
    }

    pub(super) fn binary(&mut self, name: &str, binary: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.node(name, Op::Binary(binary), &[a, b])
    }

    pub(super) fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.binary(name, Binary::Add, a, b)
    }

    /// x ∘ number.
    pub(super) fn by(&mut self, name: &str, binary: Binary, x: ValueId, number: f32) -> ValueId {
        let c = self.constant(&format!("{name}.c"), &[], &[number]);
        self.binary(name, binary, x, c)
    }

    /// A 3×3 pooling that keeps the extent.
    pub(super) fn pool(&mut self, name: &str, x: ValueId, kind: PoolKind) -> ValueId {
        self.pool_with(name, x, kind, [1; 4])
    }

    pub(super) fn pool_with(&mut self, name: &str, x: ValueId, kind: PoolKind, pads: [usize; 4]) -> ValueId {
        let shape = self.graph.shape(x);
        let output = [shape[2] + pads[0] + pads[2] - 2, shape[3] + pads[1] + pads[3] - 2];
        let pool = Pool { kind, kernel: [3; 2], strides: [1; 2], dilations: [1; 2], pads, output };
        self.node(name, Op::Pool(pool), &[x])
    }

    pub(super) fn average(&mut self, name: &str, x: ValueId) -> ValueId {
        self.pool(name, x, PoolKind::Average { count_include_pad: true })
    }

    pub(super) fn concat(&mut self, name: &str, axis: usize, inputs: &[ValueId]) -> ValueId {
        self.node(name, Op::Concat { axis }, inputs)
    }

    pub(super) fn reshape(&mut self, name: &str, x: ValueId, shape: &[usize]) -> ValueId {
        self.node(name, Op::Reshape(shape.to_vec()), &[x])
    }

    pub(super) fn flatten(&mut self, name: &str, x: ValueId) -> ValueId {
        let shape = self.graph.shape(x);
        let flat = [shape[0], shape[1..].iter().product()];
        self.reshape(name, x, &flat)
    }

    /// Zeros around the image.
    pub(super) fn pad(&mut self, name: &str, x: ValueId, around: usize, value: f32) -> ValueId {
        let pads = vec![(0, 0), (0, 0), (around, around), (around, around)];
        self.node(name, Op::Pad { pads, value }, &[x])
    }

    pub(super) fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}
