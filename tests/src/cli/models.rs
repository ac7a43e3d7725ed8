//! Models that are not what they should be: the command says which file, at which stage and which node, and what to do.

use super::*;
use crate::support::model_builder::{Model, float, ints};
use crate::support::random_graph::Rng;
use qgraph_compiler::onnx::proto::{StringStringEntryProto, TensorProto, data_type};
use qgraph_compiler::qgraph::file;
use std::fs::File;

const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

#[test]
fn files_that_are_no_model_are_told_apart() {
    let dir = digits("mixed");
    let copy = |from: &str, to: &str| fs::copy(dir.join(from), dir.join(to)).map(|_| ()).unwrap();
    copy("digits.onnx", "onnx.qgraph");
    copy("digits.qgraph", "int8.onnx");
    copy("digits.qgraph", "int8");
    copy("digits.onnx", "float.model");
    copy("images/0.png", "picture.onnx");
    copy("images/0.png", "picture.qgraph");
    for name in ["lfs.onnx", "lfs.qgraph"] {
        fs::write(dir.join(name), LFS).unwrap();
    }
    for name in ["empty.onnx", "empty.qgraph"] {
        fs::write(dir.join(name), "").unwrap();
    }
    fs::write(dir.join("text.onnx"), "hello").unwrap();
    fs::write(dir.join("text.qgraph"), "hello").unwrap();
    let is_onnx = ["file: onnx.qgraph: is an ONNX model", "qgraph quantize"];
    let is_int8 = ["import: int8.onnx: is a .qgraph", "give the float .onnx"];
    let cases: [(&str, &[&str]); _] = [
        ("run onnx.qgraph --input random", &is_onnx),
        ("inspect onnx.qgraph", &is_onnx),
        ("bench onnx.qgraph", &is_onnx),
        ("emit qgraph onnx.qgraph", &is_onnx),
        ("compare digits.onnx onnx.qgraph --images images", &is_onnx),
        (
            "compare digits.onnx digits.onnx --images images",
            &["file: digits.onnx: is an ONNX model", "qgraph quantize"],
        ),
        ("run int8.onnx --input random", &is_int8),
        ("inspect int8.onnx", &is_int8),
        ("quantize int8.onnx --calib random -o o.qgraph", &is_int8),
        (
            "quantize digits.qgraph --calib random -o o.qgraph",
            &["import: digits.qgraph: is a .qgraph", "give the float"],
        ),
        ("explain digits.qgraph", &["import: digits.qgraph: is a .qgraph"]),
        ("compare digits.qgraph digits.qgraph --images images", &["import: digits.qgraph: is a .qgraph"]),
        ("run lfs.onnx --input random", &["import: lfs.onnx: is a git-LFS pointer", "git lfs pull"]),
        ("run lfs.qgraph --input random", &["file: lfs.qgraph: is a git-LFS pointer", "git lfs pull"]),
        ("inspect empty.onnx", &["import: empty.onnx: is not an ONNX model, it is empty"]),
        ("inspect empty.qgraph", &["file: empty.qgraph: is empty"]),
        ("inspect text.onnx", &["import: text.onnx: is not an ONNX model"]),
        ("inspect text.qgraph", &["file: text.qgraph: truncated"]),
        ("inspect picture.onnx", &["import: picture.onnx: is not an ONNX model"]),
        ("inspect picture.qgraph", &["file: picture.qgraph: not a .qgraph"]),
        ("inspect images/0.png", &["import: images/0.png: is not an ONNX model"]),
        ("inspect no.onnx", &["import: no.onnx: cannot read", "No such file"]),
        ("inspect no.qgraph", &["file: no.qgraph: cannot read", "No such file"]),
        ("inspect no", &["import: no: cannot read"]),
        ("inspect images", &["import: images: is not a file"]),
        ("inspect .", &["import: .: is not a file"]),
        ("quantize images --calib random -o o.qgraph", &["import: images: is not a file"]),
        ("compare digits.onnx images --images images", &["file: images: is not a file"]),
        (
            "run digits.qgraph --input random --shape x=1x1x16x16",
            &["file: digits.qgraph: the shapes", "when quantizing"],
        ),
        (
            "quantize digits.onnx --profile digits.onnx -o o.qgraph",
            &["calibrate: digits.onnx: cannot be read"],
        ),
        ("quantize digits.onnx --profile images.csv -o o.qgraph", &["calibrate: images.csv: not a profile"]),
    ];
    for (line, words) in cases {
        qgraph(dir.path(), line).refuses(words);
    }
    // A name that says nothing: the content decides.
    assert_eq!(qgraph(dir.path(), "inspect int8 --json").json()["quantized"], true);
    assert_eq!(qgraph(dir.path(), "inspect float.model --json").json()["quantized"], false);
}

/// Reading one of these would never end.
#[cfg(unix)]
#[test]
fn devices_are_no_models() {
    let dir = temp_dir("devices");
    std::os::unix::fs::symlink("/dev/zero", dir.join("zero.qgraph")).unwrap();
    qgraph(dir.path(), "inspect /dev/zero").refuses(&["import: /dev/zero: is not a file"]);
    qgraph(dir.path(), "inspect zero.qgraph").refuses(&["file: zero.qgraph: is not a file"]);
}

#[test]
fn models_that_do_not_fit_together_are_refused() {
    let dir = digits("pairs");
    qgraph(dir.path(), "quantize digits.onnx --calib random --shape x=1x1x20x20 -o large.qgraph").works();
    qgraph(dir.path(), "compare digits.onnx large.qgraph --images images")
        .refuses(&["run: large.qgraph: has other inputs or outputs", "same --shape"]);
    let other = Model::new(13).input("x", &[1, 1, 16, 16]).node("Relu", &["x"], &["y"], &[]).output("y");
    fs::write(dir.join("other.onnx"), other.bytes()).unwrap();
    qgraph(dir.path(), "quantize other.onnx --profile profile.json -o o.qgraph")
        .refuses(&["calibrate: profile.json", "belongs to another graph (model digits)"]);
}

#[test]
fn truncated_files_are_refused() {
    let dir = digits("truncated");
    for (file, stage) in [("digits.onnx", "import"), ("digits.qgraph", "file")] {
        let bytes = fs::read(dir.join(file)).unwrap();
        let cut = format!("cut.{}", &file[7..]);
        let lengths =
            (1..20).chain((1..30).map(|k| bytes.len() * k / 30)).chain(bytes.len() - 12..bytes.len());
        for length in lengths {
            fs::write(dir.join(&cut), &bytes[..length]).unwrap();
            qgraph(dir.path(), &format!("run {cut} --input random"))
                .refuses(&[&format!("qgraph: {stage}: {cut}: ")]);
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    let dir = digits("flipped");
    let mut rng = Rng(7);
    let bytes = fs::read(dir.join("digits.qgraph")).unwrap();
    for k in 0..100 {
        let mut bad = bytes.clone();
        // All over the file, and often in its head.
        let at = rng.below(if k % 2 == 0 { bytes.len() } else { 4000 });
        bad[at] ^= 1 << rng.below(8);
        fs::write(dir.join("flip.qgraph"), bad).unwrap();
        qgraph(dir.path(), "run flip.qgraph --input random").refuses(&["qgraph: file: flip.qgraph: "]);
    }
    // An .onnx has no checksum: a flipped weight is another weight. Whatever it becomes, the program answers.
    let bytes = fs::read(dir.join("digits.onnx")).unwrap();
    let tail = bytes.len() - 3000;
    let mut refused = 0;
    for k in 0..150 {
        let mut bad = bytes.clone();
        // Nodes, inputs and outputs stand at the start and the end, weights between.
        let at = match k % 3 {
            0 => rng.below(bytes.len()),
            1 => rng.below(3000),
            _ => tail + rng.below(3000),
        };
        bad[at] ^= 1 << rng.below(8);
        fs::write(dir.join("flip.onnx"), bad).unwrap();
        let ran = qgraph(dir.path(), "run flip.onnx --input random --digest");
        if ran.status.success() {
            assert_eq!(ran.works().lines().last().unwrap().len(), 64);
        } else {
            ran.refuses(&["qgraph: ", "flip.onnx: "]);
            refused += 1;
        }
    }
    assert!(
        (20..150).contains(&refused),
        "{refused} of 150 refused: the flips miss what they are meant to hit"
    );
}

/// Sparse: they take no room on the disk.
#[test]
fn oversized_files_are_not_read() {
    let dir = temp_dir("oversized");
    for (file, gigabytes) in [("big.onnx", 3u64), ("big.qgraph", 17)] {
        let sparse = File::create(dir.join(file)).unwrap();
        sparse.set_len(gigabytes << 30).unwrap();
        let stage = if file == "big.onnx" { "import" } else { "file" };
        qgraph(dir.path(), &format!("inspect {file}")).refuses(&[&format!("qgraph: {stage}: {file}: ")]);
        fs::remove_file(dir.join(file)).unwrap();
    }
}

#[test]
fn adversarial_qgraph_files_are_refused() {
    let dir = digits("adversarial");
    let try_bytes = |bytes: &[u8], words: &[&str]| {
        fs::write(dir.join("bad.qgraph"), bytes).unwrap();
        let ran = qgraph(dir.path(), "run bad.qgraph --input random");
        assert!(ran.stderr.starts_with("qgraph: file: "), "{}", ran.say());
        ran.refuses(&[&["bad.qgraph: "], words].concat());
    };
    let file = |length: u64, header: &str| [&length.to_le_bytes(), header.as_bytes()].concat();
    try_bytes(&file(u64::MAX, "{}"), &["not a .qgraph"]);
    try_bytes(&file(90_000_000, "{}"), &["truncated"]);
    let nested = "[".repeat(100_000);
    try_bytes(&file(nested.len() as u64, &nested), &["not a .qgraph"]);
    let foreign = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    try_bytes(&file(foreign.len() as u64, foreign), &["safetensors file without a graph", "qgraph quantize"]);
    // With a right checksum, and a wrong graph: what the checksum does not see, the verifier does.
    let good = file::load(&dir.join("digits.qgraph")).unwrap();
    let mut huge = good.clone();
    huge.values[0].shape = vec![1, 1, 1 << 40, 1 << 40];
    try_bytes(&file::to_bytes(&huge), &[&good.values[0].name]);
    let mut cyclic = good.clone();
    cyclic.nodes[0].inputs[0] = cyclic.nodes[0].output;
    try_bytes(&file::to_bytes(&cyclic), &[&good.nodes[0].name]);
    let mut dangling = good.clone();
    dangling.nodes.remove(2);
    try_bytes(&file::to_bytes(&dangling), &[&good.value(good.nodes[2].output).name]);
    let mut mute = good.clone();
    mute.outputs.clear();
    try_bytes(&file::to_bytes(&mute), &["output"]);
}

#[test]
fn adversarial_onnx_files_are_refused_by_node() {
    let dir = temp_dir("adversarial");
    let base = || Model::new(13).input("x", &[1, 1, 8, 8]);
    let conv = |m: Model| m.node("Conv", &["x", "w"], &["y"], &[]).named("conv1").output("y");
    let claims =
        TensorProto { dims: vec![1 << 31, 1 << 31, 3, 3], data_type: data_type::FLOAT, ..Default::default() };
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let outside = TensorProto {
        dims: vec![4, 1, 3, 3],
        data_type: data_type::FLOAT,
        data_location: 1,
        external_data: vec![entry("location", "../../../../etc/passwd")],
        ..Default::default()
    };
    let mut weights = [0.1; 36];
    weights[7] = f32::NAN;
    let mut infinite = [0.1; 36];
    infinite[35] = f32::NEG_INFINITY;
    let cases: Vec<(Model, &[&str])> = vec![
        (conv(base().constant("w", claims)), &["w"]),
        (conv(base().constant("w", outside)), &["w", "etc/passwd", "refused"]),
        (conv(base().floats("w", &[4, 1, 3, 3], &weights)), &["conv1 (Conv)", "\"w\" holds NaN", "damaged"]),
        (conv(base().floats("w", &[4, 1, 3, 3], &infinite)), &["conv1 (Conv)", "\"w\" holds -inf"]),
        (conv(base().weight("w", &[4, 2, 3, 3], 1)), &["conv1 (Conv)"]),
        (conv(base()), &["conv1 (Conv)", "\"w\", which no earlier node computes"]),
        (
            base().node("Relu", &["y"], &["y"], &[]).named("loop").output("y"),
            &["loop (Relu)", "no earlier node"],
        ),
        (base().output("y"), &["y", "nothing computes"]),
        (
            base()
                .node("LSTM", &["x"], &["a"], &[])
                .named("first")
                .node("Relu", &["a"], &["b"], &[])
                .node("NonMaxSuppression", &["x"], &["c"], &[])
                .named("second")
                .output("b")
                .output("c"),
            &["import: 2 problems", "first (LSTM)", "second (NonMaxSuppression)"],
        ),
        (
            base()
                .ints("s", &[1 << 30, 1 << 30])
                .node("ConstantOfShape", &["s"], &["y"], &[])
                .named("zeros")
                .output("y"),
            &["zeros (ConstantOfShape)"],
        ),
        (
            base()
                .node("MaxPool", &["x"], &["y"], &[ints("kernel_shape", &[9, 9])])
                .named("pool")
                .output("y"),
            &["pool (MaxPool)", "does not fit"],
        ),
        (
            base()
                .node(
                    "AveragePool",
                    &["x"],
                    &["y"],
                    &[ints("kernel_shape", &[2, 2]), ints("pads", &[1 << 40; 4])],
                )
                .named("pool")
                .output("y"),
            &["pool (AveragePool)"],
        ),
        (Model::new(99).output("y"), &["operator set 99", "opset_version=22"]),
    ];
    for (model, words) in cases {
        fs::write(dir.join("bad.onnx"), model.bytes()).unwrap();
        let ran = qgraph(dir.path(), "quantize bad.onnx --calib random -o o.qgraph");
        assert!(ran.stderr.starts_with("qgraph: import: "), "{}", ran.say());
        ran.refuses(&[&["bad.onnx: "], words].concat());
    }
}

/// Finite weights whose results are not: nothing is wrong before samples run.
#[test]
fn infinities_found_by_calibration_are_named() {
    let dir = temp_dir("infinite");
    let model = Model::new(13)
        .input("x", &[1, 2, 4, 4])
        .floats("w", &[2, 2, 1, 1], &[3e38; 4])
        .node("Conv", &["x", "w"], &["y"], &[])
        .node("LeakyRelu", &["y"], &["z"], &[float("alpha", 0.5)])
        .node("Conv", &["z", "w"], &["out"], &[])
        .output("out");
    fs::write(dir.join("big.onnx"), model.bytes()).unwrap();
    qgraph(dir.path(), "quantize big.onnx --calib random -o big.qgraph")
        .refuses(&["calibrate: big.onnx: ", "sample 1 gives"]);
    assert!(!dir.join("big.qgraph").exists());
}

#[test]
fn wrong_shapes_are_refused_by_input() {
    let dir = digits("shapes");
    let cases: [(&str, &[&str]); _] = [
        ("x=1x1x16", &["x: the shape [1, 1, 16] is given, but the input is x (Nx1x16x16)"]),
        ("y=1x1x16x16", &["y: a shape is given for an input that the model does not have", "x (Nx1x16x16)"]),
        ("x=1x3x16x16", &["conv1 (Conv)"]),
        ("x=1x1x1x1", &["pool (MaxPool)", "does not fit"]),
        ("x=1x1x99999999x99999999", &["x: ", "elements"]),
        ("x=1x1x30000x30000", &["conv1 (Conv)", "elements"]),
    ];
    for (shape, words) in cases {
        qgraph(dir.path(), &format!("quantize digits.onnx --calib random --shape {shape} -o o.qgraph"))
            .refuses(&[&["qgraph: import: ", "digits.onnx: "], words].concat());
    }
    qgraph(dir.path(), "inspect digits.onnx --shape x=1x1x16x16 --shape x=1x1x20x20")
        .refuses(&["digits.onnx: x: two shapes"]);
}
