//! Every real model of the data folder from ONNX to machine code: float gives what ONNX Runtime gave, int8 stays close to float, all
//! engines give the same bits, also where the network is a part of a program. What is expected stands in `models`.
//!
//! One test a model, so that they run side by side. Whole sets run as machine code; a CPU without it checks the first samples of each.

mod check;
mod detect;
mod models;
mod samples;
mod scores;

use crate::support::data_dir;
use models::MODELS;

/// A test for every name, and the list of names.
macro_rules! models {
    ($($test:ident => $name:literal,)*) => {
        $(#[test] fn $test() { check::check($name); })*
        const TESTED: &[&str] = &[$($name),*];
    };
}

models! {
    squeezenet => "squeezenet1.1",
    mobilenet_v1 => "mobilenet_v1_0.75_224",
    mobilenet_v2 => "mobilenet_v2",
    resnet50v2_trunk => "resnet50v2_trunk",
    deeplabv3 => "deeplabv3_mnv2_257",
    yolox_nano => "yolox_nano",
    ultraface => "ultraface_rfb_320",
    ppocr => "ppocr_mobile_v1.1_det_640",
    super_resolution => "super_resolution_10",
    mnist => "mnist-8",
    cifar_resnet20 => "cifar_resnet20",
    cifar_resnet32 => "cifar_resnet32",
    cifar_resnet56 => "cifar_resnet56",
    tiny_resnet8 => "tiny_resnet8",
    gluon_resnet20_v1 => "gluon_cifar_resnet20_v1",
    gluon_resnet56_v2 => "gluon_cifar_resnet56_v2",
    tiny_vww => "tiny_vww96",
    tiny_kws => "tiny_kws",
}

#[test]
fn no_model_is_left_out() {
    let mut rows: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
    rows.sort_unstable();
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(rows, tested);
    let Some(data) = data_dir() else { return };
    let entries = std::fs::read_dir(data.join("models"))
        .expect("there are models")
        .map(|e| e.expect("an entry").path());
    let onnx = entries.filter(|p| p.extension().is_some_and(|e| e == "onnx"));
    let mut found: Vec<String> =
        onnx.map(|p| p.file_stem().expect("a file").to_string_lossy().into_owned()).collect();
    found.sort_unstable();
    assert_eq!(found, rows);
}
