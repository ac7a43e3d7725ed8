//! Files with a right checksum and wrong contents: the graph's JSON is changed at random, and the table of tensors made
//! to fit. Each is refused or, if it happens to be valid, computes: never a panic.

use super::graphs::{everything, tiny};
use super::head_len;
use crate::support::hex;
use qgraph_compiler::error::Result;
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::qgraph::eval::eval;
use qgraph_compiler::qgraph::file::{from_bytes, to_bytes};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The same numbers in every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// The file of this graph, whatever it says, with a right checksum and table.
fn forge(graph: &Value, data: &[u8]) -> Vec<u8> {
    let text = graph.to_string();
    let mut hash = Sha256::new();
    for s in ["1", "test", &text] {
        hash.update((s.len() as u64).to_le_bytes());
        hash.update(s);
    }
    hash.update(data);
    let sum = hex(&hash.finalize());
    let mut header = serde_json::Map::new();
    let strings = json!({"format_version": "1", "generator": "test", "qgraph": text, "sha256": sum});
    header.insert("__metadata__".into(), strings);
    let mut at = 0usize;
    for (k, blob) in graph["blobs"].as_array().into_iter().flatten().enumerate() {
        let size = if matches!(blob["type"].as_str(), Some("I8" | "U8")) { 1 } else { 4 };
        let extents =
            blob["shape"].as_array().into_iter().flatten().map(|x| x.as_u64().unwrap_or(0) as usize);
        let end = at.wrapping_add(extents.fold(size, usize::wrapping_mul));
        let name = blob["name"].as_str().unwrap_or("").to_owned();
        header
            .insert(name, json!({"dtype": blob["type"], "shape": blob["shape"], "data_offsets": [at, end]}));
        at = end.checked_next_multiple_of(64).unwrap_or(0);
        if at > end {
            let pad = json!({"dtype": "U8", "shape": [at - end], "data_offsets": [end, at]});
            header.insert(format!("__pad_{k}"), pad);
        }
    }
    let mut header = Value::Object(header).to_string();
    while !(8 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The graph's JSON and data.
fn take_apart(graph: &QGraph) -> (Value, Vec<u8>) {
    let bytes = to_bytes(graph);
    let head = head_len(&bytes);
    let header: Value = serde_json::from_slice(&bytes[8..head]).unwrap();
    let text = header["__metadata__"]["qgraph"].as_str().unwrap();
    (serde_json::from_str(text).unwrap(), bytes[head..].to_vec())
}

/// Reads and, if it can be and is small, runs. A panic fails the test with the file's text.
fn try_file(json: &Value, data: &[u8]) -> Result<()> {
    let bytes = forge(json, data);
    let run = || {
        let graph = from_bytes(&bytes)?;
        let _ = graph.to_string();
        let size: usize = graph.values.iter().map(|v| v.shape.iter().product::<usize>()).sum();
        if size < 1 << 20 && !graph.inputs.is_empty() {
            let inputs: Vec<_> =
                graph.inputs.iter().map(|&id| vec![0.5; graph.value(id).shape.iter().product()]).collect();
            eval(&graph, &inputs, &mut |_, _| {})?;
        }
        Ok(())
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("panicked on {json}"))
}

/// Every place in the JSON, as a list of steps.
fn places(value: &Value, path: &str, out: &mut Vec<String>) {
    out.push(path.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| places(v, &format!("{path}/{i}"), out))
        }
        Value::Object(map) => map.iter().for_each(|(k, v)| {
            places(v, &format!("{path}/{}", k.replace('~', "~0").replace('/', "~1")), out)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Another value for this place.
fn changed(old: &Value, rng: &mut Random) -> Value {
    let integers: [i64; 15] =
        [0, 1, 2, 3, 7, 16, 255, 256, 65536, 1 << 24, 1 << 31, u32::MAX as i64, i64::MAX, -1, i64::MIN];
    let floats = [0.0, -1.0, 0.5, 1e-40, 1e-30, 1e30, 3.4e38, 1e300, 257.0, -0.0];
    match (old, rng.below(4)) {
        (Value::Number(n), 0) if n.is_u64() => json!(n.as_u64().unwrap().wrapping_add(1)),
        (Value::Number(n), 1) if n.is_u64() => json!(n.as_u64().unwrap().saturating_sub(1)),
        (Value::Number(n), 2) if n.is_f64() => json!(floats[rng.below(floats.len())]),
        (Value::Number(_), _) => json!(integers[rng.below(integers.len())]),
        (Value::Array(items), 0) => Value::Array(items.iter().skip(1).cloned().collect()),
        (Value::Array(items), 1) => items.iter().chain(items.first()).cloned().collect(),
        (Value::Array(_), 2) => json!([]),
        (Value::Array(items), _) => items.iter().rev().cloned().collect(),
        (Value::Object(map), _) => {
            let mut map = map.clone();
            let key = map.keys().nth(rng.below(map.len().max(1))).cloned();
            key.map(|k| map.remove(&k));
            Value::Object(map)
        }
        (Value::String(_), 0) => json!("inf"),
        (Value::String(_), 1) => json!(""),
        (Value::String(_), _) => json!("F32"),
        (Value::Bool(b), _) => json!(!b),
        (Value::Null, _) => json!(1),
    }
}

#[test]
fn changed_graphs_are_refused_or_compute() {
    let mut rng = Random(1);
    let (mut refused, mut valid) = (0, 0);
    for (graph, rounds) in [(tiny(), 2000), (everything(), 4000)] {
        let (json, data) = take_apart(&graph);
        try_file(&json, &data).unwrap_or_else(|e| panic!("the unchanged graph: {e}"));
        let mut all = Vec::new();
        places(&json, "", &mut all);
        for _ in 0..rounds {
            let mut json = json.clone();
            for _ in 0..=rng.below(2) {
                let place = &all[rng.below(all.len())];
                if let Some(value) = json.pointer_mut(place) {
                    *value = changed(value, &mut rng);
                }
            }
            match try_file(&json, &data) {
                Ok(()) => valid += 1,
                Err(_) => refused += 1,
            }
        }
    }
    // Both kinds must really have been tried.
    assert!(refused > 1000 && valid > 50, "{refused} refused, {valid} valid");
}

/// The data may be anything: only rules about weights and constants can be broken by it.
#[test]
fn changed_data_is_refused_or_computes() {
    let mut rng = Random(1);
    let (json, data) = take_apart(&tiny());
    for _ in 0..500 {
        let mut data = data.clone();
        let at = rng.below(data.len());
        data[at] = rng.below(256) as u8;
        let _ = try_file(&json, &data);
    }
    let all_ones = vec![0xff; data.len()];
    assert!(try_file(&json, &all_ones).is_err(), "scales that are not numbers");
}

/// One rule each, with the words that a user reads.
#[test]
fn rules_are_named() {
    let (json, data) = take_apart(&tiny());
    let says = |place: &str, value: Value, what: &str| {
        let mut json = json.clone();
        *json.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = value;
        let message =
            try_file(&json, &data).err().unwrap_or_else(|| panic!("{place} was accepted")).to_string();
        assert!(message.contains(what), "{place}: {message}");
    };
    let arithmetic = "/nodes/1/op/Conv/arithmetic/Integer";
    says("/nodes/1/inputs/0", json!(99), "does not exist");
    says("/nodes/1/inputs/0", json!(5), "before it is made");
    says("/nodes/1/output", json!(1), "made already");
    says("/nodes/1/op/Conv/groups", json!(0), "groups");
    says("/nodes/1/op/Conv/groups", json!(3), "weight");
    says("/nodes/1/op/Conv/window/strides/0", json!(0), "at least 1");
    says("/nodes/1/op/Conv/window/pads/0", json!(u64::MAX), "at most 65536");
    says("/nodes/1/op/Conv/window/kernel/0", json!(9), "spans 9");
    says("/nodes/1/op/Conv/window/pads/0", json!(2), "should have shape");
    says("/nodes/1/op/Conv/weight", json!(77), "blob 77");
    says("/nodes/1/op/Conv/bias", json!(0), "bias");
    says(&format!("{arithmetic}/lo"), json!(250), "clamp");
    says("/nodes/3/op/Conv/arithmetic/Integer/residual/scale", json!(300.0), "outside 2^-64");
    says("/nodes/3/op/Conv/arithmetic/Integer/residual/k", json!(1e9), "2^24");
    says("/nodes/3/op/Conv/arithmetic/Integer/residual", Value::Null, "operands");
    says("/nodes/4/op/AvgPool/ratio", json!(1e9), "outside 2^-64");
    says("/values/1/type/U8/scale", json!(0.0), "scale");
    says("/values/1/shape/1", json!(1u64 << 40), "extents");
    says("/values/2/name", json!("q"), "same name");
    says("/values/0/type", json!({"U8": {"scale": 1.0, "zero_point": 0}}), "must be f32");
    says("/outputs", json!([]), "no outputs");
    says("/outputs", json!([0]), "both input and output");
    says("/outputs", json!([7, 7]), "output twice");
    says("/preprocess/std", json!([0.0]), "std");

    let graph = tiny();
    let weight = graph.blobs.iter().find(|b| b.name == "weight").unwrap();
    let with = |at: usize, byte: u8| {
        let mut data = data.clone();
        data[at] = byte;
        try_file(&json, &data).unwrap_err().to_string()
    };
    assert!(with(weight.offset, 0x80).contains("−128"));
    // Six output channels: the lanes of the others only fill the block.
    assert!(with(weight.offset + 6 * 4, 1).contains("beyond the last channel"));
    // 3·3 bytes of a kernel row take three steps, of which the last holds one.
    assert!(with(weight.offset + 2 * 64 + 1, 1).contains("beyond the last channel"));
    let bias = graph.blobs.iter().find(|b| b.name == "bias").unwrap();
    assert!(with(bias.offset + 3, 0x7f).contains("beyond 32 bits"));
}

/// The same for the other operations.
#[test]
fn rules_of_operations_are_named() {
    let graph = everything();
    let (json, data) = take_apart(&graph);
    let says = |node: &str, place: &str, value: Value, what: &str| {
        let mut json = json.clone();
        let at = graph.nodes.iter().position(|n| n.name == node).unwrap_or_else(|| panic!("no {node}"));
        let place = format!("/nodes/{at}{place}");
        *json.pointer_mut(&place).unwrap_or_else(|| panic!("no {place} in {node}")) = value;
        let message =
            try_file(&json, &data).err().unwrap_or_else(|| panic!("{place} was accepted")).to_string();
        assert!(message.contains(node) && message.contains(what), "{place}: {message}");
    };
    says("quantize", "/op", json!("Dequantize"), "takes u8");
    says("float", "/inputs", json!([0]), "residual");
    says("affine u8", "/op/Affine/lo", json!(0.5), "integer 0..=255");
    says("affine f32", "/op/Affine/lo", json!("inf"), "empty");
    says("affine f32", "/op/Affine/scale", json!(0), "scale");
    says("prelu", "/op/PRelu", json!(0), "slope");
    says("table", "/op/Table", json!(0), "table");
    says("tables", "/op/Table", json!(0), "table");
    says("add", "/op/Add/a", json!(-0.5), "outside 2^-64");
    says("add", "/op/Add/b", json!(0.0), "outside 2^-64");
    says("mul", "/op/Mul/scale", json!(-0.1), "outside 2^-64");
    says("Add", "/op/Binary/hi", json!(-2.0), "empty");
    says("unary clip(-0.5, 0.7)", "/op/Unary/Clip/lo", json!(1.0), "empty");
    says("max u8", "/op/MaxPool/pads/0", json!(3), "wholly outside");
    says("average f32", "/op/AvgPool/ratio", json!(2.0), "1 for f32");
    says("average u8", "/op/AvgPool/window/kernel", json!([65536, 65536]), "spans");
    says("slice u8", "/op/Slice/1/start", json!(4), "outside 0..4");
    says("slice u8", "/op/Slice/1/step", json!(i64::MIN), "outside 0..4");
    says("pad u8", "/op/Pad/fill", json!("inf"), "integer 0..=255");
    says("pad u8", "/op/Pad/pads/0/0", json!(u64::MAX), "too large");
    says("transpose u8", "/op/Transpose/0", json!(1), "permutation");
    says("reshape u8", "/inputs/0", json!(2_000_000_000), "does not exist");
    says("depth to space u8", "/op/DepthToSpace/block/0", json!(3), "blocks of 3×1");
    says("depth to space u8", "/op/DepthToSpace/crop/0", json!(12), "leaves nothing");
    says("nearest u8", "/op/ResizeNearest/rows/0", json!(6), "outside 0..6");
    says("linear", "/op/ResizeLinear/rows/0/frac", json!(1.5), "outside 0..=1");
    says("linear", "/op/ResizeLinear/cols/0/hi", json!(6), "outside 0..6");
    says("concat u8", "/op/Concat/axis", json!(4), "no axis 4");
    says("concat u8", "/inputs/1", json!(0), "keeps type and scale");
    says("softmax", "/op/Softmax/axis", json!(4), "no axis 4");
    says("normalize", "/op/Lrn/size", json!(0), "size");
    says("constant", "/op/Constant", json!(0), "constant");

    let at = graph.values.iter().position(|v| v.name == "tables").unwrap();
    for (factors, what) in [(json!([1.0]), "1 factors"), (json!([1.0, 0.0, 1.0, 1.0]), "a factor is 0")] {
        let mut json = json.clone();
        *json.pointer_mut(&format!("/values/{at}/factors")).unwrap() = factors;
        let message = try_file(&json, &data).unwrap_err().to_string();
        assert!(message.contains("tables") && message.contains(what), "{message}");
    }
}
