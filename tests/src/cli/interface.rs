//! What scripts rely on: options, JSON keys, the same bits from every engine, exit codes, last lines, pipes.

use super::*;
use crate::support::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::BufReader;

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect()
}

#[test]
fn quantize_takes_every_option() {
    let dir = digits("quantize");
    let line = "quantize digits.onnx --calib images --calib-mode naive --samples 4 --mean -0.5 --std 2 --scale 0.01 \
                --resize 20 --crop 16 --order bgr --layout nchw --shape x=1x1x16x16 -o all.qgraph";
    let stdout = qgraph(dir.path(), line).works();
    assert!(stdout.starts_with("runs ") && stdout.ends_with("\nwrote all.qgraph\n"), "{stdout}");
    let report = qgraph(dir.path(), "inspect all.qgraph --json").json();
    let expected = serde_json::json!({
        "layout": "nchw", "order": "bgr", "scale": 0.01f32, "mean": [-0.5], "std": [2.0], "resize": 20, "crop": 16
    });
    assert_eq!(report["preprocess"], expected);
    assert_eq!(
        report["inputs"],
        serde_json::json!([{ "name": "x", "shape": [1, 1, 16, 16], "type": "f32" }])
    );
    assert_eq!(report["quantized"], true);
    let line = "quantize digits.onnx --calib images --calib-mode percentile --percentile 99.9 --threads 2 --exclude conv1 --exclude c*3? \
                --exclude /^pw/ --exclude-op Max_Pool --float first,last --mode smart --weights tensor --activations auto --equalize off \
                --bias-correction off --weight-clipping on -o options.qgraph";
    let stdout = qgraph(dir.path(), line).works();
    for (node, why) in [
        ("conv1", "excluded by 'conv1'"),
        ("conv3a", "excluded by 'c*3?'"),
        ("pw4", "excluded by '/^pw/'"),
        ("pool", "excluded with all 'Max_Pool'"),
        ("logits", "excluded as a last layer"),
    ] {
        assert!(stdout.contains(&format!("\n  float    {node}: {why}\n")), "{stdout}");
    }
    for (option, words) in [
        (
            "--exclude conv33",
            &["exclude 'conv33': no layer has this name; the nearest are 'conv3a', 'conv3b'"][..],
        ),
        (
            "--exclude convx* --exclude /(/",
            &["exclude 'convx*': no layer", "exclude '/(/': not a regular expression"],
        ),
        ("--exclude-op gemm", &["exclude operator 'gemm': no layer has this operator; there are: conv, "]),
        ("--calib-mode percentile --percentile 0", &["calibrate: ", "percentile: 0 is not above 0"]),
        ("--float middle", &["'middle'"]),
    ] {
        let line = format!("quantize digits.onnx --calib images {option} -o no.qgraph");
        qgraph(dir.path(), &line).refuses(words);
    }
    assert!(!dir.join("no.qgraph").exists());
    // The same ranges again, from the file, give the same bytes.
    qgraph(dir.path(), "quantize digits.onnx --profile profile.json -o again.qgraph").works();
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    assert!(read("again.qgraph") == read("digits.qgraph"), "a saved profile gives another network");
    // An edited range is taken; one that is none is refused by name.
    let text = fs::read_to_string(dir.join("profile.json")).unwrap();
    let at = text.find("\"relu3b\": {").expect("a range");
    let (before, after) = text.split_at(at + text[at..].find("\"max\": ").unwrap() + 7);
    let after = &after[after.find('\n').unwrap()..];
    for (max, good) in [("25.5", true), ("-1", false)] {
        fs::write(dir.join("edited.json"), format!("{before} {max}{after}")).unwrap();
        let ran =
            qgraph(dir.path(), "quantize digits.onnx --profile edited.json --equalize off -o edited.qgraph");
        if good {
            ran.works();
            let graph = qgraph(dir.path(), "emit qgraph edited.qgraph").works();
            assert!(graph.contains("relu3b: u8(0.1, 0) "), "{graph}");
        } else {
            ran.refuses(&["calibrate: edited.json: relu3b: the range 0 to -1 is not finite and in order"]);
        }
    }
    for extra in ["--calib images", "--mean 1", "--samples 3", "--save-profile other.json"] {
        let line = format!("quantize digits.onnx --profile profile.json {extra} -o no.qgraph");
        qgraph(dir.path(), &line).refuses(&["cannot be used with"]);
    }
    for (name, at) in [("test.bin", "test.bin"), ("a set", "images"), ("noise", "random")] {
        qgraph(dir.path(), &format!("quantize digits.onnx --calib {at} -o {at}.qgraph")).works();
        assert!(dir.join(format!("{at}.qgraph")).is_file(), "{name}");
    }
}

/// A range of which values fill next to nothing breaks int8; its reader in float mends it.
#[test]
fn max_drop_mends_what_int8_breaks_and_says_when_it_does_not() {
    let dir = digits("within");
    let text = fs::read_to_string(dir.join("profile.json")).unwrap();
    let at = text.find("\"relu3b\": {").expect("a range");
    let (before, after) = text.split_at(at + text[at..].find("\"max\": ").unwrap() + 7);
    let after = &after[after.find('\n').unwrap()..];
    fs::write(dir.join("wild.json"), format!("{before} 90000{after}")).unwrap();
    let line = "quantize digits.onnx --profile wild.json --equalize off --images test.bin --limit 200 -o within.qgraph";
    let met = qgraph(dir.path(), &format!("{line} --max-drop 2 --threads 2")).works();
    for words in
        ["for accuracy: alone in float it takes ", "\naccuracy   top-1 on 200 images: float ", " in float: "]
    {
        assert!(met.contains(words), "{words}: {met}");
    }
    assert!(met.contains("% more, on one thread\nlimit      2 points: met, after "), "{met}");
    assert!(met.ends_with("\nwrote within.qgraph\n"), "{met}");
    let compare = || {
        qgraph(dir.path(), "compare digits.onnx within.qgraph --images test.bin --limit 200 --json").json()
    };
    let right = |report: &Value| report["int8"]["top1"].as_f64().expect("a number");
    let mended = compare();
    assert!(mended["layers"].to_string().contains("for accuracy: "), "{mended}");
    // Without layers to give away the limit is not met: int8 is saved.
    let ran = qgraph(dir.path(), &format!("{line} --max-drop 2 --max-float 0"));
    assert_eq!(ran.status.code(), Some(3), "{}", ran.say());
    assert!(ran.stdout.contains("limit      2 points: NOT met, after 1 networks\n"), "{}", ran.say());
    assert!(ran.stdout.ends_with("\nwrote within.qgraph\n"), "{}", ran.say());
    assert!(right(&compare()) < right(&mended) - 0.02, "{mended}");
    for (option, words) in [
        ("--max-drop=-1 --images test.bin", &["max_drop: -1 is not between 0 and 100 points"][..]),
        ("--max-drop 1 --images random", &["--max-drop: says nothing on noise"]),
        ("--max-drop 1", &["--max-drop: has no images"]),
        ("--images test.bin", &["--max-drop"]),
    ] {
        qgraph(dir.path(), &format!("quantize digits.onnx --profile wild.json {option} -o no.qgraph"))
            .refuses(words);
    }
    assert!(!dir.join("no.qgraph").exists());
}

/// Without samples: as right as with ranges from samples, within a point.
#[test]
fn ranges_at_run_time_need_no_samples() {
    let dir = digits("none");
    let stdout =
        qgraph(dir.path(), "quantize digits.onnx --calib none --scale 0.003921569 -o none.qgraph").works();
    assert!(stdout.contains("stands between layers whose ranges are found at run time"), "{stdout}");
    assert!(
        stdout.contains(" ms an image with fixed ranges, ") && stdout.contains(" % more, on"),
        "{stdout}"
    );
    let line =
        "quantize digits.onnx --calib calib.bin --calib-mode naive --scale 0.003921569 -o naive.qgraph";
    qgraph(dir.path(), line).works();
    let right = |q: &str| {
        let line = format!("compare digits.onnx {q} --images test.bin --json");
        qgraph(dir.path(), &line).json()["int8"]["top1"].as_f64().expect("a number")
    };
    let (none, naive) = (right("none.qgraph"), right("naive.qgraph"));
    println!("none {none}, naive {naive}");
    assert!((none - naive).abs() <= 0.01, "{none} {naive}");
    for option in ["--samples 3", "--calib-mode naive", "--max-drop 1", "--save-profile p.json"] {
        qgraph(dir.path(), &format!("quantize digits.onnx --calib none {option} -o no.qgraph"))
            .refuses(&["--calib none needs no ranges: leave --"]);
    }
    qgraph(dir.path(), "quantize digits.onnx --calib none --activations int8 -o no.qgraph")
        .refuses(&["finds its ranges at run time"]);
}

#[test]
fn engines_give_the_same_digest() {
    let dir = digits("digest");
    let mut digests = Vec::new();
    for engine in ["jit", "interp", "eval"] {
        let line = format!(
            "run digits.qgraph --input images/3.png --engine {engine} --digest --output {engine}.npy"
        );
        let ran = qgraph(dir.path(), &line);
        if engine == "jit" && !has_jit() {
            ran.refuses(&["jit: --engine jit: this CPU has no AVX-512 VNNI", "use --engine interp"]);
            continue;
        }
        let stdout = ran.works();
        let lines: Vec<&str> = stdout.lines().collect();
        let [head, best @ .., digest, wrote] = &lines[..] else { panic!("{stdout}") };
        assert_eq!((*head, *wrote), ("logits [1, 10]", &format!("wrote {engine}.npy")[..]));
        assert_eq!(best.len(), 5);
        // The digest is that of the bytes that the .npy ends with.
        let npy = fs::read(dir.join(format!("{engine}.npy"))).unwrap();
        assert_eq!(*digest, hex(&Sha256::digest(&npy[npy.len() - 40..])));
        digests.push(stdout.replace(engine, ""));
    }
    assert!(digests.len() >= 2 && digests.iter().all(|d| *d == digests[0]), "{digests:#?}");
}

#[test]
fn run_takes_every_option() {
    let dir = digits("run");
    fs::write(dir.join("names.txt"), (0..10).map(|k| format!("digit {k}\n")).collect::<String>()).unwrap();
    let stdout =
        qgraph(dir.path(), "run digits.qgraph --input images/0.png --top 3 --labels names.txt").works();
    let label = fs::read_to_string(dir.join("images.csv")).unwrap().lines().nth(1).unwrap()[6..].to_string();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert!(
        lines[1].trim_start().starts_with(&label) && lines[1].ends_with(&format!("digit {label}")),
        "{stdout}"
    );
    // A float network, preprocessing given anew, an array that was written before.
    qgraph(dir.path(), "run digits.onnx --input images/0.png --scale 0.003921569 --output y.npy").works();
    qgraph(dir.path(), "run digits.onnx --input random --shape x=1x1x16x16 --top 1").works();
    qgraph(dir.path(), "run digits.onnx --input y.npy").refuses(&["data: y.npy", "[1, 10]"]);
    let report =
        qgraph(dir.path(), "run digits.qgraph --input images/0.png --top 2 --output z.npy --json").json();
    assert_eq!(keys(&report), ["digest", "engine", "outputs", "written"]);
    assert_eq!(report["written"], serde_json::json!(["z.npy"]));
    assert_eq!(report["outputs"][0]["top"].as_array().unwrap().len(), 2);
    assert_eq!(report["outputs"][0]["top"][0]["class"].to_string(), label);
}

#[test]
fn compare_takes_networks_that_are_quantized_already() {
    let dir = digits("compare-given");
    let text = qgraph(dir.path(), "export-onnx digits.qgraph -o int8.onnx").works();
    assert!(text.contains("differ by single steps; `qgraph quantize --rounding onnx` avoids that"), "{text}");
    let refused = qgraph(dir.path(), "quantize int8.onnx --rounding onnx -o again.qgraph");
    refused.refuses(&["quantize: int8.onnx", "rounds otherwise than ONNX Runtime"]);
    qgraph(dir.path(), "quantize int8.onnx --scale 0.003921569 -o again.qgraph").works();
    let line = "compare int8.onnx again.qgraph --images test.bin";
    let text = qgraph(dir.path(), line).works();
    assert!(
        text.contains("\nweights and grids are given by the model; float rounds where it does"),
        "{text}"
    );
    let report = qgraph(dir.path(), &format!("{line} --json")).json();
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{v} is no number"));
    assert_eq!((&report["given"], number(&report["images"])), (&Value::Bool(true), 397.0));
    assert!(number(&report["float"]["top1"]) > 0.98 && number(&report["agreement"]) > 0.99, "{report}");
    for layer in report["layers"].as_array().unwrap() {
        // Both round to the same grids: what differs is what f32 has near the middle between two integers, and what follows from it.
        assert!(number(&layer["sqnr_db"]) > 40.0 && layer["clipped"] != 1.0, "{layer}");
    }
}

#[test]
fn a_network_rounds_as_onnx_runtime_does_if_asked_to() {
    let dir = digits("onnx-rounding");
    let ranges = "--calib test.bin --scale 0.003921569 --samples 20 --save-profile ranges.json";
    qgraph(dir.path(), &format!("quantize digits.onnx {ranges} --rounding onnx -o exact.qgraph")).works();
    let text = qgraph(dir.path(), "export-onnx exact.qgraph -o int8.onnx").works();
    assert!(text.starts_with("integers   the same in ONNX Runtime\n"), "{text}");
    // With or without asking, it is read back to the letter.
    for asked in ["", "--rounding onnx"] {
        qgraph(dir.path(), &format!("quantize int8.onnx --scale 0.003921569 {asked} -o again.qgraph"))
            .works();
        let digest =
            |model: &str| qgraph(dir.path(), &format!("run {model} --input random --digest")).works();
        assert_eq!(digest("exact.qgraph"), digest("again.qgraph"));
    }
    // Sums have their like in float.
    let report = qgraph(dir.path(), "compare digits.onnx exact.qgraph --images test.bin --json").json();
    assert!(report["sqnr_db"].as_f64().unwrap() > 20.0, "{report}");
    assert!(report["layers"].as_array().unwrap().iter().all(|l| !l["sqnr_db"].is_null()), "{report}");
    let refused = qgraph(dir.path(), "quantize digits.onnx --calib none --rounding onnx -o exact.qgraph");
    refused.refuses(&["finds its ranges at run time", "results are rounded"]);
}

#[test]
fn compare_reports_accuracy_agreement_and_noise() {
    let dir = digits("compare");
    let report = qgraph(dir.path(), "compare digits.onnx digits.qgraph --images test.bin --json").json();
    let all = "agreement exclude float float_us given images int8 labelled layers macs sqnr_db us worst";
    assert_eq!(keys(&report).join(" "), all);
    assert_eq!((keys(&report["float"]), keys(&report["int8"])), (vec!["top1", "top5"], vec!["top1", "top5"]));
    assert_eq!(report["given"], false);
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{v} is no number"));
    assert_eq!((number(&report["images"]), number(&report["labelled"])), (397.0, 397.0));
    // `compiler/demo/README.md`: ONNX Runtime is right on 395.
    let right = (number(&report["float"]["top1"]) * 397.0).round();
    assert!((394.0..=396.0).contains(&right), "{right} right");
    assert!(number(&report["int8"]["top1"]) > 0.98 && number(&report["agreement"]) > 0.98, "{report}");
    assert!(number(&report["float"]["top5"]) > 0.99 && number(&report["int8"]["top5"]) > 0.99, "{report}");
    assert!((20.0..60.0).contains(&number(&report["sqnr_db"])), "{report}");
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.len() > 8, "{report}");
    let all = "added_noise chosen clipped cosine float_reason float_us integer macs node observed op rmse_steps scale shape sqnr_db type \
               us value zero_point";
    for layer in layers {
        assert_eq!(keys(layer).join(" "), all);
        assert!((15.0..=200.0).contains(&number(&layer["sqnr_db"])), "{layer}");
        assert!(number(&layer["cosine"]) > 0.98, "{layer}");
        let is_u8 = layer["type"] == "u8";
        for key in ["scale", "zero_point", "chosen", "clipped", "rmse_steps"] {
            assert_eq!(layer[key].is_null(), !is_u8, "{key} of {layer}");
        }
        // Half a step at most where nothing is clipped, in the mean less; errors of the layers before add to that of rounding.
        assert!(!is_u8 || (0.0..2.5).contains(&number(&layer["rmse_steps"])), "{layer}");
        assert_eq!(layer["us"].is_null(), !has_jit(), "{layer}");
    }
    let sum = |key: &str| layers.iter().map(|l| number(&l[key])).sum::<f64>();
    assert_eq!((sum("macs"), report["us"].is_null()), (number(&report["macs"]), !has_jit()));
    // What it says of the worst can be given to `quantize`.
    let worst: Vec<&str> = report["worst"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let exclude = report["exclude"].as_str().unwrap();
    assert_eq!(exclude, worst.iter().map(|w| format!("--exclude {w}")).collect::<Vec<_>>().join(" "));
    assert_eq!(worst.len(), 5);
    qgraph(dir.path(), &format!("quantize digits.onnx --profile profile.json {exclude} -o kept.qgraph"))
        .works();
    let kept =
        qgraph(dir.path(), "compare digits.onnx kept.qgraph --images test.bin --limit 20 --json").json();
    let node = |n: &str| kept["layers"].as_array().unwrap().iter().find(|l| l["node"] == n).unwrap().clone();
    worst.iter().for_each(|w| assert!(node(w)["float_reason"].is_string(), "{kept}"));
    // The same as text; a limit; a folder with its labels named or found; no labels.
    let text = qgraph(dir.path(), "compare digits.onnx digits.qgraph --images test.bin --limit 7").works();
    assert!(text.starts_with("node ") && text.contains("\n7 images"), "{text}");
    assert!(
        text.contains("\nadd most noise:\n") && text.lines().last().unwrap().contains(" --exclude "),
        "{text}"
    );
    // But for times, which are never the same.
    let compare = |line: &str| {
        let mut report =
            qgraph(dir.path(), &format!("compare digits.onnx digits.qgraph {line} --json")).json();
        let untimed = |o: &mut Value| ["us", "float_us"].iter().for_each(|k| o[k] = Value::Null);
        report["layers"].as_array_mut().unwrap().iter_mut().for_each(untimed);
        untimed(&mut report);
        report
    };
    let named = compare("--images images --labels images.csv");
    assert_eq!(named["float"], serde_json::json!({ "top1": 1.0, "top5": 1.0 }));
    let found = compare("--images images");
    assert_eq!(named, found);
    fs::remove_file(dir.join("images.csv")).unwrap();
    let none = compare("--images images");
    assert_eq!((&none["float"], &none["int8"], number(&none["labelled"])), (&Value::Null, &Value::Null, 0.0));
    assert_eq!(none["agreement"], named["agreement"]);
}

#[test]
fn bench_reports_one_object_per_mode() {
    let dir = digits("bench");
    let line = "bench digits.onnx --modes naive,fused,int8 --batch 4 --threads 2 --iters 12 --json";
    let report = qgraph(dir.path(), line).json();
    let rows = report.as_array().unwrap();
    let modes: Vec<&str> = rows.iter().map(|r| r["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["naive", "fused", "int8"]);
    for row in rows {
        for key in ["images_per_s_median", "images_per_s_best", "gmac"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key} of {row}");
        }
        assert!(row["images_per_s_best"].as_f64() >= row["images_per_s_median"].as_f64(), "{row}");
        // Only machine code is held against a peak.
        assert_eq!(row["percent_of_peak"].as_f64().is_some_and(|p| p > 0.0), has_jit(), "{row}");
        let (batch, threads, runs) = (&row["batch"], &row["threads"], &row["runs"]);
        assert_eq!((batch, threads, runs), (&4.into(), &2.into(), &12.into()));
    }
    // The default of a .qgraph is int8; figures per image do not depend on the batch.
    // One image on two threads, three images on two: both share what does not divide.
    for line in ["--threads 2", "--threads 2 --batch 3"] {
        let rows = qgraph(dir.path(), &format!("bench digits.qgraph --iters 3 {line} --json")).json();
        assert_eq!(rows[0]["threads"], 2, "{rows}");
    }
    let int8 = qgraph(dir.path(), "bench digits.qgraph --iters 3 --json").json();
    assert_eq!((int8.as_array().unwrap().len(), &int8[0]["mode"]), (1, &"int8".into()));
    assert_eq!(int8[0]["gmac"], rows[2]["gmac"]);
    let all = qgraph(dir.path(), "bench digits.onnx --iters 2").works();
    for mode in ["naive ", "fused ", "int8 "] {
        assert!(all.lines().any(|l| l.starts_with(mode)), "{all}");
    }
    for (line, words) in [
        ("--modes float", vec!["--modes", "naive, fused, int8"]),
        ("--modes fused", vec!["run: digits.qgraph: --modes", "bench the .onnx"]),
        ("--threads 65", vec!["--threads"]),
        ("--batch 0", vec!["--batch"]),
        ("--iters 0", vec!["--iters"]),
        ("--engine eval", vec!["run: --engine eval", "use jit or interp"]),
    ] {
        qgraph(dir.path(), &format!("bench digits.qgraph {line}")).refuses(&words);
    }
}

#[test]
fn emit_prints_every_stage() {
    let dir = digits("emit");
    let cases = [
        ("graph digits.onnx", "batch_norm"),
        ("fused digits.onnx", "conv"),
        ("qgraph digits.onnx", "f32"),
        ("qgraph digits.qgraph", "u8"),
        ("plan digits.qgraph --target portable", "portable"),
        ("plan digits.qgraph --batch 2", "batch 2"),
        ("kernels digits.qgraph --target avx512vnni", "dot4"),
        ("asm digits.qgraph", "vpdpbusd"),
        ("asm --rust digits.qgraph --threads 2 --targets avxvnni", "naked_asm!"),
        ("rust digits.qgraph --weights copy", "static COPIED"),
        ("plan digits.qgraph --input u8", "input0 x: U8 [1, 16, 16, 1]"),
        ("rust digits.qgraph", "pub struct Digits {"),
        ("rust digits.qgraph --type Net --standalone --targets avxvnni", "pub mod runtime {"),
        ("rust digits.qgraph --threads 2 --weights external --batch 2", "pub const BATCH: usize = 2"),
    ];
    for (line, word) in cases {
        let stdout = qgraph(dir.path(), &format!("emit {line}")).works();
        assert!(stdout.contains(word), "no {word} in emit {line}: {}", &stdout[..stdout.len().min(400)]);
        let last = qgraph(dir.path(), &format!("emit {line} -o text")).works();
        assert_eq!((last.as_str(), fs::read_to_string(dir.join("text")).unwrap()), ("wrote text\n", stdout));
    }
    qgraph(dir.path(), "emit fused digits.qgraph").refuses(&["file: digits.qgraph", "give the .onnx"]);
    qgraph(dir.path(), "emit asm digits.qgraph --target portable")
        .refuses(&["jit: digits.qgraph", "avx512vnni"]);
    qgraph(dir.path(), "emit text digits.qgraph")
        .refuses(&["graph, fused, qgraph, plan, kernels, asm, rust"]);
    qgraph(dir.path(), "emit rust digits.onnx").refuses(&["file: digits.onnx", "`qgraph quantize`"]);
    qgraph(dir.path(), "emit rust digits.qgraph --type 7").refuses(&["emit: digits.qgraph: 7: is no name"]);
    qgraph(dir.path(), "emit rust digits.qgraph --target avx2").refuses(&["--target", "--targets avx2"]);
    qgraph(dir.path(), "emit plan digits.qgraph --rust").refuses(&["--rust", "`emit asm`"]);
    qgraph(dir.path(), "emit asm --rust digits.qgraph --target avx2")
        .refuses(&["--target", "--targets avx2"]);
    qgraph(dir.path(), "emit rust digits.qgraph -o no/model.rs").refuses(&["file: no: cannot write there"]);
    qgraph(dir.path(), "emit plan digits.qgraph --standalone").refuses(&["--standalone", "`emit rust`"]);
}

#[test]
fn disasm_shows_a_layer_and_its_kernels() {
    let dir = digits("disasm");
    let layer = "conv3b";
    for (target, dot) in
        [("avx512vnni", "vpdpbusd zmm"), ("avxvnni", "vpdpbusd ymm"), ("avx2", "vpmaddwd ymm")]
    {
        let text = qgraph(dir.path(), &format!("disasm digits.qgraph {layer} --target {target}")).works();
        assert!(text.starts_with("step ") && text.contains(&format!("{layer}: conv")), "{text}");
        assert!(text.contains("call conv_") && text.contains(dot), "no {dot}: {text}");
    }
    qgraph(dir.path(), "disasm digits.qgraph nothing").refuses(&["jit: digits.qgraph: nothing", layer]);
}

#[test]
fn bench_profiles_every_step() {
    if !Target::detect().native() {
        println!("skipped: no machine code here");
        return;
    }
    let dir = digits("profile");
    let text = qgraph(dir.path(), "bench digits.qgraph --iters 3 --profile --perf-map").works();
    for word in
        ["% of run", "GMAC/s", "predicted", "constants", "conv  [conv_u8s8_", "sum of the steps", "images/s"]
    {
        assert!(text.contains(word), "no {word}: {text}");
    }
    for option in ["--perf-map", "--jitdump"] {
        qgraph(dir.path(), &format!("bench digits.qgraph {option}")).refuses(&["--profile"]);
    }
    let rows = qgraph(dir.path(), "bench digits.qgraph --iters 3 --profile --json").json();
    let layers = rows[0]["layers"].as_array().expect("a list of layers");
    assert!(layers.len() > 8, "{rows}");
    let total: f64 = layers.iter().map(|l| l["us"].as_f64().unwrap()).sum();
    assert!(total > 0.0 && layers.iter().any(|l| l["macs"].as_u64().unwrap() > 0), "{rows}");
    for layer in layers {
        let bytes = layer["activation_bytes"].as_u64().unwrap();
        assert!(layer["predicted_us"].as_f64().unwrap() > 0.0 && bytes > 0, "{layer}");
        assert!(layer["constant_bytes"].as_u64().unwrap() > 0 || layer["macs"] == 0, "{layer}");
    }
    let line = text.lines().find(|l| l.starts_with("cost model: median error")).expect("a judgement");
    assert!(line.contains("worst") && line.contains("rank correlation"), "{line}");
}

#[test]
fn bench_tunes_and_others_use_it() {
    let dir = digits("tune");
    if !Target::detect().native() {
        qgraph(dir.path(), "bench digits.qgraph --tune").refuses(&["run: --tune", "--engine jit"]);
        return;
    }
    let text = qgraph(dir.path(), "bench digits.qgraph --iters 3 --tune --tune-cache new/t.json").works();
    assert!(text.starts_with("tuned ") && text.lines().next().unwrap().ends_with(": new/t.json"), "{text}");
    qgraph(dir.path(), "bench digits.qgraph --iters 3 --tune-cache new/t.json").works();
    let run = "run digits.qgraph --input random --digest";
    let plain = qgraph(dir.path(), run).works();
    assert_eq!(qgraph(dir.path(), &format!("{run} --tune-cache new/t.json")).works(), plain);
    // Tiles that no kernel can have.
    let cache = std::fs::read_to_string(dir.join("new/t.json")).unwrap();
    std::fs::write(dir.join("bad.json"), cache.replace("\"blocks\": ", "\"blocks\": 9")).unwrap();
    for command in [run, "bench digits.qgraph --iters 3"] {
        qgraph(dir.path(), &format!("{command} --tune-cache bad.json")).refuses(&[
            "schedule: ",
            "does not fit",
            "bad.json",
            "tune again",
        ]);
        qgraph(dir.path(), &format!("{command} --tune-cache digits.onnx"))
            .refuses(&["file: digits.onnx: is not a tune cache", "--tune-cache"]);
        qgraph(dir.path(), &format!("{command} --tune-cache none.json"))
            .refuses(&["file: none.json: no such tune cache", "bench --tune"]);
    }
    qgraph(dir.path(), "bench digits.qgraph --tune --tune-cache digits.onnx")
        .refuses(&["file: digits.onnx: is not a tune cache"]);
    qgraph(dir.path(), "bench digits.qgraph --tune --engine interp")
        .refuses(&["run: --tune", "--engine jit"]);
}

#[test]
fn explain_and_inspect_report() {
    let dir = digits("explain");
    let text = qgraph(dir.path(), "explain digits.onnx").works();
    assert!(text.lines().last().unwrap().ends_with(" became 11"), "{text}");
    let events = qgraph(dir.path(), "explain digits.onnx --json").json();
    let events = events.as_array().unwrap();
    assert!(events.iter().any(|e| e["done"] == true) && !events.is_empty());
    events.iter().for_each(|e| assert_eq!(keys(e), ["done", "message", "node", "pass"]));
    for (model, quantized) in [("digits.onnx", false), ("digits.qgraph", true)] {
        let report = qgraph(dir.path(), &format!("inspect {model} --json")).json();
        assert_eq!((report["quantized"].as_bool(), &report["name"]), (Some(quantized), &"digits".into()));
        let text = qgraph(dir.path(), &format!("inspect {model}")).works();
        assert!(
            text.contains("\ninput      x [1, 1, 16, 16] f32\noutput     logits [1, 10] f32\n"),
            "{text}"
        );
    }
}

#[test]
fn demo_prints_the_table() {
    let dir = temp_dir("demo");
    let rows = qgraph(dir.path(), "demo --json").json();
    let modes: Vec<&Value> = rows.as_array().unwrap().iter().map(|r| &r["mode"]).collect();
    assert_eq!(modes, ["float", "fused float", "int8"]);
    for row in rows.as_array().unwrap() {
        assert!(row["top1"].as_f64() >= Some(0.98) && row["agreement"].as_f64() >= Some(0.98), "{row}");
        assert!(row["images_per_s_median"].as_f64() > Some(0.0), "{row}");
    }
    qgraph(dir.path(), "demo --engine eval").refuses(&["run: --engine eval"]);
}

#[test]
fn wrong_usage_is_refused_with_code_2() {
    let dir = temp_dir("usage");
    qgraph(dir.path(), "").refuses(&["Usage: qgraph <COMMAND>", "First steps:"]);
    qgraph(dir.path(), "quantise").refuses(&["unrecognized subcommand 'quantise'", "quantize"]);
    qgraph(dir.path(), "quantize m.onnx --calib random").refuses(&["--output <OUT.qgraph>"]);
    qgraph(dir.path(), "quantize m.onnx --calib random --calib-mode kl -o m.qgraph").refuses(&["naive"]);
    qgraph(dir.path(), "run m.qgraph").refuses(&["--input"]);
    qgraph(dir.path(), "run m.qgraph --input x --engine gpu").refuses(&["jit, interp, eval"]);
    qgraph(dir.path(), "run m.onnx --input x --shape x=1x3y4")
        .refuses(&["'x=1x3y4' is not NAME=1x3x224x224"]);
    qgraph(dir.path(), "run m.onnx --input x --mean 1,two").refuses(&["--mean", "two"]);
    qgraph(dir.path(), "compare m.onnx m.qgraph").refuses(&["--images"]);
    qgraph(dir.path(), "inspect m.qgraph --bogus").refuses(&["'--bogus'", "Usage: qgraph inspect"]);
    let version = qgraph(dir.path(), "--version").works();
    assert_eq!(version, format!("qgraph {}\n", env!("CARGO_PKG_VERSION")));
    let help = qgraph(dir.path(), "help run").works();
    assert_eq!(help, qgraph(dir.path(), "run --help").works());
}

#[test]
fn output_that_cannot_be_written_is_refused_by_name() {
    let dir = digits("output");
    let cases = [
        (
            "quantize digits.onnx --calib random -o no/m.qgraph",
            vec!["file: no/m.qgraph", "folder does not exist"],
        ),
        ("quantize digits.onnx -o m.qgraph", vec!["calibrate: digits.onnx", "--calib", "--profile"]),
        ("quantize digits.onnx --calib random -o images", vec!["file: images", "is a folder"]),
        ("quantize digits.onnx --calib random -o digits.onnx", vec!["file: digits.onnx", "OUT.qgraph"]),
        ("quantize digits.onnx --calib random --save-profile no/p -o m.qgraph", vec!["calibrate: no/p"]),
        ("run digits.qgraph --input random --output no/y.npy", vec!["data: no/y.npy", "cannot be written"]),
        ("emit graph digits.onnx -o no/graph", vec!["file: no/graph", "cannot write"]),
    ];
    let before = fs::read(dir.join("digits.onnx")).unwrap();
    for (line, words) in cases {
        qgraph(dir.path(), line).refuses(&words);
    }
    assert_eq!(fs::read(dir.join("digits.onnx")).unwrap(), before);
    assert!(!dir.join("m.qgraph").exists());
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let dir = digits("pipe");
    for line in
        ["emit kernels digits.qgraph", "inspect digits.qgraph", "explain digits.onnx --json", "--help"]
    {
        let mut child =
            command(dir.path(), line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
}

/// What is refused is the user's doing; a full disk is not.
#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_printed_is_code_1() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let dir = temp_dir("full");
    let out = command(dir.path(), "--help").stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("qgraph: the result cannot be printed: "), "{stderr}");
}
