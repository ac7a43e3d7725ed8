//! Every command that the README or `--help` shows runs as it stands there, in a folder where all the files it names exist.
//!
//! The README's two main commands are cargo's: `.ci/run` takes them from the README and runs them, and that is what is held here.

use super::*;
use crate::support::model_builder::{Model, ints};
use qgraph_compiler::onnx::proto::data_type;

const COMMANDS: [&str; 12] = [
    "quantize",
    "run",
    "compare",
    "report",
    "bench",
    "inspect",
    "explain",
    "plot",
    "emit",
    "disasm",
    "export-onnx",
    "demo",
];

/// A small classifier of RGB images of a given side, which documented commands may call by any name.
fn network(side: i64) -> Vec<u8> {
    Model::new(13)
        .symbolic_input("data", &format!("N,3,{side},{side}"))
        .weight("w1", &[16, 3, 3, 3], 1)
        .node("Conv", &["data", "w1"], &["c1"], &[ints("strides", &[4, 4])])
        .node("Relu", &["c1"], &["r1"], &[])
        .weight("w2", &[16, 16, 3, 3], 2)
        .node("Conv", &["r1", "w2"], &["c2"], &[ints("strides", &[2, 2])])
        .node("GlobalAveragePool", &["c2"], &["p"], &[])
        .node("Flatten", &["p"], &["f"], &[])
        .weight("w3", &[16, 10], 3)
        .node("Gemm", &["f", "w3"], &["logits"], &[])
        .output("logits")
        .bytes()
}

/// The same for images of 32×32, quantized already.
fn given() -> Vec<u8> {
    let mut model = Model::new(13)
        .symbolic_input("data", "N,3,32,32")
        .integers("wq", data_type::INT8, &[10, 3, 3, 3], &(0..270).map(|k| k % 255 - 127).collect::<Vec<_>>())
        .levels("w", 0.01, data_type::INT8, 0)
        .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[]);
    let rounded = |model: Model, name: &str, scale: f32| {
        let [s, z, q, d] = ["s", "z", "q", "d"].map(|suffix| format!("{name}_{suffix}"));
        model
            .levels(name, scale, data_type::UINT8, 128)
            .node("QuantizeLinear", &[name, &s, &z], &[&q], &[])
            .node("DequantizeLinear", &[&q, &s, &z], &[&d], &[])
    };
    model = rounded(model, "data", 0.02).node("Conv", &["data_d", "w"], &["c"], &[]);
    model = rounded(model, "c", 0.1).node("GlobalAveragePool", &["c_d"], &["logits"], &[]);
    model.output("logits").bytes()
}

/// The folder: models of 224×224 and (CIFAR-10) 32×32 images, with their int8 forms; images, arrays, labels.
fn world(name: &str) -> TempDir {
    let dir = temp_dir(name);
    for (model, side, calib) in [
        (
            "model",
            224,
            "--calib images/ --mean 123.7,116.3,103.5 --std 58.4,57.1,57.4 --resize 256 --crop 224",
        ),
        ("mobilenet", 224, "--calib random"),
        ("resnet50", 224, "--calib random"),
        ("resnet20", 32, "--calib test_batch.bin"),
    ] {
        fs::write(dir.join(format!("{model}.onnx")), network(side)).unwrap();
        if model == "model" {
            fill(&dir);
        }
        qgraph(dir.path(), &format!("quantize {model}.onnx {calib} -o {model}.qgraph")).works();
    }
    fs::write(dir.join("resnet20.int8.onnx"), given()).unwrap();
    dir
}

fn fill(dir: &TempDir) {
    let picture = |k: u32| {
        image::RgbImage::from_fn(230 + 30 * k, 300, |x, y| {
            image::Rgb([x as u8, (y * k) as u8, (x ^ y) as u8])
        })
    };
    let mut csv = "file,label\n".to_string();
    for folder in ["images", "val", "src"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    for k in 0..3 {
        picture(k).save(dir.join(format!("images/{k}.png"))).unwrap();
        picture(k + 3).save(dir.join(format!("val/{k}.jpg"))).unwrap();
        csv += &format!("{k}.jpg,{k}\n");
    }
    fs::write(dir.join("val.csv"), csv).unwrap();
    picture(1).save(dir.join("cat.jpg")).unwrap();
    let classes: String = (0..10).map(|k| format!("class {k}\n")).collect();
    fs::write(dir.join("classes.txt"), classes).unwrap();
    let noise = |n: usize| (0..n).map(|k| (k * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
    qgraph_compiler::data::write_npy(&dir.join("x.npy"), &[1, 3, 224, 224], &noise(3 * 224 * 224)).unwrap();
    let records: Vec<u8> =
        (0..4 * 3073).map(|k| if k % 3073 == 0 { 7 } else { (k * 31 % 256) as u8 }).collect();
    fs::write(dir.join("data_batch_1.bin"), &records).unwrap();
    fs::write(dir.join("test_batch.bin"), &records).unwrap();
}

/// Runs `[taskset -c 0] qgraph …` as a user would type it.
fn run(dir: &TempDir, line: &str) {
    let bare = line.strip_prefix("taskset -c 0 ").unwrap_or(line);
    let (program, arguments) = bare.split_once(' ').unwrap_or((bare, ""));
    assert!(["qgraph", "target/release/qgraph"].contains(&program), "how to run `{line}`?");
    let stdout = qgraph(dir.path(), arguments).works();
    assert!(!stdout.is_empty(), "`{line}` prints nothing");
    if arguments.contains("--json") {
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap_or_else(|e| panic!("`{line}`: {e}"));
    }
    let words: Vec<&str> = arguments.split_whitespace().collect();
    if let Some(at) = words.iter().position(|w| ["-o", "--output"].contains(w)) {
        assert!(stdout.ends_with(&format!("wrote {}\n", words[at + 1])), "`{line}` ends with {stdout:?}");
        assert!(dir.join(words[at + 1]).is_file(), "`{line}` writes no {}", words[at + 1]);
    }
}

/// The indented lines under `Examples:` or `First steps:`.
fn examples(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|l| !["Examples:", "First steps:"].contains(l)).skip(1);
    lines.take_while(|l| l.starts_with("  ")).map(str::trim).collect()
}

#[test]
fn every_example_of_the_help_runs() {
    let dir = world("examples");
    let help = qgraph(dir.path(), "--help").works();
    assert!(
        help.starts_with("Compiles float ONNX networks to calibrated int8 machine code, and runs them\n"),
        "{help}"
    );
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "no {command} in {help}");
    }
    let mut shown = examples(&help).iter().map(|l| l.to_string()).collect::<Vec<_>>();
    assert!(!shown.is_empty(), "{help}");
    for command in COMMANDS {
        let help = qgraph(dir.path(), &format!("{command} --help")).works();
        assert!(help.contains(&format!("Usage: qgraph {command} ")), "{help}");
        let own = examples(&help);
        assert!(
            own.iter().any(|l| l.contains(&format!("qgraph {command} ")) || *l == "qgraph demo"),
            "{help}"
        );
        shown.extend(own.iter().map(|l| l.to_string()));
    }
    shown.iter().for_each(|line| run(&dir, line));
}

#[test]
fn every_command_of_the_readme_runs() {
    let readme = fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let ci = fs::read_to_string(workspace_root().join(".ci/run")).unwrap();
    let dir = world("readme");
    let (mut cargo, mut ours, mut section) = (Vec::new(), 0, "");
    // Between fences stands what `new_user` builds.
    for line in readme.split("\n```").step_by(2).flat_map(str::lines) {
        section = line.strip_prefix("## ").unwrap_or(section);
        // The picture of the architecture is indented too.
        let Some(command) = line.strip_prefix("    ").filter(|_| section != "Architecture") else { continue };
        if command.starts_with("cargo ") {
            cargo.push(command);
            continue;
        }
        run(&dir, command);
        ours += 1;
    }
    assert!(ours >= 4, "the README shows how to quantize, run, compare and bench");
    // What makes `target/release/qgraph` is what the demo's `--release` makes too; `new_user` runs the last.
    let others = ["cargo build --release", "cargo new digit"];
    assert_eq!(cargo, [&["cargo run --release -- demo", "cargo test --workspace"][..], &others].concat());
    for command in &cargo[..2] {
        let taken = format!("\n$(grep -m1 -E '^    {command}$' README.md)\n");
        assert!(ci.contains(&taken), "`.ci/run` does not run `{command}` as the README has it");
    }
}
