//! Fusion: the float graph becomes fewer, larger nodes that integers can follow.
//!
//! In: a valid graph. Out: a graph that computes the same outputs (up to rounding: constants are combined in f64), and a
//! report that names every rewrite made and every pattern that was seen and declined, with the reason.
//!
//! Holds: inputs and outputs keep their names and shapes. A fused node keeps the name of its convolution or dense layer;
//! its output keeps the name of the last value of the chain, because profiles and callers know values by name.
//! A chain is cut where another node or the caller reads the value in the middle.
//!
//! [`PASSES`] is the table of contents: one file per pass (`run` tells whether it changed the graph), in an order that each entry explains. The
//! driver repeats the list until nothing changes. Not here: anything about integers, layouts or targets.

mod activation;
mod affine;
mod affine_after;
mod affine_before;
mod affine_merge;
mod affine_normal;
mod clamp;
mod common;
mod constant;
mod dead;
mod event;
mod flatten;
mod identity;
mod movement;
mod options;
mod pad;
mod pattern;
mod polynomial;
mod residual;
mod rewrite;
mod round;
mod sink;
mod sum;
mod weights;

pub use event::{Event, report};
pub use options::Options;

use crate::error::{Error, Result, Stage};
use crate::graph::{Graph, verify::verify};
use qgraph_runtime::requant::Rounding;

/// One rewrite of the graph.
pub struct Pass {
    /// Its name in events and options.
    pub name: &'static str,
    /// What it does and why it stands where it stands.
    pub about: &'static str,
    option: fn(&mut Options) -> &mut bool,
    run: fn(&mut Graph, &mut Vec<Event>) -> bool,
}

/// The passes in the order in which they run.
pub const PASSES: &[Pass] = &[
    Pass {
        name: identity::PASS,
        about: "removes identity, dropout and moves that move nothing; first, because they hide every pattern",
        option: |o| &mut o.identity,
        run: identity::run,
    },
    Pass {
        name: constant::PASS,
        about: "computes nodes whose operands are all constant; early, because many patterns ask for a constant",
        option: |o| &mut o.constant,
        run: constant::run,
    },
    Pass {
        name: common::PASS,
        about: "merges nodes that compute the same; before consumers are counted, so that a twin does not cut a chain",
        option: |o| &mut o.common,
        run: common::run,
    },
    Pass {
        name: dead::PASS,
        about: "drops nodes that nobody reads; before consumers are counted, so that a dead one does not cut a chain",
        option: |o| &mut o.dead,
        run: dead::run,
    },
    Pass {
        name: movement::PASS,
        about: "merges reshapes, transposes and concatenations that follow each other; leaves fewer to look through",
        option: |o| &mut o.movement,
        run: movement::run,
    },
    Pass {
        name: pattern::PASS,
        about: "recognises activations spelled as several nodes; before arithmetic takes their constants away",
        option: |o| &mut o.pattern,
        run: pattern::run,
    },
    Pass {
        name: clamp::PASS,
        about: "merges clamps that follow each other; before one of them becomes an epilogue",
        option: |o| &mut o.clamp,
        run: clamp::run,
    },
    Pass {
        name: round::PASS,
        about: "takes roundings of a quantized model away that nobody would miss; before residuals and padding, which they would hide",
        option: |o| &mut o.round,
        run: round::run,
    },
    Pass {
        name: sum::PASS,
        about: "takes the rounding between a layer and an addition away; before the residual, which takes the addition into the layer",
        option: |o| &mut o.sum,
        run: sum::run,
    },
    Pass {
        name: sink::PASS,
        about: "moves an activation before the reshape or transpose that keeps it from its convolution",
        option: |o| &mut o.sink,
        run: sink::run,
    },
    Pass {
        name: affine_merge::PASS,
        about: "merges chains of batch normalizations and arithmetic by constants; one then folds as a whole",
        option: |o| &mut o.affine_merge,
        run: affine_merge::run,
    },
    Pass {
        name: affine_after::PASS,
        about: "folds them into the weights of the convolution or dense layer before; before epilogues, which would stand between",
        option: |o| &mut o.affine_after,
        run: affine_after::run,
    },
    Pass {
        name: affine_before::PASS,
        about: "folds what is left into the convolution or dense layer after; second, because padding often forbids it",
        option: |o| &mut o.affine_before,
        run: affine_before::run,
    },
    Pass {
        name: pad::PASS,
        about: "lets the convolution or pooling after a pad do the padding; after arithmetic, which asks for unpadded convolutions",
        option: |o| &mut o.pad,
        run: pad::run,
    },
    Pass {
        name: residual::PASS,
        about: "adds the residual in the epilogue; after the batch normalization between convolution and add has gone",
        option: |o| &mut o.residual,
        run: residual::run,
    },
    Pass {
        name: activation::PASS,
        about: "applies the activation in the epilogue; after the residual, because the epilogue applies it last",
        option: |o| &mut o.activation,
        run: activation::run,
    },
    Pass {
        name: flatten::PASS,
        about: "turns flatten and dense into a convolution over the whole image, so that no data moves; takes the finished epilogue over",
        option: |o| &mut o.flatten,
        run: flatten::run,
    },
    Pass {
        name: affine_normal::PASS,
        about: "writes the arithmetic that folds nowhere as one batch normalization; last, because it is what remains",
        option: |o| &mut o.affine_normal,
        run: affine_normal::run,
    },
];

/// A list this long has always settled; only a bug in a pass could reach it.
const MAX_ROUNDS: usize = 64;

/// Fuses the graph with every pass; the report names every fusion made and every one declined. Fails on an invalid graph.
pub fn fuse(graph: &Graph) -> Result<(Graph, Vec<Event>)> {
    fuse_with(graph, &Options::default())
}

/// Fuses the graph with every pass that a network allows which is to round so: [`Options::for_rounding`].
pub fn fuse_for(graph: &Graph, rounding: Rounding) -> Result<(Graph, Vec<Event>)> {
    fuse_with(graph, &Options::for_rounding(rounding))
}

/// Fuses the graph with the passes that `options` leaves on.
pub fn fuse_with(graph: &Graph, options: &Options) -> Result<(Graph, Vec<Event>)> {
    Error::all(Stage::Fuse, verify(graph))?;
    let mut graph = graph.clone();
    let mut options = options.clone();
    let (mut made, mut declined) = (Vec::new(), Vec::new());
    for _ in 0..MAX_ROUNDS {
        // What was declined counts only if it is still so in the end: the last round saw the final graph.
        declined.clear();
        let mut changed = false;
        for pass in PASSES.iter().filter(|p| *(p.option)(&mut options)) {
            let mut events = Vec::new();
            if (pass.run)(&mut graph, &mut events) {
                changed = true;
                graph.compact();
                if cfg!(debug_assertions) {
                    check(&graph, pass)?;
                }
            }
            let (done, not): (Vec<_>, Vec<_>) = events.into_iter().partition(|e: &Event| e.done);
            made.extend(done);
            declined.extend(not);
        }
        if !changed {
            break;
        }
    }
    let mut seen = Vec::new();
    declined.retain(|e: &Event| {
        !seen.contains(e) && {
            seen.push(e.clone());
            true
        }
    });
    made.extend(declined);
    graph.compact();
    Error::all(Stage::Fuse, verify(&graph))?;
    Ok((graph, made))
}

fn check(graph: &Graph, pass: &Pass) -> Result<()> {
    let mut problems = verify(graph);
    for p in &mut problems {
        p.message = format!("{} (a bug of fusion pass {}: please report it)", p.message, pass.name);
    }
    Error::all(Stage::Fuse, problems)
}
