//! The real models: each has an integer graph, and on real images it answers as the float graph does. Calibrated and run by the
//! evaluators; the compiled engines are compared with these elsewhere.

use super::net::sqnr;
use crate::support::data_dir;
use qgraph_compiler::calib;
use qgraph_compiler::data::{Input, Options, Pick, Samples};
use qgraph_compiler::graph::{Graph, Tensor};
use qgraph_compiler::preprocess::{ChannelOrder, Preprocess};
use qgraph_compiler::qgraph::eval::{Data, eval};
use qgraph_compiler::{fuse, onnx, quant};
use std::path::Path;

/// ImageNet's mean and standard deviation, in units of bytes.
const IMAGENET: ([f32; 3], [f32; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
/// The same for CIFAR-10 as Gluon has it.
const GLUON: ([f32; 3], [f32; 3]) = ([125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255]);

/// A model with the images it is for.
struct Case {
    model: &'static str,
    images: &'static str,
    normalize: ([f32; 3], [f32; 3]),
    order: ChannelOrder,
    crop: Option<u32>,
    /// Images to calibrate on, images to compare on.
    samples: (usize, usize),
    /// Least share of equal best answers; 0 for models that do not classify.
    agreement: f64,
    /// Least signal to noise ratio of all outputs in decibels.
    decibels: f64,
}

fn case(model: &'static str, images: &'static str, normalize: ([f32; 3], [f32; 3])) -> Case {
    let crop = images.starts_with("imagenet").then_some(224);
    Case {
        model,
        images,
        normalize,
        order: ChannelOrder::Rgb,
        crop,
        samples: (16, 16),
        agreement: 0.0,
        decibels: 10.0,
    }
}

fn flat(mean: f32, std: f32) -> ([f32; 3], [f32; 3]) {
    ([mean; 3], [std; 3])
}

fn fused(path: &Path) -> Graph {
    let graph = onnx::import(path, &onnx::Options::default()).unwrap_or_else(|e| panic!("{e}"));
    fuse::fuse(&graph).unwrap_or_else(|e| panic!("{e}")).0
}

fn run(case: &Case) {
    let Some(dir) = data_dir() else { return };
    let graph = fused(&dir.join("models").join(case.model));
    let float = quant::float(&graph).unwrap_or_else(|e| panic!("{}: {e}", case.model));
    let input = graph.value(graph.inputs[0]);
    let channels = input.shape[1];
    let preprocess = Preprocess {
        order: case.order,
        mean: case.normalize.0[..channels].to_vec(),
        std: case.normalize.1[..channels].to_vec(),
        crop: case.crop,
        ..Preprocess::default()
    };
    let open = |pick| {
        let inputs = vec![Input { name: input.name.clone(), shape: input.shape.clone() }];
        let options = Options { inputs, preprocess: preprocess.clone(), pick, labels: None };
        let spec = dir.join("images").join(case.images);
        Samples::open(&spec.to_string_lossy(), &options).unwrap_or_else(|e| panic!("{e}"))
    };
    let mut samples = open(Pick::Spread(case.samples.0))
        .map(|s| s.map(|s| s.inputs.into_iter().map(|d| Tensor::new(input.shape.clone(), d)).collect()));
    let mut show = |x: &[Tensor], see: &mut dyn FnMut(&str, &[f32])| {
        let x: Vec<Vec<f32>> = x.iter().map(|t| t.data.to_vec()).collect();
        let mut see = |name: &str, d: &Data| match d {
            Data::F32(d) => see(name, d),
            Data::U8(_) => unreachable!("a float graph"),
        };
        eval(&float, &x, &mut see).map(|_| ())
    };
    let profile = calib::calibrate(&graph, &mut samples, &mut show, Some(preprocess.clone()), &mut |_| {})
        .unwrap_or_else(|e| panic!("{}: {e}", case.model));
    let q = quant::quantize(&graph, &profile).unwrap_or_else(|e| panic!("{}: {e}", case.model));
    assert_eq!(q.preprocess, Some(preprocess.clone()));

    let (mut same, mut right, mut count) = (0, [0, 0], 0);
    let (mut real, mut ours) = (vec![], vec![]);
    for s in open(Pick::Spread(case.samples.1)) {
        let s = s.unwrap_or_else(|e| panic!("{e}"));
        let a = eval(&float, &s.inputs, &mut |_, _| {}).expect("evaluates").concat();
        let b = eval(&q, &s.inputs, &mut |_, _| {}).expect("evaluates").concat();
        let [x, y] = [&a, &b].map(|v| (0..v.len()).max_by(|&i, &j| v[i].total_cmp(&v[j])));
        same += usize::from(x == y);
        right[0] += usize::from(x == s.label);
        right[1] += usize::from(y == s.label);
        count += 1;
        real.extend(a);
        ours.extend(b);
    }
    let agreement = same as f64 / count as f64;
    let decibels = sqnr(&real, &ours);
    println!(
        "{}: {} of {count} right in float, {} in int8, {:.1} % agree, {decibels:.1} dB",
        case.model,
        right[0],
        right[1],
        100.0 * agreement
    );
    assert!(agreement >= case.agreement, "{}: {agreement}", case.model);
    assert!(decibels >= case.decibels, "{}: {decibels} dB", case.model);
}

#[test]
fn cifar() {
    const TEST: &str = "cifar10_test_jpeg.bin";
    for (model, normalize) in [
        ("cifar_resnet20.onnx", IMAGENET),
        ("gluon_cifar_resnet20_v1.onnx", GLUON),
        ("tiny_resnet8.onnx", flat(0.0, 1.0)),
        // Normalization and relu before the convolution.
        ("gluon_cifar_resnet56_v2.onnx", GLUON),
    ] {
        run(&Case { samples: (50, 100), agreement: 0.93, ..case(model, TEST, normalize) });
    }
}

#[test]
fn mnist() {
    let images = "mnist-t10k-images-idx3-ubyte.gz";
    run(&Case { samples: (50, 200), agreement: 0.97, ..case("mnist-8.onnx", images, flat(0.0, 1.0)) });
}

#[test]
fn imagenet() {
    let at = |model, normalize| Case {
        samples: (16, 24),
        agreement: 0.8,
        ..case(model, "imagenet_sample", normalize)
    };
    run(&at("squeezenet1.1.onnx", IMAGENET));
    run(&at("mobilenet_v2.onnx", IMAGENET));
    run(&at("mobilenet_v1_0.75_224.onnx", flat(127.5, 127.5)));
}

#[test]
fn others() {
    let coco = |model, normalize| Case { samples: (2, 2), ..case(model, "coco_val", normalize) };
    run(&Case { samples: (1, 1), ..case("resnet50v2_trunk.onnx", "imagenet_sample", IMAGENET) });
    run(&Case { samples: (20, 20), agreement: 0.9, ..coco("tiny_vww96.onnx", flat(0.0, 255.0)) });
    run(&coco("ultraface_rfb_320.onnx", flat(127.0, 128.0)));
    run(&coco("deeplabv3_mnv2_257.onnx", flat(127.5, 127.5)));
    run(&Case { order: ChannelOrder::Bgr, ..coco("yolox_nano.onnx", flat(0.0, 1.0)) });
    run(&Case { samples: (1, 1), ..case("ppocr_mobile_v1.1_det_640.onnx", "text", IMAGENET) });
}
