//! The runtime's own source as a module of the file, so that it needs no crate.
//!
//! Its files become nested modules, but for what the model does not use and for tests. Features are decided here; paths from the crate's
//! root become paths upwards.

use crate::target::Isa;
use qgraph_runtime::source::FILES;

/// How the runtime's files name its root. (In two parts, for tests read imports out of this file.)
const ROOT: &str = concat!("crate", "::");

/// What of the runtime a model uses.
pub(super) struct Uses {
    /// Words for these instruction sets.
    pub(super) isas: Vec<Isa>,
    /// The context of machine code.
    pub(super) machine: bool,
    /// Functions on whole tensors.
    pub(super) functions: bool,
    /// Threads, and with them `std`.
    pub(super) threads: bool,
    /// Checks of weights.
    pub(super) weights: bool,
    /// Weights in large pages, and with them `std`.
    pub(super) copied: bool,
}

impl Uses {
    fn std(&self) -> bool {
        self.threads || self.copied
    }

    fn module(&self, path: &str) -> bool {
        match path {
            "cpu" | "model" | "requant" | "vector" | "vector/portable" => true,
            "machine" => self.machine,
            "pool" => self.std(),
            "weights" => self.weights || self.copied,
            "blob" => self.copied,
            "vector/avx2" => self.isas.iter().any(|i| matches!(i, Isa::Avx2 | Isa::AvxVnni)),
            "vector/avxvnni" => self.isas.contains(&Isa::AvxVnni),
            "vector/avx512vnni" => self.isas.contains(&Isa::Avx512Vnni),
            path => self.functions && (path == "math" || path.starts_with("functions")),
        }
    }
}

/// The module `runtime`.
pub(super) fn runtime(uses: &Uses) -> String {
    let mut text = String::from(
        "/// What the model stands on: source of the crate qgraph-runtime, MIT or Apache-2.0.\n\
         #[allow(unused, clippy::all, clippy::pedantic)]\npub mod runtime {\n",
    );
    module(uses, "", &mut text);
    text.push_str("}\n");
    text
}

/// Adds the text of a module's file, with the files of its modules.
fn module(uses: &Uses, path: &str, out: &mut String) {
    let file = FILES.iter().find(|f| f.0 == path).map_or("", |f| f.1);
    let depth = if path.is_empty() { 1 } else { 2 + path.matches('/').count() };
    let top = "super::".repeat(depth - 1);
    // Tests inside a file are its end.
    let tests = ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(all(test"];
    let end = tests.iter().filter_map(|t| file.find(t)).min().unwrap_or(file.len());
    // Attributes that belong to the next line.
    let mut attributes: Vec<String> = Vec::new();
    let flush = |attributes: &mut Vec<String>, out: &mut String| {
        attributes.drain(..).for_each(|line| push(out, depth, &line));
    };
    for line in file[..end].lines() {
        let visible = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub "));
        let declared = visible.unwrap_or(line).strip_prefix("mod ").and_then(|l| l.strip_suffix(';'));
        if let Some(name) = declared {
            let inner = if path.is_empty() { name.into() } else { format!("{path}/{name}") };
            if !uses.module(&inner) {
                attributes.clear();
                continue;
            }
            flush(&mut attributes, out);
            push(out, depth, &line.replace(';', " {"));
            module(uses, &inner, out);
            push(out, depth, "}");
        } else if line.starts_with("#![") || line.contains("feature = \"serde\"") {
            // Of the crate, not of a module; and derives that nobody asks for.
        } else if line == "#[cfg(test)]" || line == "extern crate std;" {
            // Tests' own.
        } else {
            let std = if uses.std() { "all()" } else { "any()" };
            let line = line.replace("feature = \"std\"", std).replace(ROOT, &top);
            if line.starts_with("#[") {
                attributes.push(line);
            } else {
                flush(&mut attributes, out);
                push(out, depth, &line);
            }
        }
    }
}

fn push(out: &mut String, depth: usize, line: &str) {
    if !line.is_empty() {
        out.push_str(&" ".repeat(4 * depth));
        out.push_str(line);
    }
    out.push('\n');
}
