//! `cargo bench --bench kernels`: the steps of single layers, in machine code on this CPU, by the cycles that their kernels take.
//!
//! Each layer stands between a layer that gives it bytes and one that reads its bytes, as in a network; only its own step is counted.
//! Elements are multiply-accumulates, or output bytes where there are none. What is measured runs from warm caches.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qgraph_compiler::data::Random;
use qgraph_compiler::graph::{
    Binary, Conv, Epilogue, GlobalPool, Graph, Op, Pool, PoolKind, Tensor, Unary, ValueId,
};
use qgraph_compiler::jit::{Jit, Options, time_stamp};
use qgraph_compiler::plan::Plan;
use qgraph_compiler::target::Target;
use qgraph_compiler::{blob::Bytes, pipeline};
use qgraph_runtime::{Model, TensorMut, TensorRef};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The node that is measured.
const LAYER: &str = "layer";

/// A float graph in the making.
struct Net {
    graph: Graph,
    random: Random,
}

impl Net {
    fn constant(&mut self, name: String, shape: &[usize], amplitude: f32) -> ValueId {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| amplitude * self.random.uniform()).collect();
        self.graph.add_constant(name, Tensor::new(shape, data))
    }

    fn op(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        self.graph.add_node(name, op, inputs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn conv(&mut self, name: &str, x: ValueId, outputs: usize, window: Window) -> ValueId {
        let channels = self.graph.shape(x)[1];
        let groups = if window.depthwise { channels } else { 1 };
        let Window { kernel, stride, .. } = window;
        let fan_in = channels / groups * kernel * kernel;
        let weight = [outputs, channels / groups, kernel, kernel];
        let weight = self.constant(format!("{name}.w"), &weight, 1.7 / (fan_in as f32).sqrt());
        let bias = self.constant(format!("{name}.b"), &[outputs], 0.3);
        let epilogue = Epilogue { residual: false, activation: Some(Unary::Relu) };
        let conv = Conv {
            kernel: [kernel; 2],
            strides: [stride; 2],
            dilations: [1; 2],
            pads: [kernel / 2; 4],
            groups,
            epilogue,
        };
        self.op(name, Op::Conv(conv), &[x, weight, bias])
    }
}

/// A square window.
#[derive(Clone, Copy)]
struct Window {
    kernel: usize,
    stride: usize,
    depthwise: bool,
}

const fn window(kernel: usize, stride: usize) -> Window {
    Window { kernel, stride, depthwise: false }
}

const fn depthwise(kernel: usize, stride: usize) -> Window {
    Window { kernel, stride, depthwise: true }
}

/// What stands in the middle.
#[derive(Clone, Copy)]
enum Layer {
    Conv { outputs: usize, window: Window },
    Add,
    MaxPool,
    GlobalAverage,
}

/// Layers of ResNet-50, MobileNetV2 and SqueezeNet: name, channels and extent of the operand, what it is.
const LAYERS: [(&str, usize, usize, Layer); 14] = [
    ("first 7x7/2 3-64", 3, 224, Layer::Conv { outputs: 64, window: window(7, 2) }),
    ("3x3 64-64", 64, 56, Layer::Conv { outputs: 64, window: window(3, 1) }),
    ("3x3 512-512", 512, 7, Layer::Conv { outputs: 512, window: window(3, 1) }),
    ("3x3/2 128-128", 128, 56, Layer::Conv { outputs: 128, window: window(3, 2) }),
    ("1x1 256-64", 256, 56, Layer::Conv { outputs: 64, window: window(1, 1) }),
    ("1x1 2048-512", 2048, 7, Layer::Conv { outputs: 512, window: window(1, 1) }),
    ("1x1 16-96", 16, 112, Layer::Conv { outputs: 96, window: window(1, 1) }),
    ("1x1 144-24", 144, 56, Layer::Conv { outputs: 24, window: window(1, 1) }),
    ("dense 2048-1000", 2048, 1, Layer::Conv { outputs: 1000, window: window(1, 1) }),
    ("depthwise 3x3 32", 32, 112, Layer::Conv { outputs: 32, window: depthwise(3, 1) }),
    ("depthwise 3x3/2 144", 144, 56, Layer::Conv { outputs: 144, window: depthwise(3, 2) }),
    ("add 256", 256, 56, Layer::Add),
    ("max pool 3x3/2 64", 64, 112, Layer::MaxPool),
    ("global average 2048", 2048, 7, Layer::GlobalAverage),
];

/// The plan of a network around a layer.
fn plan([channels, extent]: [usize; 2], layer: Layer, target: &Target) -> qgraph_compiler::Result<Plan> {
    let mut net = Net { graph: Graph::new("bench"), random: Random::new(1) };
    // The first layer of a network reads the input itself.
    let x = net.graph.add_input("x", [1, channels.min(4), extent, extent]);
    let first = |net: &mut Net, name: &str| net.conv(name, x, channels, window(1, 1));
    let y = match layer {
        Layer::Conv { outputs, window } => {
            let x = if channels < 4 { x } else { first(&mut net, "before") };
            net.conv(LAYER, x, outputs, window)
        }
        Layer::Add => {
            // Products keep the addition from being fused into a convolution.
            let [a, b] = ["a", "b"].map(|name| first(&mut net, name));
            let [a, b] = [("aa", a), ("bb", b)].map(|(n, v)| net.op(n, Op::Binary(Binary::Mul), &[v, v]));
            net.op(LAYER, Op::Binary(Binary::Add), &[a, b])
        }
        Layer::MaxPool => {
            let x = first(&mut net, "before");
            let pool = Pool {
                kind: PoolKind::Max,
                kernel: [3; 2],
                strides: [2; 2],
                dilations: [1; 2],
                pads: [1, 1, 0, 0],
                output: [extent / 2; 2],
            };
            net.op(LAYER, Op::Pool(pool), &[x])
        }
        Layer::GlobalAverage => {
            let x = first(&mut net, "before");
            net.op(LAYER, Op::GlobalPool(GlobalPool::Average), &[x])
        }
    };
    let last = net.conv("after", y, 16, window(1, 1));
    net.graph.outputs = vec![last];
    let (fused, _) = pipeline::fuse(&net.graph)?;
    let noise = (0..channels.min(4) * extent * extent).map(|_| net.random.uniform()).collect::<Vec<_>>();
    let sample = Tensor::new([1, channels.min(4), extent, extent], noise);
    let profile = pipeline::calibrate(&fused, &mut std::iter::once(Ok(vec![sample])), Default::default())?;
    pipeline::schedule(
        &pipeline::quantize(&fused, &profile, &Default::default())?,
        target,
        &Default::default(),
    )
}

/// Time stamp counts per second.
fn ticks_per_second() -> f64 {
    let (start, from) = (Instant::now(), time_stamp());
    std::thread::sleep(Duration::from_millis(50));
    (time_stamp() - from) as f64 / start.elapsed().as_secs_f64()
}

fn kernels(c: &mut Criterion) {
    let ticks = ticks_per_second();
    for target in Target::ALL.iter().filter(|t| t.native()) {
        let mut group = c.benchmark_group(target.name);
        for (name, channels, extent, layer) in LAYERS {
            let plan =
                Arc::new(plan([channels, extent], layer, target).unwrap_or_else(|e| panic!("{name}: {e}")));
            let options = Options { profile: true, ..Options::default() };
            let jit = Jit::compile(Arc::clone(&plan), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            let input = vec![0.25; jit.input(0).len()];
            let mut output = vec![0.0; jit.output(0).len()];
            let mut arena = Bytes::zeroed(jit.arena_bytes());
            let steps: Vec<usize> =
                (0..plan.steps.len()).filter(|&k| plan.steps[k].layer.starts_with(LAYER)).collect();
            assert!(!steps.is_empty(), "{name}: no step is called {LAYER}:\n{plan}");
            let macs: u64 = steps.iter().map(|&k| plan.steps[k].macs).sum();
            let bytes = (channels * extent * extent) as u64;
            group.throughput(Throughput::Elements(if macs > 0 { macs } else { bytes }));
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter_custom(|runs| {
                    jit.take_cycles();
                    for _ in 0..runs {
                        let (input, output) = ([TensorRef::F32(&input)], &mut [TensorMut::F32(&mut output)]);
                        jit.run(&input, output, &mut arena).expect("the sizes are the model's own");
                    }
                    let cycles = jit.take_cycles().expect("compiled with a profile");
                    let spent: u64 = steps.iter().map(|&k| cycles[k]).sum();
                    Duration::from_secs_f64(spent as f64 / ticks)
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = kernels
}
criterion_main!(benches);
