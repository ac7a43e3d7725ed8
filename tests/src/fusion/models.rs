//! Real models: what could fuse is fused or explained, and the smaller ones compute what they did.

use super::{Known, every_refusal_is_explained, fused};
use crate::support::data_dir;
use qgraph_compiler::fuse::fuse;
use qgraph_compiler::graph::{Graph, Op};
use qgraph_compiler::onnx::{Options, import};

/// The models by file name.
fn models() -> Option<Vec<(String, Graph)>> {
    let list = std::fs::read_dir(data_dir()?.join("models")).unwrap().map(|e| e.unwrap().path());
    let models = list.filter(|p| p.extension().is_some_and(|e| e == "onnx"));
    let open = |p: std::path::PathBuf| {
        let name = p.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, import(&p, &Options::default()).unwrap())
    };
    Some(models.map(open).collect())
}

#[test]
fn what_real_models_keep_is_explained() {
    let Some(models) = models() else { return };
    assert!(models.len() >= 15, "only {} models", models.len());
    for (name, graph) in models {
        let (fused, events) = fuse(&graph).unwrap();
        every_refusal_is_explained(&fused, &events);
        let left = |what: fn(&Op) -> bool| fused.nodes.iter().filter(|n| what(&n.op)).count();
        // Pre-activation networks: one for each block, whose sum the shortcut reads too, and the last.
        let batch_norms = match &name[..] {
            "gluon_cifar_resnet56_v2" => 29,
            "resnet50v2_trunk" => 15,
            _ => 0,
        };
        assert_eq!(left(|op| matches!(op, Op::BatchNorm { .. })), batch_norms, "{name}\n{fused}");
        assert_eq!(left(|op| matches!(op, Op::Identity | Op::Dropout)), 0, "{name}\n{fused}");
    }
}

#[test]
fn real_models_compute_the_same() {
    let Some(models) = models() else { return };
    for (name, graph) in models {
        // The others take seconds in the evaluator.
        if ["cifar", "tiny", "mnist", "ultraface"].iter().any(|small| name.contains(small)) {
            Known::of(&graph).without(&[]);
        }
        if ["mnist-8", "tiny_resnet8", "tiny_kws"].contains(&&name[..]) {
            fused(&graph);
        }
    }
}
