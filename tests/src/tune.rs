//! Choices of how layers are cut: they change the plan and never the bits; the file that keeps them, and files that are none.

use crate::support::engines::{evaluate, run};
use crate::support::random_graph::{ConvCase, Maker, random_graph, random_inputs};
use crate::support::temp_dir;
use proptest::prelude::*;
use qgraph_compiler::lower::{self, Choice, Choices, Options};
use qgraph_compiler::plan::interp::Interpreter;
use qgraph_compiler::plan::verify::verify;
use qgraph_compiler::qgraph::{QGraph, Window};
use qgraph_compiler::target::Target;
use qgraph_compiler::tune::{self, Cache, Machine};
use std::fs;
use std::sync::Arc;

/// A layer of several panels and tiles, and a pointwise one behind it.
fn network() -> QGraph {
    let mut m = Maker::new(3);
    let x = m.input(&[1, 24, 15, 17]);
    let case = |channels, kernel: usize| ConvCase {
        channels,
        outputs: 112,
        groups: 1,
        window: Window { kernel: [kernel; 2], strides: [1; 2], dilations: [1; 2], pads: [kernel / 2; 4] },
        residual: kernel == 1,
        to_float: false,
        sane: true,
    };
    let a = m.conv(x, &case(24, 3), None).expect("it fits");
    let b = m.conv(a, &case(112, 1), Some(a)).expect("it fits");
    m.finish(&[a, b])
}

fn choices(layers: impl IntoIterator<Item = (String, Choice)>) -> Choices {
    Choices { source: "a test".into(), layers: layers.into_iter().collect() }
}

/// Checks every candidate of every layer, and some that the cost model would not think of.
fn check(graph: &QGraph, target: &Target, batch: usize) -> usize {
    let plain = Options { batch, ..Options::default() };
    let (plan, tunables) = lower::tunable(graph, target, &plain).expect("it schedules");
    let inputs: Vec<_> = (0..batch as u64).map(|k| random_inputs(graph, k)).collect();
    let expected: Vec<_> = inputs.iter().map(|x| evaluate(graph, x)).collect();
    let image = |k: usize| inputs.iter().flat_map(move |x| x[k].clone());
    let together: Vec<Vec<f32>> = (0..graph.inputs.len()).map(|k| image(k).collect()).collect();
    let mut others = 0;
    for round in 0..8 {
        let pick = |t: &lower::Tunable| {
            let of = t.candidates[round % t.candidates.len()];
            let choice = if round == 7 { Choice { blocks: 1, pixels: 1, ..of } } else { of };
            (t.key.clone(), choice)
        };
        let options = Options { choices: choices(tunables.iter().map(pick)), ..plain.clone() };
        let other = lower::schedule(graph, target, &options).expect("a candidate fits");
        assert_eq!(verify(&other), vec![], "round {round}, {target}");
        assert_eq!(other.steps.len(), plan.steps.len());
        for t in &tunables {
            assert_eq!(other.steps[t.step].what, "conv");
        }
        assert!(round > 0 || other == plan, "the first candidate is the cost model's choice");
        others += usize::from(other != plan);
        let found = run(&Interpreter::new(Arc::new(other)).expect("it runs"), &together);
        for (k, found) in found.iter().enumerate() {
            let expected: Vec<u32> = expected.iter().flat_map(|e| e[k].clone()).collect();
            assert_eq!(found, &expected, "output {k}, round {round}, {target}");
        }
    }
    others
}

#[test]
fn choices_change_the_plan_and_no_bit() {
    for target in Target::ALL {
        assert!(check(&network(), &target, 1) >= 3, "{target}");
    }
    assert!(check(&network(), &Target::avx512vnni(), 3) >= 3);
    let others: usize = (0..12).map(|seed| check(&random_graph(seed, 8), &Target::avx2(), 1)).sum();
    assert!(others > 12, "{others} other plans");
}

#[test]
fn choices_that_do_not_fit_are_refused_with_their_source() {
    let target = Target::avx512vnni();
    let (_, tunables) = lower::tunable(&network(), &target, &Options::default()).unwrap();
    let good = tunables[0].candidates[0];
    let of = |choice| Options { choices: choices([(tunables[0].key.clone(), choice)]), ..Options::default() };
    for bad in [
        Choice { blocks: 0, ..good },
        Choice { pixels: 0, ..good },
        Choice { blocks: 5, ..good },
        Choice { pixels: 8, ..good },
        Choice { blocks: usize::MAX, pixels: usize::MAX, ..good },
    ] {
        let error = lower::schedule(&network(), &target, &of(bad)).unwrap_err().to_string();
        for part in ["schedule: conv", "does not fit this layer", "a test", "tune again"] {
            assert!(error.contains(part), "{bad:?}: {error}");
        }
    }
    // What no layer has is for another network.
    let other = Options { choices: choices([("another layer".into(), good)]), ..Options::default() };
    let plain = lower::schedule(&network(), &target, &Options::default());
    assert_eq!(lower::schedule(&network(), &target, &other), plain);
}

fn machine(cpu: &str) -> Machine {
    Machine { cpu: cpu.into(), ..Machine::here(&Target::avx2()) }
}

#[test]
fn a_file_keeps_the_choices_of_each_machine() {
    let dir = temp_dir("tune");
    let path = dir.join("new/folder/tune.json");
    let choice = |pixels| Choice { blocks: 2, pixels, weights_first: pixels % 2 == 0 };
    let (a, b) = (machine("a"), machine("b \"quoted\""));
    let mut cache = Cache::default();
    cache.add(&a, &choices([("x".into(), choice(1)), ("y".into(), choice(2))]));
    cache.save(&path).unwrap();
    let mut cache = Cache::load(&path).unwrap();
    cache.add(&b, &choices([("x".into(), choice(3))]));
    cache.add(&a, &choices([("y".into(), choice(4))]));
    cache.save(&path).unwrap();
    let found = Cache::load(&path).unwrap();
    assert_eq!(found, cache);
    assert_eq!(
        found.choices(&a, &path).layers,
        choices([("x".into(), choice(1)), ("y".into(), choice(4))]).layers
    );
    assert_eq!(found.choices(&b, &path).layers.len(), 1);
    assert!(found.choices(&b, &path).source.ends_with("tune.json"));
    let version = Machine { version: "0.0.0".into(), ..a };
    assert!(found.choices(&version, &path).layers.is_empty());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "something is left of writing");
}

#[test]
fn files_that_are_no_cache_are_refused() {
    let dir = temp_dir("hostile");
    let path = dir.join("tune.json");
    let mut cache = Cache::default();
    cache.add(&machine("a"), &choices([("x".into(), Choice { blocks: 2, pixels: 7, weights_first: true })]));
    cache.save(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Cache::load(&path).unwrap_err().to_string();
        assert!(error.starts_with("file: ") && error.contains("tune.json: is "), "{error}");
        assert!(error.contains("delete it, or name another file with --tune-cache"), "{error}");
    };
    for text in ["", "{}", "[]", "null", "\u{feff}", "{\"qgraph_tune_cache\": 1}", "\0\0\0"] {
        refused(text.as_bytes());
    }
    refused(&[0xff; 100]);
    refused("[".repeat(100_000).as_bytes());
    for (from, to) in [
        ("\"qgraph_tune_cache\": 1", "\"qgraph_tune_cache\": 2"),
        ("\"pixels\": 7", "\"pixels\": -7"),
        ("\"pixels\": 7", "\"pixels\": 1e99"),
        ("\"pixels\": 7", "\"pixels\": 99999999999999999999999"),
        ("\"pixels\": 7", "\"pixels\": 7, \"more\": 1"),
        ("true", "1"),
        ("\"blocks\": 2,", ""),
        ("\"cpu\"", "\"gpu\""),
    ] {
        assert!(good.contains(from), "{from} is not in {good}");
        refused(good.replace(from, to).as_bytes());
    }
    for end in [1, good.len() / 2, good.len() - 3] {
        refused(&good.as_bytes()[..end]);
    }
    let missing = Cache::load(&dir.join("none.json")).unwrap_err().to_string();
    assert!(
        missing.contains("none.json: no such tune cache") && missing.contains("bench --tune"),
        "{missing}"
    );
    let folder = Cache::load(dir.path()).unwrap_err().to_string();
    assert!(folder.contains("cannot be read as a tune cache"), "{folder}");
    let error = cache.save(dir.path()).unwrap_err().to_string();
    assert!(error.contains("cannot write"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_loading_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let dir = temp_dir("bytes");
        let path = dir.join("tune.json");
        let mut cache = Cache::default();
        cache.add(&machine("a"), &choices([("x".into(), Choice { blocks: 2, pixels: 7, weights_first: true })]));
        cache.save(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&path, &bytes).unwrap();
        if let Err(e) = Cache::load(&path) {
            prop_assert!(e.to_string().contains("tune.json"), "{e}");
        }
    }
}

#[test]
fn tuning_chooses_among_the_candidates() {
    let Some(target) = Target::ALL.into_iter().rfind(Target::native) else {
        println!("skipped: no machine code here");
        return;
    };
    let graph = network();
    let (_, tunables) = lower::tunable(&graph, &target, &Options::default()).unwrap();
    let mut progress = Vec::new();
    let tuned =
        tune::tune(&graph, &target, &Options::default(), 2, &mut |done, all| progress.push((done, all)))
            .unwrap();
    assert!(progress.is_sorted() && progress.last().is_some_and(|p| p.0 == p.1), "{progress:?}");
    assert_eq!(tuned.choices.layers.len(), tunables.len());
    for t in &tunables {
        assert!(t.candidates.len() > 1 && t.candidates.contains(&tuned.choices.layers[&t.key]), "{t:?}");
    }
    let options = Options { choices: tuned.choices, ..Options::default() };
    lower::schedule(&graph, &target, &options).expect("what was timed fits");
}
