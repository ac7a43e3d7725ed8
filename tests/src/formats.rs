//! The formats of inputs: the same image as f32 in the network's order, as f32 in the order N, H, W, C, and as pixels gives the same bits on
//! every engine and target, in batches and on threads; and what is refused.

use crate::support::engines::{Outputs, engines, evaluate, run_on};
use crate::support::random_graph::{ConvCase, Maker, Rng};
use proptest::prelude::*;
use qgraph_compiler::lower::{self, InputFormat, Options};
use qgraph_compiler::preprocess::{ChannelOrder, InputLayout, Preprocess};
use qgraph_compiler::qgraph::{QGraph, QOp, QType, QValueId, Window};
use qgraph_compiler::runner::{Engine, Parallel, Runner};
use qgraph_compiler::target::Target;
use qgraph_runtime::functions::Unary;
use qgraph_runtime::{Dtype, Model, Pool, TensorRef, cpu};

/// What reads the input.
#[derive(Clone, Copy, Debug)]
enum Reader {
    /// A quantization, then a convolution with padding of its own.
    Conv,
    /// A quantization that is the last part of a concatenation.
    Concat,
    /// A function of floats; and a quantization.
    Both,
}

/// `images` images a run, of `c` channels.
fn network(m: &mut Maker, reader: Reader, p: &Option<Preprocess>, shape: [usize; 4]) -> Vec<QValueId> {
    let [n, c, h, w] = shape;
    let nhwc = p.as_ref().is_some_and(|p| p.layout == InputLayout::Nhwc);
    let given = if nhwc { [n, h, w, c] } else { shape };
    let mut outputs = Vec::new();
    let ty = m.any_type();
    let raw = m.b.add_input("image", &given);
    let mut x = m.node("quantize", QOp::Quantize, &[raw], &given, ty);
    if matches!(reader, Reader::Both) {
        outputs.push(m.node("relu", QOp::Unary(Unary::Relu), &[raw], &given, QType::F32));
    }
    if nhwc {
        x = m.node("transpose", QOp::Transpose(vec![0, 3, 1, 2]), &[x], &shape, ty);
    }
    let case = |channels, pad, to_float| ConvCase {
        channels,
        outputs: 16,
        groups: 1,
        window: Window { kernel: [2 * pad + 1; 2], strides: [1, 1], dilations: [1, 1], pads: [pad; 4] },
        residual: false,
        to_float,
        sane: true,
    };
    if matches!(reader, Reader::Concat) {
        let mut y = m.conv(x, &case(c, 1, false), None).expect("the window fits");
        // Parts of a concatenation have one type.
        let of_y = m.b.value(y).ty;
        let z = m.node("quantize", QOp::Quantize, &[raw], &given, of_y);
        if !nhwc {
            y = m.node("concat", QOp::Concat { axis: 1 }, &[y, z], &[n, 16 + c, h, w], of_y);
            outputs.push(m.conv(y, &case(16 + c, 0, true), None).expect("the window fits"));
            return outputs;
        }
        outputs.push(z);
    }
    outputs.push(m.conv(x, &case(c, 1, true), None).expect("the window fits"));
    outputs
}

fn preprocess(rng: &mut Rng, c: usize) -> Option<Preprocess> {
    let per_channel = |rng: &mut Rng, middle: f32, spread: f32| -> Vec<f32> {
        let n = if rng.one_in(3) { 1 } else { c };
        (0..n).map(|_| middle + spread * rng.unit()).collect()
    };
    let mut p = Preprocess {
        layout: rng.pick(&[InputLayout::Nchw, InputLayout::Nchw, InputLayout::Nhwc]),
        order: rng.pick(&[ChannelOrder::Rgb, ChannelOrder::Bgr]),
        mean: per_channel(rng, 120.0, 20.0),
        std: per_channel(rng, 58.0, 5.0),
        ..Preprocess::default()
    };
    match rng.below(6) {
        0 => return None,
        // No multiply-add gives these bytes.
        1 => (p.scale, p.std) = (2e38, vec![-3.0]),
        2 => (p.mean, p.std) = (vec![-33_554_432.0], vec![4e6]),
        3 => (p.scale, p.mean, p.std) = (1.0 / 255.0, vec![0.45], vec![0.225]),
        _ => {}
    }
    Some(p)
}

/// An image in the three formats.
struct Image {
    network: Vec<f32>,
    nhwc: Vec<f32>,
    pixels: Vec<u8>,
}

/// Pixels, and what [`Preprocess`] says of each.
fn image(rng: &mut Rng, p: &Preprocess, [n, c, h, w]: [usize; 4]) -> Image {
    let pixels: Vec<u8> = (0..n * h * w * c).map(|_| rng.below(256) as u8).collect();
    let value = |image: usize, at: usize, channel: usize| {
        let source = if p.order == ChannelOrder::Bgr { c - 1 - channel } else { channel };
        p.normalize(pixels[(image * h * w + at) * c + source], channel)
    };
    let (mut planes, mut nhwc) = (Vec::new(), Vec::new());
    for i in 0..n {
        planes.extend((0..c).flat_map(|k| (0..h * w).map(move |at| (at, k))).map(|(at, k)| value(i, at, k)));
        nhwc.extend((0..h * w).flat_map(|at| (0..c).map(move |k| (at, k))).map(|(at, k)| value(i, at, k)));
    }
    let network = if p.layout == InputLayout::Nhwc { nhwc.clone() } else { planes };
    Image { network, nhwc, pixels }
}

const FORMATS: [InputFormat; 3] = [InputFormat::F32, InputFormat::F32Nhwc, InputFormat::U8Nhwc];

/// Several images as one tensor of a format.
enum Batch {
    F32(Vec<f32>),
    U8(Vec<u8>),
}

impl Batch {
    fn new(images: &[Image], format: InputFormat) -> Batch {
        let floats = |of: fn(&Image) -> &Vec<f32>| Batch::F32(images.iter().flat_map(of).copied().collect());
        match format {
            InputFormat::F32 => floats(|i| &i.network),
            InputFormat::F32Nhwc => floats(|i| &i.nhwc),
            InputFormat::U8Nhwc => Batch::U8(images.iter().flat_map(|i| i.pixels.clone()).collect()),
        }
    }

    fn tensor(&self) -> TensorRef<'_> {
        match self {
            Batch::F32(x) => TensorRef::F32(x),
            Batch::U8(x) => TensorRef::U8(x),
        }
    }
}

fn graph(seed: u64, reader: Reader, p: Option<Preprocess>, shape: [usize; 4]) -> QGraph {
    let mut m = Maker::new(seed);
    m.b.set_preprocess(p.clone());
    let outputs = network(&mut m, reader, &p, shape);
    m.finish(&outputs)
}

/// What the evaluator gives of each image, joined.
fn expected(graph: &QGraph, images: &[Image]) -> Outputs {
    let alone: Vec<Outputs> =
        images.iter().map(|i| evaluate(graph, std::slice::from_ref(&i.network))).collect();
    (0..graph.outputs.len()).map(|k| alone.iter().flat_map(|a| a[k].clone()).collect()).collect()
}

fn bits(outputs: &[Vec<f32>]) -> Outputs {
    outputs.iter().map(|o| o.iter().map(|x| x.to_bits()).collect()).collect()
}

fn reader() -> impl Strategy<Value = Reader> {
    prop_oneof![Just(Reader::Conv), Just(Reader::Concat), Just(Reader::Both)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn formats_agree(
        seed in any::<u64>(), reader in reader(), colour in any::<bool>(), map in [1..12usize, 1..70usize], batch in 1..4usize, n in 1..3usize
    ) {
        let mut rng = Rng(seed);
        let shape = [n, if colour { 3 } else { 1 }, map[0], map[1]];
        let p = preprocess(&mut rng, shape[1]);
        let graph = graph(seed, reader, p.clone(), shape);
        let images: Vec<Image> =
            (0..batch).map(|_| image(&mut rng, &p.clone().unwrap_or_default(), shape)).collect();
        let expected = expected(&graph, &images);
        for format in FORMATS {
            let input = Batch::new(&images, format);
            for keep_values in [false, true] {
                let options = Options { batch, keep_values, input: format, ..Options::default() };
                for (name, model) in engines(&graph, &options) {
                    let found = run_on(&[input.tensor()], &*model, |x, y, arena| model.run(x, y, arena));
                    prop_assert!(found == expected, "{name} differs on {format:?} ({p:?})\n{graph}");
                }
            }
        }
    }

    #[test]
    fn channels_of_any_number_are_given_in_both_orders(seed in any::<u64>(), c in 1..40usize, map in [1..9usize, 1..40usize]) {
        let mut rng = Rng(seed);
        let shape = [1, c, map[0], map[1]];
        let graph = graph(seed, rng.pick(&[Reader::Conv, Reader::Concat, Reader::Both]), None, shape);
        let images = [image(&mut rng, &Preprocess::default(), shape)];
        let expected = expected(&graph, &images);
        for format in [InputFormat::F32, InputFormat::F32Nhwc] {
            let input = Batch::new(&images, format);
            for (name, model) in engines(&graph, &Options { input: format, ..Options::default() }) {
                let found = run_on(&[input.tensor()], &*model, |x, y, arena| model.run(x, y, arena));
                prop_assert!(found == expected, "{name} differs on {format:?}\n{graph}");
            }
        }
    }
}

/// Preprocessing as it is for most networks.
fn usual(order: ChannelOrder) -> Preprocess {
    Preprocess {
        order,
        mean: vec![123.675, 116.28, 103.53],
        std: vec![58.395, 57.12, 57.375],
        ..Preprocess::default()
    }
}

#[test]
fn threads_and_batch_tails_take_pixels() {
    let mut rng = Rng(5);
    for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
        for reader in [Reader::Conv, Reader::Both] {
            let shape = [1, 3, 33, 45];
            let graph = graph(9, reader, Some(usual(order)), shape);
            let images: Vec<Image> = (0..7).map(|_| image(&mut rng, &usual(order), shape)).collect();
            let mut engines = vec![(Engine::Interp, Target::portable())];
            if cpu::avx512_vnni() {
                engines.push((Engine::Jit, Target::avx512vnni()));
            }
            for ((engine, target), (threads, batch)) in
                engines.iter().flat_map(|e| [(1, 7), (2, 1), (2, 5), (3, 7), (4, 2)].map(|t| (e, t)))
            {
                let expected = expected(&graph, &images[..batch]);
                for format in FORMATS {
                    let options = Options { batch, input: format, ..Options::default() };
                    let model =
                        Parallel::new(&graph, *engine, target, &options, threads).expect("it compiles");
                    let input = Batch::new(&images[..batch], format);
                    let mut pool = Pool::new(threads).expect("threads");
                    let found =
                        run_on(&[input.tensor()], &model, |x, y, arena| model.run_on(&mut pool, x, y, arena));
                    assert!(
                        found == expected,
                        "{format:?}, {threads} threads, batch {batch}, {}",
                        engine.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_runner_takes_every_format_on_every_engine_and_says_what_it_wants() {
    let shape = [1, 3, 5, 7];
    let mut rng = Rng(3);
    let graph = graph(1, Reader::Both, Some(usual(ChannelOrder::Bgr)), shape);
    let images = [image(&mut rng, &usual(ChannelOrder::Bgr), shape)];
    let expected = expected(&graph, &images);
    let target = Target::detect();
    for engine in [Engine::Eval, Engine::Interp, Engine::best(&target)] {
        for format in FORMATS {
            let options = Options { input: format, ..Options::default() };
            let mut runner = Runner::new(&graph, engine, &target, &options).expect("it is ready");
            let found = runner.run_on(&[Batch::new(&images, format).tensor()]).expect("it runs");
            assert!(bits(found) == expected, "{format:?} on {}", engine.name());
            let refused = runner.run_on(&[TensorRef::U8(&[0; 104])]).unwrap_err().to_string();
            let dtype = if format == InputFormat::U8Nhwc { "u8" } else { "f32" };
            let text = format!("run: input 0 takes 105 x {dtype}, 104 x u8 was given (see input())");
            assert!(refused.contains(&text), "{refused}");
            let refused = runner.run_on(&[]).unwrap_err().to_string();
            assert!(refused.contains("the model has 1 inputs, 0 were given"), "{refused}");
        }
    }
}

#[test]
fn models_describe_what_they_take() {
    let graph = graph(1, Reader::Conv, None, [1, 3, 5, 7]);
    for (input, dtype, shape, bytes) in [
        (InputFormat::F32, Dtype::F32, [4, 3, 5, 7], 420),
        (InputFormat::F32Nhwc, Dtype::F32, [4, 5, 7, 3], 420),
        (InputFormat::U8Nhwc, Dtype::U8, [4, 5, 7, 3], 105),
    ] {
        let options = Options { batch: 4, input, ..Options::default() };
        let plan = lower::schedule(&graph, &Target::portable(), &options).expect("it is scheduled");
        let io = &plan.inputs[0];
        assert_eq!((io.dtype, &io.shape[..], io.image_bytes), (dtype, &shape[..], bytes));
        assert_eq!(lower::inputs(&graph, &options), Ok(plan.inputs.clone()));
    }
}

/// Pixels go straight to where the first convolution reads them, padding included.
#[test]
fn pixels_are_quantized_into_the_padded_map() {
    let graph = graph(1, Reader::Conv, Some(usual(ChannelOrder::Rgb)), [1, 3, 20, 30]);
    let options = Options { input: InputFormat::U8Nhwc, ..Options::default() };
    let plan = lower::schedule(&graph, &Target::avx512vnni(), &options).expect("it is scheduled");
    let steps: Vec<&str> = plan.steps.iter().map(|s| s.what).collect();
    assert_eq!(steps, ["fill halo", "quantize", "conv", "write output"], "{plan}");
    // One multiply-add is enough for these numbers: nothing is divided.
    assert!(!plan.to_string().contains("div_f32"), "{plan}");
}

#[test]
fn inputs_that_are_no_images_are_refused() {
    let refused = |graph: &QGraph, input| {
        let options = Options { input, ..Options::default() };
        let errors = [
            lower::schedule(graph, &Target::portable(), &options).unwrap_err().to_string(),
            Runner::new(graph, Engine::Eval, &Target::portable(), &options)
                .err()
                .expect("refused")
                .to_string(),
        ];
        assert_eq!(errors[0], errors[1]);
        errors[0].clone()
    };
    let mut m = Maker::new(0);
    let x = m.b.add_input("features", &[1, 10]);
    let y = m.node("relu", QOp::Unary(Unary::Relu), &[x], &[1, 10], QType::F32);
    let vector = m.finish(&[y]);
    for format in [InputFormat::F32Nhwc, InputFormat::U8Nhwc] {
        let text = "schedule: features: the shape [1, 10] is no image of four axes: give inputs as f32 in the order of the network";
        assert_eq!(refused(&vector, format), text);
    }
    let many = graph(1, Reader::Conv, None, [1, 4, 5, 7]);
    let text =
        "schedule: image: the shape [1, 4, 5, 7] has 4 channels, pixels have 1 or 3: give inputs as f32";
    assert_eq!(refused(&many, InputFormat::U8Nhwc), text);
    let wrong = Preprocess { mean: vec![1.0, 2.0], ..Preprocess::default() };
    let grey = graph(1, Reader::Conv, Some(wrong), [1, 1, 5, 7]);
    let text = "schedule: image: mean has 2 entries for 1 channels: give one, or one per channel";
    assert_eq!(refused(&grey, InputFormat::U8Nhwc), text);
}
