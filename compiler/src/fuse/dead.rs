//! Drops nodes whose result neither a node nor the caller reads.

use super::event::{Event, made};
use super::rewrite::remove_dead;
use crate::graph::Graph;

pub(super) const PASS: &str = "dead";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    let dead = remove_dead(graph);
    for name in &dead {
        made(events, PASS, name, "removed: nobody reads its result");
    }
    !dead.is_empty()
}
