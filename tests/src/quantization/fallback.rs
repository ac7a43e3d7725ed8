//! Layers that int8 breaks go to float, no others, until a limit of accuracy is met.

use super::net::{Net, profile, sample};
use qgraph_compiler::calib::{Profile, Range};
use qgraph_compiler::fallback::{Found, Image, Metric, Options, Progress};
use qgraph_compiler::graph::{self, *};
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::quant::{self, Equalize};
use qgraph_compiler::{Result, Stage, pipeline};

const IMAGES: u64 = 60;

/// Three convolutions, a dense layer, ten classes. What `wild` names got ranges of which the values fill a part of 2000: its readers see next to
/// nothing in int8.
fn network(wild: &[&str]) -> (Graph, Profile) {
    let mut net = Net::new(5);
    let mut x = net.input(&[1, 4, 8, 8]);
    for name in ["a", "b", "c"] {
        x = net.same(name, x, 8, 3, Some(Unary::Relu));
    }
    let flat = net.op("flat", Op::Reshape(vec![1, 512]), &[x]);
    let y = net.dense("fc", flat, 10, Epilogue::default());
    let graph = net.done(&[y]);
    let mut profile = profile(&graph);
    for name in wild {
        let range = profile.ranges.get_mut(*name).expect("a value");
        *range = Range { min: 0.0, max: 2000.0 * range.max };
    }
    (graph, profile)
}

/// Samples with the class that float gives them, or without any.
fn images(graph: &Graph, labelled: bool) -> Vec<Image> {
    let image = |seed| {
        let inputs = sample(graph, seed);
        let scores = graph::eval::eval(graph, &inputs, &mut |_, _| {}).expect("evaluates")[0].data.to_vec();
        let best = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        Image { inputs: inputs.iter().map(|t| t.data.to_vec()).collect(), label: best.filter(|_| labelled) }
    };
    (500..500 + IMAGES).map(image).collect()
}

/// What is found, and what was saved on the way.
fn search(
    (graph, profile): &(Graph, Profile),
    images: &[Image],
    options: Options<'_, '_>,
) -> (Result<Found>, Vec<QGraph>) {
    let mut saved = Vec::new();
    let mut save = |g: &QGraph| {
        saved.push(g.clone());
        Ok(())
    };
    let options = options.quantize(quant::Options::default().equalize(Equalize::Off)).save(&mut save);
    let mut open = || {
        let images: Vec<Result<Image>> = images.iter().cloned().map(Ok).collect();
        Ok(Box::new(images.into_iter()) as Box<dyn Iterator<Item = Result<Image>>>)
    };
    let found = pipeline::quantize_within(graph, profile, &mut open, options);
    (found, saved)
}

fn nodes(found: &Found) -> Vec<&str> {
    found.layers.iter().map(|l| &l.node[..]).collect()
}

#[test]
fn a_sound_network_stays_in_integers() {
    let net = network(&[]);
    let (found, saved) = search(&net, &images(&net.0, true), Options::new(20.0));
    let found = found.expect("searches");
    assert!(found.met && found.layers.is_empty() && found.tried == 1, "{found:?}");
    assert_eq!((found.metric, found.images, found.float), (Metric::Top1, IMAGES as usize, 100.0));
    assert!(saved == [found.graph.clone()] && found.int8 == found.graph);
}

#[test]
fn the_layers_that_int8_breaks_go_to_float() {
    for (wild, expected) in [(&["a"][..], &["b"][..]), (&["b", "c"], &["c", "fc"])] {
        let net = network(wild);
        for (labelled, metric, threads) in [(true, Metric::Top1, 1), (false, Metric::Agreement, 2)] {
            let mut seen = Vec::new();
            let mut progress = |p| seen.push(p);
            let options = Options::new(20.0).threads(threads).progress(&mut progress);
            let (found, saved) = search(&net, &images(&net.0, labelled), options);
            let found = found.expect("searches");
            assert!(found.met && found.metric == metric, "{found:?}");
            let mut nodes = nodes(&found);
            nodes.sort_unstable();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(nodes, expected);
            assert!(found.float - found.before > 20.0 && found.float - found.after <= 20.0, "{found:?}");
            // The first that was saved is int8 throughout, the last is the best.
            assert!(saved.len() >= 2 && saved[0] == found.int8 && saved.last() == Some(&found.graph));
            for node in nodes {
                let node = found.graph.nodes.iter().find(|n| n.name == node).expect("it is there");
                let reason = node.float_reason.as_deref().expect("a reason");
                assert!(reason.starts_with("for accuracy: alone in float it takes "), "{reason}");
            }
            assert_eq!(seen.iter().filter(|p| matches!(p, Progress::Tried { .. })).count(), found.tried);
            assert!(seen.contains(&Progress::Float(IMAGES as usize)));
            assert!(seen.contains(&Progress::Ranked { layers: 4, of: 4 }), "{seen:?}");
        }
    }
}

#[test]
fn the_best_is_kept_where_the_limit_is_not_met() {
    let net = network(&["a", "c"]);
    let all = images(&net.0, true);
    let (found, saved) = search(&net, &all, Options::new(0.0).max_float(1));
    let found = found.expect("searches");
    assert!(!found.met && found.after >= found.before, "{found:?}");
    assert_eq!(saved.last(), Some(&found.graph));
    let (none, _) = search(&net, &all, Options::new(0.0).max_float(0));
    let none = none.expect("searches");
    assert!(!none.met && none.layers.is_empty() && none.graph == none.int8, "{none:?}");
    // Without a bound, float meets any limit.
    let (found, _) = search(&net, &all, Options::new(0.0));
    let found = found.expect("searches");
    assert!(found.met && found.after >= 100.0, "{found:?}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let net = network(&["a"]);
    let good = images(&net.0, true);
    let refused = |images: &[Image], options| {
        let (found, saved) = search(&net, images, options);
        assert!(saved.is_empty());
        let e = found.expect_err("refuses");
        assert_eq!(e.stage, Stage::Quantize);
        e.to_string()
    };
    for limit in [-0.5, 101.0, f64::NAN] {
        assert!(refused(&good, Options::new(limit)).contains("is not between 0 and 100 points"));
    }
    assert!(refused(&[], Options::new(1.0)).contains("at least one"));
    let mut wrong = good.clone();
    wrong[3].label = Some(10);
    let e = refused(&wrong, Options::new(1.0));
    assert!(e.contains("image 4: its label is 10, but there are 10 classes"), "{e}");
    // A failure on the way: what was saved before stays.
    let mut saves = 0;
    let mut save = |_: &QGraph| {
        saves += 1;
        if saves == 2 { Err(qgraph_compiler::Error::new(Stage::File, "disk", "is full")) } else { Ok(()) }
    };
    let mut open = || {
        let images: Vec<Result<Image>> = good.iter().cloned().map(Ok).collect();
        Ok(Box::new(images.into_iter()) as Box<dyn Iterator<Item = Result<Image>>>)
    };
    let e = pipeline::quantize_within(&net.0, &net.1, &mut open, Options::new(1.0).save(&mut save));
    assert_eq!(e.expect_err("stops").to_string(), "file: disk: is full");
}
