//! Files that are not what they claim: import answers with a graph or an error, never a panic, and reads nothing outside of
//! the model's folder.

use super::*;
use crate::support::temp_dir;
use qgraph_compiler::graph::Op;
use qgraph_compiler::onnx::import as import_file;
use qgraph_compiler::onnx::proto::{StringStringEntryProto, TensorProto, data_type};
use std::path::Path;

/// A bit of everything, with shape arithmetic.
fn sample() -> Model {
    Model::new(11)
        .symbolic_input("x", "N,3,8,8")
        .weight("w", &[4, 3, 3, 3], 1)
        .weight("b", &[4], 2)
        .node("Conv", &["x", "w", "b"], &["c"], &[text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])])
        .weight("g", &[4], 3)
        .floats("v", &[4], &[1.0; 4])
        .node("BatchNormalization", &["c", "g", "b", "b", "v"], &["n"], &[float("epsilon", 0.1)])
        .node("MaxPool", &["n"], &["p"], &[ints("kernel_shape", &[2, 2]), int("ceil_mode", 1)])
        .floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0])
        .node("Resize", &["p", "", "scales"], &["r"], &[text("mode", "linear")])
        .node(
            "ConvTranspose",
            &["r", "w"],
            &["t"],
            &[ints("output_shape", &[9, 9]), ints("strides", &[1, 1])],
        )
        .node("Split", &["t"], &["s1", "s2"], &[int("axis", 2), ints("split", &[4, 5])])
        .node("Concat", &["s1", "s2"], &["u"], &[int("axis", 2)])
        .node("Softmax", &["u"], &["m"], &[])
        .node("Shape", &["m"], &["shape"], &[])
        .node("Constant", &[], &["zero"], &[tensor("value", int_tensor(&[], &[0]))])
        .node("Gather", &["shape", "zero"], &["batch"], &[])
        .node("Unsqueeze", &["batch"], &["batch1"], &[ints("axes", &[0])])
        .ints("rest", &[-1])
        .node("Concat", &["batch1", "rest"], &["to"], &[int("axis", 0)])
        .node("Reshape", &["m", "to"], &["f"], &[])
        .ints("from", &[0])
        .ints("end", &[100])
        .ints("axis", &[1])
        .node("Slice", &["f", "from", "end", "axis"], &["g1"], &[])
        .weight("fc", &[100, 5], 4)
        .node("Gemm", &["g1", "fc"], &["y"], &[float("alpha", 0.5)])
        .output("y")
}

fn survives(bytes: &[u8]) -> bool {
    match import_bytes(bytes, &Options::default()) {
        Ok(graph) => assert_eq!(verify(&graph), []),
        Err(e) => assert!(e.stage == Stage::Import && !e.problems.is_empty() && !e.to_string().is_empty()),
    }
    true
}

/// xorshift64*
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn truncations() {
    let bytes = sample().bytes();
    assert!(import_bytes(&bytes, &Options::default()).is_ok(), "{}", error(&sample()));
    for end in (0..bytes.len()).step_by(37) {
        assert!(import_bytes(&bytes[..end], &Options::default()).is_err(), "{end} of {} bytes", bytes.len());
    }
}

#[test]
fn flipped_bits() {
    // Without the weights' contents, where a flipped bit changes little.
    let mut model = sample();
    for t in &mut model.graph().initializer {
        t.dims.iter_mut().filter(|d| **d == 100).for_each(|d| *d = 1);
        t.float_data.truncate(t.dims.iter().product::<i64>() as usize);
    }
    let mut state = 20_240_607;
    for bytes in [sample().bytes(), model.bytes()] {
        for _ in 0..4000 {
            let mut flipped = bytes.clone();
            for _ in 0..1 + random(&mut state) % 3 {
                let bit = random(&mut state) as usize % (8 * flipped.len());
                flipped[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(survives(&flipped));
        }
    }
}

/// Every integer of every attribute and constant, replaced by ones that overflow careless arithmetic.
#[test]
fn extreme_integers() {
    let extremes = [
        i64::MIN,
        i64::MIN + 1,
        -(1 << 32),
        -2,
        -1,
        0,
        1,
        2,
        3,
        7,
        1 << 31,
        (1 << 31) + 1,
        1 << 32,
        1 << 62,
        i64::MAX,
    ];
    let model = sample();
    let nodes = model.clone().graph().node.len();
    let mut tried = 0;
    let mut check = |change: &dyn Fn(&mut Model) -> bool| {
        let mut changed = model.clone();
        if change(&mut changed) {
            tried += survives(&changed.bytes()) as usize;
        }
    };
    for extreme in extremes {
        for node in 0..nodes {
            for k in 0..3 {
                check(&|m| match m.graph().node[node].attribute.get_mut(k) {
                    Some(a) => {
                        a.i = extreme;
                        true
                    }
                    None => false,
                });
                for entry in 0..4 {
                    check(&|m| {
                        let list = m.graph().node[node].attribute.get_mut(k).map(|a| &mut a.ints);
                        list.and_then(|l| l.get_mut(entry)).map(|i| *i = extreme).is_some()
                    });
                }
            }
        }
        for constant in 0..model.clone().graph().initializer.len() {
            for entry in 0..4 {
                check(&|m| {
                    let t = &mut m.graph().initializer[constant];
                    t.int64_data.get_mut(entry).map(|i| *i = extreme).is_some()
                });
                check(&|m| {
                    let t = &mut m.graph().initializer[constant];
                    t.dims.get_mut(entry).map(|i| *i = extreme).is_some()
                });
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

/// Operands left out, repeated and swapped.
#[test]
fn scrambled_operands() {
    let model = sample();
    let mut state = 7;
    let names: Vec<String> = {
        let mut m = model.clone();
        let outputs = m.graph().node.iter().flat_map(|n| n.output.clone()).collect::<Vec<_>>();
        let constants = m.graph().initializer.iter().map(|t| t.name.clone());
        outputs.into_iter().chain(constants).chain([String::new(), "x".into()]).collect()
    };
    for _ in 0..3000 {
        let mut m = model.clone();
        let nodes = &mut m.graph().node;
        let node = random(&mut state) as usize % nodes.len();
        let node = &mut nodes[node];
        match random(&mut state) % 5 {
            0 => node.input.clear(),
            1 => node.output.clear(),
            2 => node.input.push(names[random(&mut state) as usize % names.len()].clone()),
            3 => node.op_type = model.clone().graph().node[random(&mut state) as usize % 10].op_type.clone(),
            _ => {
                let k = random(&mut state) as usize % node.input.len().max(1);
                if let Some(input) = node.input.get_mut(k) {
                    *input = names[random(&mut state) as usize % names.len()].clone();
                }
            }
        }
        assert!(survives(&m.bytes()));
    }
}

#[test]
fn not_models_at_all() {
    let says = |bytes: &[u8], word: &str| {
        let e = import_bytes(bytes, &Options::default()).unwrap_err().to_string();
        assert!(e.contains(word), "{e:?} does not say {word:?}");
    };
    says(b"", "not an ONNX model");
    says(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull");
    says(b"\x89PNG\r\n\x1a\n and so on", "not an ONNX model");
    says(&[0x0b; 100_000], "not an ONNX model");
    let dir = temp_dir("not-models");
    let e = import_file(&dir.join("none.onnx"), &Options::default()).unwrap_err().to_string();
    assert!(e.contains("none.onnx"), "{e}");
    let e = import_file(dir.path(), &Options::default()).unwrap_err().to_string();
    assert!(e.contains("not a file"), "{e}");
    std::fs::write(dir.join("empty.onnx"), b"").unwrap();
    let e = import_file(&dir.join("empty.onnx"), &Options::default()).unwrap_err().to_string();
    assert!(e.contains("empty.onnx: is not an ONNX model"), "{e}");
}

#[test]
fn a_file_above_two_gigabytes_is_not_read() {
    let dir = temp_dir("huge");
    let file = std::fs::File::create(dir.join("huge.onnx")).unwrap();
    // Sparse: it takes no space.
    file.set_len((2 << 30) + 1).unwrap();
    let e = import_file(&dir.join("huge.onnx"), &Options::default()).unwrap_err().to_string();
    assert!(e.contains("2 GiB"), "{e}");
}

/// x + c with c in another file.
fn external(entries: &[(&str, &str)]) -> Model {
    let entry =
        |&(key, value): &(&str, &str)| StringStringEntryProto { key: key.into(), value: value.into() };
    let c = TensorProto {
        dims: vec![2],
        data_type: data_type::FLOAT,
        data_location: 1,
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    };
    one(13, "Add", &["x", "c"], &[]).input("x", &[2]).constant("c", c)
}

fn import_in(dir: &Path, model: &Model) -> Result<Graph, Error> {
    std::fs::write(dir.join("model.onnx"), model.bytes()).unwrap();
    import_file(&dir.join("model.onnx"), &Options::default())
}

#[test]
fn external_data() {
    let dir = temp_dir("external");
    let data: Vec<u8> = [0.5f32, 1.0, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::create_dir(dir.join("weights")).unwrap();
    std::fs::write(dir.join("weights/c.bin"), &data).unwrap();
    let place = [("location", "weights/c.bin"), ("offset", "4"), ("length", "8")];
    let graph = import_in(dir.path(), &external(&place)).unwrap();
    assert!(matches!(graph.nodes[0].op, Op::Binary(_)));
    assert_eq!(graph.constant(graph.nodes[0].inputs[1]).unwrap().data[..], [1.0, -2.0]);
    // From memory there is no folder.
    refuses(external(&place), &["c", "memory"]);
    let says = |entries: &[(&str, &str)], word: &str| {
        let e = import_in(dir.path(), &external(entries)).unwrap_err().to_string();
        assert!(e.contains(word), "{e:?} does not say {word:?}");
    };
    says(&[], "location");
    says(&[("location", "weights/none.bin")], "none.bin");
    says(&[("location", "weights")], "not a file");
    says(&[("location", "weights/c.bin"), ("offset", "5")], "12");
    says(&[("location", "weights/c.bin"), ("offset", "18446744073709551615")], "12");
    says(&[("location", "weights/c.bin"), ("offset", "-1")], "not a number");
    says(&[("location", "weights/c.bin"), ("length", "12")], "8 bytes");
    let mut huge = external(&place);
    huge.graph().initializer[0].dims = vec![1 << 31];
    huge.graph().initializer[0].external_data.truncate(1);
    let e = import_in(dir.path(), &huge).unwrap_err().to_string();
    assert!(e.contains("12"), "{e}");
}

#[test]
fn external_data_outside_of_the_folder() {
    let outer = temp_dir("outer");
    let data = outer.join("secret.bin");
    std::fs::write(&data, [0; 8]).unwrap();
    let dir = outer.join("model");
    std::fs::create_dir(&dir).unwrap();
    let says = |location: &str| {
        let e = import_in(&dir, &external(&[("location", location)])).unwrap_err().to_string();
        assert!(e.contains("not inside"), "{location}: {e}");
    };
    says("../secret.bin");
    says("./../secret.bin");
    says("sub/../../secret.bin");
    says(data.to_str().unwrap());
    says("/dev/zero");
    says("/proc/self/environ");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&data, dir.join("link.bin")).unwrap();
        says("link.bin");
        std::os::unix::fs::symlink(outer.path(), dir.join("up")).unwrap();
        says("up/secret.bin");
        // Within the folder a link is fine.
        std::fs::write(dir.join("c.bin"), [0; 8]).unwrap();
        std::os::unix::fs::symlink(dir.join("c.bin"), dir.join("inside.bin")).unwrap();
        import_in(&dir, &external(&[("location", "inside.bin")])).unwrap();
    }
}

/// Large models are slow only in proportion.
#[test]
fn many_nodes_and_equal_names() {
    let mut model = Model::new(13).input("x", &[1]);
    for k in 0..20_000 {
        let (from, to) = (if k == 0 { "x".into() } else { format!("v{k}") }, format!("v{}", k + 1));
        model = model.node("Relu", &[&from], &[&to], &[]).named("same");
    }
    let start = std::time::Instant::now();
    let graph = import_bytes(&model.output("v20000").bytes(), &Options::default()).unwrap();
    assert_eq!(graph.nodes.len(), 20_000);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
