//! The `.qgraph` file: what is written is read, version 1 is read forever, and nothing else is believed.

pub(crate) mod graphs;
mod hostile;

use crate::support::{temp_dir, workspace_root};
use graphs::{everything, input, tiny};
use proptest::prelude::*;
use qgraph_compiler::qgraph::eval::eval;
use qgraph_compiler::qgraph::file::{from_bytes, load, save, to_bytes};
use qgraph_compiler::qgraph::{QGraph, QOp, QType};
use qgraph_runtime::requant::Rounding;
use safetensors::SafeTensors;

/// Bytes of the header, with the 8 of its length.
fn head_len(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// The message of a file that must be refused.
fn refusal(bytes: &[u8]) -> String {
    match from_bytes(bytes) {
        Ok(_) => panic!("a bad file was read"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn what_is_written_is_read() {
    let zero_last = QGraph { rounding: Rounding::ZeroLast, ..tiny() };
    assert!(zero_last.to_string().contains("\nzero points last\n"), "{zero_last}");
    for graph in [tiny(), everything(), zero_last] {
        let bytes = to_bytes(&graph);
        let back = from_bytes(&bytes).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back, graph);
        assert_eq!(to_bytes(&back), bytes, "the same graph gives the same bytes");
        let dir = temp_dir("qgraph-file");
        let path = dir.join("g.qgraph");
        save(&graph, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(load(&path).unwrap(), graph);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }
}

#[test]
fn safetensors_opens_it_and_everything_is_aligned() {
    let graph = everything();
    let bytes = to_bytes(&graph);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(head_len(&bytes) % 64, 0);
    for (k, blob) in graph.blobs.iter().enumerate() {
        let tensor = file.tensor(&blob.name).unwrap();
        assert_eq!(tensor.shape(), blob.shape, "{}", blob.name);
        assert_eq!(tensor.data(), &graph.data[blob.offset..][..blob.bytes()], "{}", blob.name);
        let at = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(at % 64, 0, "blob {k}");
    }
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let strings = metadata.metadata().clone().unwrap();
    assert_eq!(strings["format_version"], "1");
    let json: serde_json::Value = serde_json::from_str(&strings["qgraph"]).unwrap();
    assert_eq!(json["nodes"].as_array().unwrap().len(), graph.nodes.len());
}

/// The frozen file was written by the first version. It must load, and compute these numbers, forever.
/// (Written by `QGRAPH_FREEZE=1`; never overwrite it: add a v2 beside it.)
#[test]
fn version_1_loads_forever() {
    let dir = workspace_root().join("tests/frozen");
    let path = dir.join("v1_tiny.qgraph");
    if std::env::var_os("QGRAPH_FREEZE").is_some() && !path.exists() {
        save(&tiny(), &path).unwrap();
    }
    let graph = load(&path).unwrap_or_else(|e| panic!("{e}"));
    let mut digest = Vec::new();
    let outputs = eval(&graph, &[input(&graph)], &mut |name, data| {
        digest.push(format!("{name}: {data:?}"));
    })
    .unwrap();
    // Not a snapshot that a tool may accept anew: the numbers of this file are part of the format.
    let text = format!("{graph}\n{}\n{outputs:?}\n", digest.join("\n"));
    let expected = dir.join("v1_tiny.txt");
    if std::env::var_os("QGRAPH_FREEZE").is_some() && !expected.exists() {
        std::fs::write(&expected, &text).unwrap();
    }
    let expected = std::fs::read_to_string(expected).unwrap();
    let numbers = |s: &str| s.split_once("\n\n").map(|(_, numbers)| numbers.to_owned());
    assert_eq!(numbers(&text), numbers(&expected));
}

#[test]
fn truncated_files_are_refused() {
    let bytes = to_bytes(&tiny());
    for n in 0..bytes.len() {
        refusal(&bytes[..n]);
    }
    assert!(refusal(&bytes[..bytes.len() - 1]).contains("truncated"));
    let longer = [&bytes[..], &[0; 64]].concat();
    assert!(refusal(&longer).contains("damaged"));
}

#[test]
fn flipped_bits_are_refused() {
    let mut bytes = to_bytes(&tiny());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(from_bytes(&bytes).is_err(), "bit {bit} of byte {at} was not missed");
            bytes[at] ^= 1 << bit;
        }
    }
    from_bytes(&bytes).unwrap();
}

#[test]
fn mistakes_are_recognised() {
    let says = |bytes: &[u8], what: &str| {
        let message = refusal(bytes);
        assert!(message.contains(what), "{message}");
    };
    says(b"", "empty");
    says(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git lfs pull");
    says(&[0x08, 0x07, 0x12, 0x07, b'p', b'y', b't', b'o', b'r', b'c', b'h'], "ONNX");
    says(b"{\"nodes\": []}          ", "not a .qgraph");
    says(&[&16u64.to_le_bytes()[..], b"this is not JSON"].concat(), "not JSON");
    says(&[&2u64.to_le_bytes()[..], b"{}"].concat(), "without a graph");
    let bytes = to_bytes(&tiny());
    let newer = String::from_utf8_lossy(&bytes[..head_len(&bytes)])
        .replace("\"format_version\":\"1\"", "\"format_version\":\"7\"");
    says(&[newer.as_bytes(), &bytes[head_len(&bytes)..]].concat(), "newer qgraph (format 7");
    let dir = temp_dir("qgraph-none");
    let missing = load(&dir.join("none.qgraph")).unwrap_err().to_string();
    assert!(missing.contains("none.qgraph") && missing.contains("cannot read"), "{missing}");
}

#[test]
fn every_operation_prints() {
    let text = everything().to_string();
    for word in
        ["quantize", "conv3x3", "residual", "groups", "max_pool", "avg_pool", "ratio", "affine", "clamp"]
    {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    assert_eq!(text.lines().filter(|l| l.starts_with("  ")).count(), everything().nodes.len());
    assert!(text.contains("# float: sensitive"), "{text}");
}

/// A graph whose clamp and scale are these numbers.
fn with_numbers(scale: f32, lo: f32, hi: f32) -> QGraph {
    let mut graph = everything();
    for node in &mut graph.nodes {
        if let QOp::Binary { lo: l, hi: h, .. } = &mut node.op {
            (*l, *h) = (lo, hi);
        }
    }
    for value in &mut graph.values {
        if let QType::U8 { scale: s, .. } = &mut value.ty {
            *s = scale;
        }
    }
    graph
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn floats_keep_their_bits(bits in 0x0080_0000u32..0x7e00_0000, a in any::<f32>(), b in any::<f32>()) {
        let (lo, hi) = if a < b { (a, b) } else { (b, a) };
        prop_assume!(lo < f32::INFINITY && hi > f32::NEG_INFINITY);
        let graph = with_numbers(f32::from_bits(bits), lo, hi);
        let back = from_bytes(&to_bytes(&graph)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(back, graph);
    }
}
