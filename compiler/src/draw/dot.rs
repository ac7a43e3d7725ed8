//! Diagrams as DOT, for Graphviz.

use super::{Diagram, Node, colour_of_db};
use std::fmt::Write;

impl Diagram {
    /// The diagram as a graph in the DOT language, nodes named `n0`, `n1`, … in order.
    pub fn dot(&self) -> String {
        let mut dot = format!("digraph {} {{\n", quoted(&self.title));
        dot += "  node [shape=box, style=filled, fontname=\"monospace\", fontsize=10];\n";
        for (k, node) in self.nodes.iter().enumerate() {
            let Node { name, lines, details, kind, sqnr_db, from } = node;
            let tooltip: Vec<&str> = std::iter::once(name).chain(details).map(String::as_str).collect();
            let edge =
                sqnr_db.map_or(String::new(), |db| format!(", color=\"{}\", penwidth=3", colour_of_db(db)));
            let _ = writeln!(
                dot,
                "  n{k} [label={}, tooltip={}, fillcolor=\"{}\"{edge}];",
                quoted(&lines.join("\n")),
                quoted(&tooltip.join("\n")),
                kind.colour(),
            );
            from.iter().for_each(|f| dot += &format!("  n{f} -> n{k};\n"));
        }
        dot + "}\n"
    }
}

/// A string of the language: only quotes and backslashes mean anything in it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
