//! Every model of the data folder imports.

use crate::support::data_dir;
use qgraph_compiler::graph::verify::verify;
use qgraph_compiler::onnx::{Options, import};

#[test]
fn models_of_the_data_folder() {
    let Some(data) = data_dir() else { return };
    let list = std::fs::read_dir(data.join("models")).unwrap().map(|e| e.unwrap().path());
    let models: Vec<_> = list.filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    assert!(models.len() >= 15, "only {} models in {}", models.len(), data.display());
    for path in models {
        let graph = import(&path, &Options::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(verify(&graph), [], "{}", path.display());
        let inputs: Vec<_> = graph.inputs.iter().map(|&i| (&graph.value(i).name, graph.shape(i))).collect();
        let outputs: Vec<_> = graph.outputs.iter().map(|&i| (&graph.value(i).name, graph.shape(i))).collect();
        println!("{}: {} nodes, {inputs:?} to {outputs:?}", path.display(), graph.nodes.len());
        // What the data folder's README states.
        let expected: &[(&str, &[usize])] = match path.file_stem().unwrap().to_str().unwrap() {
            "squeezenet1.1" | "mobilenet_v2" | "mobilenet_v1_0.75_224" => &[("logits", &[1, 1000])],
            "deeplabv3_mnv2_257" => &[("logits", &[1, 21, 33, 33])],
            "yolox_nano" => &[("output", &[1, 3549, 85])],
            "ultraface_rfb_320" => &[("scores", &[1, 4420, 2]), ("boxes", &[1, 4420, 4])],
            "ppocr_mobile_v1.1_det_640" => &[("save_infer_model/scale_0.tmp_0", &[1, 1, 640, 640])],
            "super_resolution_10" => &[("output", &[1, 1, 672, 672])],
            "mnist-8" => &[("Plus214_Output_0", &[1, 10])],
            "gluon_cifar_resnet20_v1" => &[("cifarresnetv10_dense0_fwd", &[1, 10])],
            "gluon_cifar_resnet56_v2" => &[("cifarresnetv21_dense0_fwd", &[1, 10])],
            "resnet50v2_trunk" => &[("features", &[1, 1024, 14, 14])],
            "tiny_kws" => &[("logits", &[1, 12])],
            "tiny_vww96" => &[("logits", &[1, 2])],
            _ => &[("logits", &[1, 10])],
        };
        let outputs: Vec<_> = outputs.iter().map(|(name, shape)| (&name[..], *shape)).collect();
        assert_eq!(outputs, expected, "{}", path.display());
    }
}
