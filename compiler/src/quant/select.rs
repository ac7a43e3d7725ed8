//! Which nodes the user keeps in float: by name, by pattern, by operator, at the ends of the network. Graph and options in, a reason for
//! each node that was named out.
//!
//! Holds: a word that matches nothing is an error that shows what there is, never passed over.

use super::options::Options;
use crate::error::{Error, Problem, Result, Stage};
use crate::graph::{Graph, Node, Op};
use regex_lite::Regex;
use std::collections::BTreeSet;

/// So many names are shown where one is not found.
const SHOWN: usize = 3;

/// Why each node is to stay in float, by index; `None` where nobody asked for it.
pub(super) fn excluded(graph: &Graph, options: &Options) -> Result<Vec<Option<String>>> {
    let mut reasons = vec![None; graph.nodes.len()];
    let mut problems = Vec::new();
    let mut note = |matches: &dyn Fn(usize) -> bool, reason: &str| {
        let found: Vec<usize> = (0..graph.nodes.len()).filter(|&k| matches(k)).collect();
        for &k in &found {
            reasons[k].get_or_insert_with(|| reason.to_string());
        }
        !found.is_empty()
    };
    for word in &options.exclude {
        let found = Pattern::new(word).map(|pattern| {
            let matches = |k: usize| names(graph, &graph.nodes[k]).iter().any(|name| pattern.matches(name));
            note(&matches, &format!("excluded by '{word}'"))
        });
        let message = match found {
            Ok(true) => continue,
            Ok(false) => format!("no layer has this name; {}", near(graph, word)),
            Err(e) => e,
        };
        problems.push(Problem { subject: format!("exclude '{word}'"), message });
    }
    for word in &options.exclude_ops {
        let matches = |k: usize| graph.nodes[k].op.name().eq_ignore_ascii_case(word);
        if !note(&matches, &format!("excluded with all '{word}'")) {
            let there: BTreeSet<String> = graph.nodes.iter().map(|n| n.op.name()).collect();
            let there = there.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("no layer has this operator; there are: {there}");
            problems.push(Problem { subject: format!("exclude operator '{word}'"), message });
        }
    }
    Error::all(Stage::Quantize, problems)?;
    if options.float_first {
        let first = ends(graph, false);
        note(&|k| first[k], "excluded as a first layer");
    }
    if options.float_last {
        let last = ends(graph, true);
        note(&|k| last[k], "excluded as a last layer");
    }
    Ok(reasons)
}

/// The names under which a node is known: its own, and that of what it gives.
fn names<'a>(graph: &'a Graph, node: &'a Node) -> [&'a str; 2] {
    [&node.name, &graph.value(node.output).name]
}

/// What names are compared with.
enum Pattern<'a> {
    /// With `*` for any characters and `?` for one.
    Glob(&'a str),
    Regex {
        whole: &'a str,
        regex: Regex,
    },
}

impl<'a> Pattern<'a> {
    fn new(word: &'a str) -> std::result::Result<Self, String> {
        match word.strip_prefix('/').and_then(|w| w.strip_suffix('/')) {
            Some(inner) if !inner.is_empty() => {
                let regex = Regex::new(inner).map_err(|e| format!("not a regular expression: {e}"))?;
                Ok(Pattern::Regex { whole: word, regex })
            }
            _ => Ok(Pattern::Glob(word)),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Glob(glob) => *glob == name || matches_glob(glob, name),
            // ONNX names may begin and end like this.
            Pattern::Regex { whole, regex } => *whole == name || regex.is_match(name),
        }
    }
}

fn matches_glob(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit: the star takes one more.
    let mut star = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(&c) if c == '?' || c == name[n] => (g, n) = (g + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (g, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == '*')
}

/// The names that are most like a word, for an error.
fn near(graph: &Graph, word: &str) -> String {
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    let of = |n: &Node| {
        let distance =
            |name: &str| distance(&word, &name.chars().flat_map(char::to_lowercase).collect::<Vec<_>>());
        names(graph, n).iter().map(|name| distance(name)).min()
    };
    let mut all: Vec<(Option<usize>, &str)> = graph.nodes.iter().map(|n| (of(n), &n.name[..])).collect();
    all.sort();
    let shown: Vec<String> = all.iter().take(SHOWN).map(|(_, name)| format!("'{name}'")).collect();
    match shown.is_empty() {
        true => "the network has no layers".into(),
        false => format!("the nearest are {}", shown.join(", ")),
    }
}

/// Insertions, deletions and changes that make one of two words the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// The layers with weights that no other such layer stands before, or after.
fn ends(graph: &Graph, last: bool) -> Vec<bool> {
    let layer = |n: &Node| matches!(n.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_));
    // Values that a layer was passed on the way to.
    let mut passed = vec![false; graph.values.len()];
    let mut found = vec![false; graph.nodes.len()];
    let mut visit = |k: usize, from: &[usize], to: &[usize]| {
        let node = &graph.nodes[k];
        let before = from.iter().any(|&v| passed[v]);
        found[k] = layer(node) && !before;
        to.iter().for_each(|&v| passed[v] |= before || layer(node));
    };
    for at in 0..graph.nodes.len() {
        let k = if last { graph.nodes.len() - 1 - at } else { at };
        let inputs: Vec<usize> = graph.nodes[k].inputs.iter().map(|v| v.0 as usize).collect();
        let output = [graph.nodes[k].output.0 as usize];
        if last { visit(k, &output, &inputs) } else { visit(k, &inputs, &output) }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_whole_names_with_gaps() {
        for (glob, name) in
            [("*", ""), ("*", "a/b"), ("a*c", "abcbc"), ("?", "é"), ("*.conv?", "x.conv.conv1"), ("a", "a")]
        {
            assert!(matches_glob(glob, name), "{glob} {name}");
        }
        for (glob, name) in [("?", ""), ("a*c", "abcb"), ("a", "ab"), ("*b", "ba"), ("", "a")] {
            assert!(!matches_glob(glob, name), "{glob} {name}");
        }
    }

    #[test]
    fn distances_are_known() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("conv1", "conv1")), (3, 3, 0));
    }
}
