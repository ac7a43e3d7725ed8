//! Calibration through the pipeline: MXNet's thresholds, collectors, the same profile on any number of threads.

use crate::support::{data_dir, hex, workspace_root};
use qgraph_compiler::calib::{Collector, Mode, Options, Profile, Range, entropy_threshold};
use qgraph_compiler::graph::{Graph, Tensor};
use qgraph_compiler::{onnx, pipeline};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What MXNet's own operator gave on seeded histograms. The minimum is flat and MXNet sums in f32: a threshold conforms if it is the same or
/// its divergence is no worse than MXNet's by more than 2 %.
#[test]
fn entropy_conforms_to_mxnet() {
    let Some(data) = data_dir() else { return };
    let path = data.join("../calibration/mxnet_entropy.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return;
    };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list of cases");
    assert!(cases.len() >= 14, "{} cases", cases.len());
    for case in &cases {
        let number = |key: &str| case[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
        let list = |key: &str| {
            case[key].as_array().unwrap_or_else(|| panic!("no {key}")).iter().map(|x| x.as_u64().unwrap())
        };
        let bins = number("bins") as usize;
        let mut counts = vec![0; bins];
        list("index").zip(list("count")).for_each(|(k, count)| counts[k as usize] = count);
        let found = entropy_threshold(&counts, number("quantized_bins") as usize);
        // The upper edge of the window's last bin.
        let threshold = (2 * found.reach + 1) as f64 * number("range") / bins as f64;
        let (theirs, least) = (number("mxnet_threshold"), number("mxnet_divergence"));
        println!(
            "{} {}: {threshold:.4} with {:.4e}, MXNet {theirs:.4} with {least:.4e}",
            case["name"], case["quantized_bins"], found.divergence
        );
        let same = (threshold - theirs).abs() <= 1e-4;
        assert!(same || found.divergence <= least * 1.02, "{}: {found:?}", case["name"]);
        if ["adversarial", "uniform"].contains(&case["name"].as_str().expect("a name")) {
            assert!(same, "{}: {threshold}", case["name"]);
        }
    }
}

/// The network of `qgraph demo`, fused.
fn demo() -> Graph {
    let bytes = std::fs::read(workspace_root().join("compiler/demo/digits.onnx")).expect("the demo network");
    let imported = onnx::import_bytes(&bytes, &onnx::Options::default()).expect("it imports");
    pipeline::fuse(&imported).expect("it fuses").0
}

/// Calibrates on the demo's digits, in their order or backwards.
fn calibrate(fused: &Graph, options: Options<'_, '_>, backwards: bool) -> Profile {
    let records =
        std::fs::read(workspace_root().join("compiler/demo/digits_calib.bin")).expect("the demo's digits");
    let mut digits: Vec<Vec<f32>> =
        records.chunks_exact(257).map(|r| r[1..].iter().map(|&p| f32::from(p) / 255.0).collect()).collect();
    if backwards {
        digits.reverse();
    }
    let mut samples = digits.into_iter().map(|d| Ok(vec![Tensor::new([1, 1, 16, 16], d)]));
    pipeline::calibrate(fused, &mut samples, options).expect("calibrates")
}

#[test]
fn profiles_do_not_depend_on_threads_and_order() {
    let fused = demo();
    let modes: [fn() -> Mode<'static>; 4] =
        [|| Mode::Naive, || Mode::Entropy, || Mode::Percentile(99.9), || Mode::Mse];
    let mut texts = Vec::new();
    for mode in modes {
        let one = calibrate(&fused, Options::new(mode()), false).to_text();
        let two = calibrate(&fused, Options::new(mode()).threads(2), true).to_text();
        assert_eq!(one, two);
        texts.push(one);
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 4, "modes differ");
}

/// SHA-256 of what calibration found; not of the graph it belongs to, nor of how often it ran.
fn digest(profile: &Profile) -> String {
    let text = format!("{:?} {:?}", profile.ranges, profile.channels);
    hex(&Sha256::digest(text))
}

#[test]
fn profiles_do_not_depend_on_how_samples_are_batched() {
    let bytes = std::fs::read(workspace_root().join("compiler/demo/digits.onnx")).expect("the demo network");
    let records = std::fs::read(workspace_root().join("compiler/demo/digits_calib.bin")).expect("digits");
    let digits: Vec<f32> = records
        .chunks_exact(257)
        .take(48)
        .flat_map(|r| r[1..].iter().map(|&p| f32::from(p) / 255.0))
        .collect();
    let digest = |batch: usize, threads: usize, mode: Mode<'_>| {
        let shapes = vec![("x".to_string(), vec![batch, 1, 16, 16])];
        let imported = onnx::import_bytes(&bytes, &onnx::Options { shapes }).expect("it imports");
        let fused = pipeline::fuse(&imported).expect("it fuses").0;
        let mut samples =
            digits.chunks_exact(256 * batch).map(|x| Ok(vec![Tensor::new([batch, 1, 16, 16], x)]));
        let options = Options::new(mode).threads(threads);
        digest(&pipeline::calibrate(&fused, &mut samples, options).expect("calibrates"))
    };
    for mode in [|| Mode::Mse, || Mode::Entropy, || Mode::Naive] {
        let one = digest(1, 1, mode());
        for (batch, threads) in [(1, 2), (2, 1), (4, 2), (48, 1)] {
            assert_eq!(one, digest(batch, threads, mode()), "{batch} a batch, {threads} threads");
        }
    }
}

/// The example of [`Collector`]: the mean of the samples' extremes.
#[derive(Default)]
struct MeanOfExtremes {
    seen: BTreeMap<String, [f32; 3]>,
    ops: BTreeMap<String, String>,
}

impl Collector for MeanOfExtremes {
    fn name(&self) -> &str {
        "mean of extremes"
    }

    fn include(&self, value: &str) -> bool {
        value.starts_with("relu") || value == "x"
    }

    fn collect(&mut self, value: &str, op: &str, tensor: &Tensor) {
        let fold = |f: fn(f32, f32) -> f32| tensor.data.iter().copied().fold(0.0, f);
        let [count, min, max] = self.seen.entry(value.into()).or_default();
        *count += 1.0;
        *min += fold(f32::min);
        *max += fold(f32::max);
        self.ops.insert(value.into(), op.into());
    }

    fn finish(&mut self) -> BTreeMap<String, Range> {
        let range = |[count, min, max]: &[f32; 3]| Range { min: min / count, max: max / count };
        self.seen.iter().map(|(name, seen)| (name.clone(), range(seen))).collect()
    }
}

#[test]
fn a_collector_decides_on_what_it_includes() {
    let fused = demo();
    let naive = calibrate(&fused, Options::new(Mode::Naive), false);
    let mut collector = MeanOfExtremes::default();
    let own = calibrate(&fused, Options::new(Mode::Custom(&mut collector)), false);
    assert_eq!(own.mode, "mean of extremes");
    let ops: Vec<&str> = ["x", "relu1", "relu4"].iter().map(|v| &collector.ops[*v][..]).collect();
    assert_eq!(ops, ["input", "conv", "conv"]);
    assert!(!collector.ops.contains_key("clip2"));
    for (name, range) in &own.ranges {
        let observed = naive.ranges[name];
        if name.starts_with("relu") {
            assert!(
                range.max < observed.max && range.max > observed.max / 8.0,
                "{name}: {range:?} {observed:?}"
            );
        } else if name != "x" {
            assert_eq!(*range, observed, "{name}");
        }
    }
    pipeline::quantize(&fused, &own, &Default::default()).expect("quantizes");
}
