//! The rules of the tree itself, read from its sources: who may import whom, sizes, first lines, words that say "unfinished".
//!
//! Each rule is a function from a file's path and text to what is wrong with it. One test applies them to every file; another to bad
//! samples, so that each rule is known to find what it is for.

use crate::support::workspace_root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may `use crate::…` whom in `compiler/src`: a module, and the modules it may name. A row names rows above it only, so data flows
/// down. New imports are entered here on purpose, or not made.
const IMPORTS: [(&str, &[&str]); 27] = [
    ("error", &[]),
    ("assembly", &[]),
    ("magic", &[]),
    ("blob", &[]),
    ("few", &[]),
    ("target", &[]),
    ("preprocess", &[]),
    ("kernel", &[]),
    ("graph", &["error"]),
    ("onnx", &["error", "magic", "graph"]),
    ("fuse", &["error", "graph"]),
    ("data", &["error", "magic", "preprocess"]),
    ("calib", &["error", "preprocess", "graph"]),
    ("qgraph", &["error", "magic", "blob", "preprocess"]),
    ("draw", &["graph", "qgraph"]),
    ("quant", &["error", "preprocess", "graph", "calib", "qgraph"]),
    ("assess", &["graph", "qgraph", "quant"]),
    ("export", &["error", "onnx", "qgraph"]),
    ("plan", &["error", "blob", "few", "target", "kernel"]),
    ("lower", &["error", "blob", "target", "preprocess", "kernel", "qgraph", "plan"]),
    ("jit", &["error", "assembly", "target", "kernel", "plan"]),
    ("rust", &["error", "assembly", "target", "kernel", "plan"]),
    (
        "runner",
        &["error", "assembly", "blob", "few", "target", "preprocess", "qgraph", "plan", "lower", "jit"],
    ),
    ("fallback", &["error", "graph", "calib", "qgraph", "quant", "assess", "target", "lower", "runner"]),
    ("tune", &["error", "blob", "target", "qgraph", "lower", "jit"]),
    (
        "pipeline",
        &[
            "error",
            "assembly",
            "target",
            "preprocess",
            "graph",
            "onnx",
            "fuse",
            "calib",
            "qgraph",
            "quant",
            "fallback",
            "export",
            "plan",
            "lower",
            "jit",
            "rust",
            "runner",
        ],
    ),
    ("build", &["error", "target", "onnx", "calib", "qgraph", "quant", "lower", "rust", "pipeline"]),
];

/// Section 1 of the design: what a module must not reach, not even through others.
const NEVER: [(&str, &[&str]); 10] = [
    ("graph", &["onnx", "qgraph", "kernel"]),
    ("fuse", &["onnx", "qgraph", "kernel"]),
    ("qgraph", &["graph", "onnx", "calib"]),
    ("kernel", &["qgraph", "graph", "plan"]),
    ("plan", &["graph", "onnx", "qgraph", "lower"]),
    ("lower", &["graph", "onnx", "calib", "quant", "jit", "rust"]),
    // Backends know kernels and plans: never an operator, nor what made the plan, nor each other.
    ("jit", &["graph", "onnx", "qgraph", "quant", "lower", "rust"]),
    ("rust", &["graph", "onnx", "qgraph", "quant", "lower", "jit"]),
    ("runner", &["graph", "onnx", "fuse", "calib", "quant"]),
    ("data", &["graph", "onnx", "qgraph"]),
];

/// No file of this repository is larger, in bytes.
const MAX_FILE: usize = 600 << 10;
const MAX_LINES: usize = 600;
const MAX_PIPELINE_LINES: usize = 150;

#[test]
fn every_file_keeps_the_rules() {
    let root = workspace_root();
    let files = files(&root);
    for known in ["README.md", "compiler/src/pipeline.rs", "tests/src/tidy.rs", ".ci/run"] {
        assert!(
            files.iter().any(|f| f == Path::new(known)),
            "{known} is not among the {} files found",
            files.len()
        );
    }
    let mut problems = Vec::new();
    for file in &files {
        let bytes = std::fs::read(root.join(file)).unwrap();
        let path = file.to_str().expect("names here are UTF-8").replace('\\', "/");
        let rules =
            size(&bytes).into_iter().chain(std::str::from_utf8(&bytes).map_or(vec![], |t| wrong(&path, t)));
        problems.extend(rules.map(|what| format!("{path}: {what}")));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_import_table_keeps_the_design() {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, allowed) in IMPORTS {
        let mut all = BTreeSet::new();
        for name in allowed {
            let below =
                reach.get(name).unwrap_or_else(|| panic!("{module} names {name}, which is not above it"));
            all.insert(*name);
            all.extend(below);
        }
        reach.insert(module, all);
    }
    for (module, never) in NEVER {
        let bad: Vec<_> = never.iter().filter(|n| reach[module].contains(*n)).collect();
        assert!(bad.is_empty(), "{module} reaches {bad:?}");
    }
    // The table is about the modules that exist.
    let lib = std::fs::read_to_string(workspace_root().join("compiler/src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> = lib
        .lines()
        .filter_map(|l| l.strip_prefix("pub ").unwrap_or(l).strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(declared, reach.keys().copied().collect());
    // And the runtime stands on nothing: no crate but `serde`, on request, and no `std` of its own accord.
    let runtime = std::fs::read_to_string(workspace_root().join("runtime/Cargo.toml")).unwrap();
    let dependencies = runtime.split_once("[dependencies]\n").unwrap().1.split_once("\n[").unwrap().0;
    let dependencies: Vec<&str> = dependencies.lines().filter(|l| !l.is_empty()).collect();
    assert!(
        matches!(dependencies[..], [d] if d.starts_with("serde = ") && d.contains("optional = true")),
        "{runtime}"
    );
    let runtime = std::fs::read_to_string(workspace_root().join("runtime/src/lib.rs")).unwrap();
    assert!(runtime.contains("\n#![cfg_attr(not(feature = \"std\"), no_std)]\n"));
}

/// Files of the repository, relative to its root: as git has them (with new ones that it does not ignore), else all.
fn files(root: &Path) -> Vec<PathBuf> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").arg("-C").arg(root).args(arguments).output();
    let listed: Vec<PathBuf> = match listed {
        Ok(out) if out.status.success() && !out.stdout.is_empty() => {
            out.stdout.split(|&b| b == 0).map(|f| std::str::from_utf8(f).expect("UTF-8").into()).collect()
        }
        _ => walk(root, Path::new("")),
    };
    listed.into_iter().filter(|f| root.join(f).is_file()).collect()
}

/// Every file below a folder, but for what `.gitignore` names and git's own.
fn walk(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap());
    let ours =
        entries.filter(|e| !["target", ".git", ".venv", "__pycache__"].iter().any(|n| e.file_name() == *n));
    ours.flat_map(|e| {
        let path = folder.join(e.file_name());
        if e.path().is_dir() { walk(root, &path) } else { vec![path] }
    })
    .collect()
}

fn size(bytes: &[u8]) -> Option<String> {
    (bytes.len() > MAX_FILE).then(|| format!("{} bytes, more than {MAX_FILE}", bytes.len()))
}

/// All rules about a text.
fn wrong(path: &str, text: &str) -> Vec<String> {
    let mut problems = machine_paths(text);
    problems.extend(unfinished(text));
    if path.ends_with(".rs") {
        problems.extend(opening(text));
        problems.extend(length(path, text));
        problems.extend(unsafe_without_reason(text));
        problems.extend(surroundings(path, text));
        problems.extend(imports(path, text));
    }
    problems
}

fn opening(text: &str) -> Option<String> {
    (!text.starts_with("//! ")).then(|| "does not begin with `//!` and what it is".to_string())
}

fn length(path: &str, text: &str) -> Option<String> {
    let limit = if path == "compiler/src/pipeline.rs" { MAX_PIPELINE_LINES } else { MAX_LINES };
    let lines = text.lines().count();
    (lines > limit).then(|| format!("{lines} lines, more than {limit}"))
}

/// Words are written in two halves here, for this file is read too.
fn unfinished(text: &str) -> Vec<String> {
    let words = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X:"),
        concat!("#[ig", "nore"),
    ];
    lines_with(text, |line| words.iter().any(|w| line.contains(w)), "is unfinished")
}

fn machine_paths(text: &str) -> Vec<String> {
    let roots = ["home", "root", "Users", "work", "mnt", "tmp"].map(|r| format!("/{r}/"));
    // `perf` reads symbols from there, on every machine.
    let bad = |line: &str| {
        let line = line.replace(concat!("/tm", "p/perf-"), "");
        // After a letter it is a part of a longer path, or of an address.
        let absolute = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/".contains(c));
        roots.iter().any(|r| line.match_indices(r.as_str()).any(|(at, _)| absolute(at)))
    };
    lines_with(text, bad, "names a path of one machine")
}

/// Environment and clock are read by the binary and by tests only: everything else is told by argument. A waiting thread of the pool looks
/// at the clock to know when to sleep; nothing that is computed depends on it. A macro and a build script learn from the
/// environment which package calls them.
fn surroundings(path: &str, text: &str) -> Vec<String> {
    let library = ["compiler/src/", "runtime/src/", "macros/src/"].iter().any(|p| path.starts_with(p));
    if !library
        || path.starts_with("compiler/src/bin/")
        || ["runtime/src/pool.rs", "macros/src/lib.rs", "compiler/src/build.rs"].contains(&path)
    {
        return vec![];
    }
    let words = ["std::env", "env::var", "Instant", "SystemTime"];
    lines_with(text, |line| words.iter().any(|w| code(line).contains(w)), "reads environment or clock")
}

/// Every unsafe block and impl has its reason in the comment above it, or on its line.
fn unsafe_without_reason(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let words = [concat!("unsafe", " {"), concat!("unsafe", " impl")];
    let mut problems = Vec::new();
    for (k, line) in lines.iter().enumerate() {
        if !words.iter().any(|w| code(line).contains(w)) {
            continue;
        }
        // Up through comments, attributes and the beginning of the same statement.
        let above = lines[..k].iter().rev().map(|l| l.trim());
        let mut same =
            above.take_while(|l| l.starts_with("//") || l.starts_with('#') || !l.ends_with([';', '{', '}']));
        if !line.contains("SAFETY:") && !same.any(|l| l.starts_with("//") && l.contains("SAFETY:")) {
            problems.push(format!("line {}: unsafe without `// SAFETY:`", k + 1));
        }
    }
    problems
}

/// The modules that a file of `compiler/src` names by `crate::` are in the table.
fn imports(path: &str, text: &str) -> Vec<String> {
    let Some(inside) =
        path.strip_prefix("compiler/src/").filter(|p| *p != "lib.rs" && !p.starts_with("bin/"))
    else {
        return vec![];
    };
    let parts: Vec<&str> = inside.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let Some((module, allowed)) = IMPORTS.iter().find(|(m, _)| *m == parts[0]) else {
        return vec![format!("module {} is not in the table of imports", parts[0])];
    };
    let source: String = text.lines().map(|l| format!("{}\n", code(l))).collect();
    let mut named = BTreeSet::new();
    for (at, word) in source.match_indices("crate::") {
        let whole = !source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if whole {
            named.extend(first_names(&source[at + word.len()..]));
        }
    }
    let mut problems: Vec<String> = named
        .into_iter()
        // What lib.rs gives out again.
        .map(|name| if ["Error", "Problem", "Result", "Stage"].contains(&name) { "error" } else { name })
        .filter(|name| name != module && !allowed.contains(name))
        .map(|name| format!("{module} must not import {name}"))
        .collect();
    // `super` up to the crate would be another way; one step more is allowed inside a file's own test module.
    let depth = parts.len() + usize::from(source.contains("\nmod tests {"));
    let climbs = "super::".repeat(depth);
    if source.contains(&climbs) {
        problems.push("leaves its module by `super::`: write `crate::`".into());
    }
    problems
}

/// The first name of a path, or the first names of a `{…}` list of paths.
fn first_names(path: &str) -> Vec<&str> {
    let identifier = |s: &str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    let Some(list) = path.strip_prefix('{') else { return vec![&path[..identifier(path)]] };
    let (mut names, mut nesting, mut start) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => nesting += 1,
            '}' if nesting == 0 => break,
            '}' => nesting -= 1,
            ',' if nesting == 0 => start = true,
            _ if start && !c.is_whitespace() => {
                names.push(&list[at..at + identifier(&list[at..])]);
                start = false;
            }
            _ => {}
        }
    }
    names
}

/// A line without its comment. (A `//` inside of a string cuts the line too: no rule here looks behind one.)
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn lines_with(text: &str, bad: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let found = text.lines().enumerate().filter(|(_, line)| bad(line));
    found.map(|(k, line)| format!("line {} {what}: {}", k + 1, line.trim())).collect()
}

#[test]
fn every_rule_finds_what_it_is_for() {
    let finds = |path: &str, text: &str, what: &str| {
        let found = wrong(path, &format!("//! A file.\n{text}"));
        assert!(found.len() == 1 && found[0].contains(what), "{path} with {text:?}: {found:?}");
    };
    let passes = |path: &str, text: &str| assert_eq!(wrong(path, &format!("//! A file.\n{text}")), [""; 0]);
    assert!(size(&vec![0; MAX_FILE + 1]).is_some() && size(&vec![0; MAX_FILE]).is_none());
    assert_eq!(wrong("a.rs", "use std::fs;\n").len(), 1);
    finds("a.rs", &"\n".repeat(600), "601 lines");
    passes("a.rs", &"\n".repeat(599));
    finds("compiler/src/pipeline.rs", &"\n".repeat(150), "151 lines");
    for word in [concat!("to", "do!()"), concat!("// FIX", "ME"), concat!("#[ig", "nore = \"slow\"]")] {
        finds("tests/src/a.rs", word, "line 2 is unfinished");
        finds("README.md", word, "line 2 is unfinished");
    }
    for path in ["home", "root", "work", "tmp"].map(|r| format!("see `/{r}/someone/model.onnx`")) {
        finds("README.md", &path, "one machine");
    }
    passes("README.md", "https://example.org/home/page and a/work/b");
    let block = concat!("unsafe", " { f() }");
    finds("a.rs", &format!("let x = {block};"), "line 2: unsafe");
    finds("a.rs", &format!("// SAFETY: f wants nothing.\nlet y = 1;\nlet x = {block};"), "line 4: unsafe");
    finds("a.rs", concat!("unsafe", " impl Send for A {}"), "line 2: unsafe");
    passes(
        "a.rs",
        &format!("// SAFETY: f wants nothing.\n#[allow(x)]\nlet x = 1\n    + {block};\n// {block}"),
    );
    finds("compiler/src/jit/a.rs", "let t = std::time::Instant::now();", "clock");
    finds("runtime/src/a.rs", "let v = std::env::var(\"X\");", "environment");
    passes("compiler/src/bin/qgraph/a.rs", "let t = std::time::Instant::now();");
    finds("compiler/src/jit/a.rs", "use crate::lower::Options;", "jit must not import lower");
    finds("compiler/src/jit/a/b.rs", "fn f(x: &crate::qgraph::QOp) {}", "jit must not import qgraph");
    finds(
        "compiler/src/graph/mod.rs",
        "use crate::{error::Result,\n    kernel::{Kernel, Instr}};",
        "graph must not import kernel",
    );
    finds("compiler/src/kernel/a.rs", "use crate::Error;", "kernel must not import error");
    finds("compiler/src/kernel/a.rs", "use super::super::plan::Plan;", "leaves its module");
    finds("compiler/src/target.rs", "use super::plan::Plan;", "leaves its module");
    finds("compiler/src/wasm/mod.rs", "", "module wasm is not in the table");
    passes(
        "compiler/src/quant/a.rs",
        "use crate::{Error, graph::{Graph, Op}, qgraph::QGraph};\n// crate::jit\nmod a { use super::b; }",
    );
    passes("compiler/src/target.rs", "mod tests {\n    use super::*;\n}");
}
