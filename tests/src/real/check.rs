//! The road of one model: import, fuse, calibrate, quantize, compile, run; float against its references, int8 against float, engine against
//! engine.

use super::models::{Loss, MODELS, Model, Reference, Set, Truths};
use super::samples::{Sample, samples, top5};
use super::scores::{Noise, Score, best};
use crate::ort;
use crate::rust_backend::assert_programs;
use crate::support::{data_dir, engines, hex};
use qgraph_compiler::graph::{Graph, Tensor};
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Result, pipeline};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Samples of a set where there is no machine code to run it whole.
const FEW: usize = 12;

/// Checks everything about the model of this name.
pub(super) fn check(name: &str) {
    let Some(data) = data_dir() else { return };
    let model = MODELS.iter().find(|m| m.name == name).expect("the table has the model");
    let network = Network::new(data, model);
    let set = &model.sets[0];
    let sample = network.samples(set).find(|s| (set.int8)(s.index)).expect("a sample");
    network.float_agrees(&sample.input);
    network.engines_agree(&sample.input);
    for set in model.sets {
        network.score(set);
    }
}

/// A model on its way.
struct Network {
    data: PathBuf,
    model: &'static Model,
    naive: Graph,
    fused: Graph,
    float: QGraph,
    int8: QGraph,
}

/// The value, or a panic that says what failed.
#[track_caller]
fn good<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}

impl Network {
    fn new(data: PathBuf, model: &'static Model) -> Self {
        let path = data.join("models").join(format!("{}.onnx", model.name));
        let naive = good(pipeline::import(&path, &Default::default()));
        let (fused, _) = good(pipeline::fuse(&naive));
        let float = good(pipeline::float(&fused));
        let shape = fused.shape(fused.inputs[0]).to_vec();
        let (images, part) = model.calibration;
        // As the set that is scored, so that samples have the same places in both.
        let scored = model.sets.iter().find(|s| s.images == images);
        let truths = scored.map_or(Truths::Unknown, |s| s.truth);
        let tensor = |s: Sample| Ok(vec![Tensor::new(shape.clone(), s.input)]);
        let mut inputs =
            samples(&data, &model.input, images, truths, &shape).filter(|s| part(s.index)).map(tensor);
        let profile = good(pipeline::calibrate(&fused, &mut inputs, Default::default()));
        drop(inputs);
        let int8 = good(pipeline::quantize(&fused, &profile, &Default::default()));
        Network { data, model, naive, fused, float, int8 }
    }

    fn samples(&self, set: &Set) -> impl Iterator<Item = Sample> {
        let shape = self.fused.shape(self.fused.inputs[0]);
        samples(&self.data, &self.model.input, set.images, set.truth, shape)
    }

    /// Compiled float, of the network as imported and fused, gives what the evaluator gives for the network as imported.
    fn float_agrees(&self, input: &[f32]) {
        let tensor = Tensor::new(self.naive.shape(self.naive.inputs[0]), input);
        let expected = ort::evaluate(&self.naive, &[tensor]);
        for (road, float) in [("naive", &good(pipeline::float(&self.naive))), ("fused", &self.float)] {
            let found = good(runner(float).run(&[input.to_vec()])).to_vec();
            for (found, expected) in found.iter().zip(&expected) {
                ort::assert_network(found, &expected.data, &format!("{}: {road} compiled", self.model.name));
            }
        }
    }

    /// Every engine gives the same bits for int8.
    fn engines_agree(&self, input: &[f32]) {
        let inputs = [input.to_vec()];
        let digest = |outputs: engines::Outputs| {
            let mut hash = Sha256::new();
            outputs.iter().flatten().for_each(|bits| hash.update(bits.to_le_bytes()));
            hex(&hash.finalize())
        };
        let expected = digest(engines::evaluate(&self.int8, &inputs));
        let engines = engines::engines(&self.int8, &Options::default());
        for (name, engine) in &engines {
            let found = digest(engines::run(&**engine, &inputs));
            assert_eq!(found, expected, "{}: {name} differs from the evaluator", self.model.name);
        }
        assert_programs(self.model.name, &self.int8, &inputs);
        if !has_jit() {
            println!("skipped: {}: machine code, for this CPU has no AVX2", self.model.name);
        }
    }

    /// Float on a whole set against its references, int8 against float.
    fn score(&self, set: &Set) {
        let Model { name, loss, agreement, sqnr, .. } = self.model;
        let (mut float, mut int8) = (runner(&self.float), runner(&self.int8));
        let references = References::open(&self.data, name, set);
        let mut whole = Score::default();
        // Of the samples that int8 is scored on.
        let (mut scores, mut noise) =
            ([Score::default(), Score::default()], vec![Noise::default(); sqnr.len()]);
        let (mut same, mut scored, mut count, mut unlike) = (0, 0, 0, 0);
        let limit = set.first.min(if has_jit() { usize::MAX } else { FEW });
        for sample in self.samples(set).take(limit) {
            let input = [sample.input];
            let real = good(float.run(&input)).to_vec();
            unlike += references.check(sample.index, &real[0]);
            whole.add(&sample.truth, &real);
            count += 1;
            if (set.int8)(sample.index) {
                let ours = good(int8.run(&input));
                scores[0].add(&sample.truth, &real);
                scores[1].add(&sample.truth, ours);
                noise.iter_mut().zip(real.iter().zip(ours)).for_each(|(n, (r, o))| n.add(r, o));
                same += usize::from(best(&real[0]) == best(&ours[0]));
                scored += 1;
            }
        }
        let (figures, [before, after]) = (whole.figures(), scores.map(|s| s.figures()));
        let db: Vec<f64> = noise.iter().map(Noise::db).collect();
        let same = same as f64 / scored as f64;
        println!(
            "{name} on {count} of {}: float {figures:.4?}, on {scored}: float {before:.4?} int8 {after:.4?} \
             agreement {same:.4} SQNR {db:.1?} dB",
            set.name
        );
        // A tie or a rounding may turn one answer.
        assert!(unlike <= 1, "{name} on {}: {unlike} classes differ from ONNX Runtime's", set.name);
        if !has_jit() {
            println!("skipped: {name}: figures of whole sets, for this CPU has no AVX2");
            return;
        }
        assert_eq!(figures.len(), set.float.len(), "{name} on {}", set.name);
        for (found, expected) in figures.iter().zip(set.float) {
            assert!((found - expected).abs() <= set.within, "{name}: float scores {found}, not {expected}");
        }
        if scored == 0 {
            return;
        }
        for (before, after) in before.iter().zip(&after) {
            let most = match *loss {
                Loss::Absolute(points) => points,
                Loss::Relative(share) => share * before,
            };
            assert!(before - after <= most + 1e-9, "{name}: int8 scores {after}, float {before}");
        }
        assert!(same >= *agreement, "{name}: int8 agrees with float on {same} only");
        for (db, least) in db.iter().zip(*sqnr) {
            assert!(db >= least, "{name}: {db:.1} dB");
        }
    }
}

/// Machine code runs here.
fn has_jit() -> bool {
    Engine::best(&Target::detect()) == Engine::Jit
}

/// The network on the fastest engine there is.
fn runner(graph: &QGraph) -> Runner {
    let target = Target::detect();
    good(Runner::new(graph, Engine::best(&target), &target, &Options::default()))
}

/// What ONNX Runtime gave for the samples of a set.
#[derive(Default)]
struct References {
    what: String,
    /// Outputs of the first samples.
    outputs: Vec<Vec<f32>>,
    /// Means over space of the outputs of the first samples.
    means: Vec<Vec<f32>>,
    /// Class of every sample.
    classes: Vec<usize>,
}

impl References {
    fn open(data: &Path, model: &str, set: &Set) -> Self {
        let file = |ending: &str| data.join("ref").join(format!("{model}.{}.{ending}", set.name));
        let read = |ending: &str| std::fs::read(file(ending)).unwrap_or_else(|e| panic!("{ending}: {e}"));
        let rows = |ending: &str, rows: usize| {
            let floats: Vec<f32> =
                read(ending).chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            floats.chunks_exact(floats.len() / rows).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let mut r = References { what: format!("{model} on {}", set.name), ..References::default() };
        for reference in set.references {
            match reference {
                Reference::First50 => r.outputs = rows("first50.f32", 50),
                Reference::Full1 => r.outputs = rows("first1_full.f32", 1),
                Reference::Means50 => r.means = rows("first50_gap.f32", 50),
                Reference::Top1 => r.classes = read("top1.u8").into_iter().map(usize::from).collect(),
                Reference::Top5 => {
                    r.classes = top5(&file("top5.csv")).into_iter().map(|row| row[0]).collect()
                }
            }
        }
        r
    }

    /// Checks an output; gives 1 if its class is another.
    fn check(&self, index: usize, output: &[f32]) -> usize {
        let what = || format!("{}, sample {index}", self.what);
        if let Some(expected) = self.outputs.get(index) {
            ort::assert_network(output, expected, &what());
        }
        if let Some(expected) = self.means.get(index) {
            let area = output.len() / expected.len();
            let mean = |map: &[f32]| map.iter().sum::<f32>() / area as f32;
            let means: Vec<f32> = output.chunks_exact(area).map(mean).collect();
            ort::assert_network(&means, expected, &what());
        }
        usize::from(self.classes.get(index).is_some_and(|&class| class != best(output)))
    }
}
