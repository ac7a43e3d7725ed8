//! Quantization: fused float graph and profile → integer graph. Float ends here, but for what is kept.
//!
//! In phases, each a function of the ones before:
//! - `equalize`: channels of unequal range are made equal, where weights can take that back.
//! - `options`: what the user may ask; `select`: the nodes that the user keeps in float.
//! - `decide`: which nodes run in integers, which give float from integers, which stay in float and why; `smart`: which integers do not pay.
//! - `ranges`: scale and zero point of every value that is ever u8; values that moves copy share one.
//! - emission, node by node, by the operator's room: `conv` (with `weights`), `elementwise`, `pools`, `moves`,
//!   `resize`. Each room knows the integer and the float form of its operators; `emit` gives an operand in the form
//!   that is asked for, and converts between the two where integer and float nodes meet.
//!
//! Without a profile, [`quantize_dynamic`] lets layers find their ranges at run time: `dynamic`. A model that is quantized already takes [`quantize_given`]: `given` stands for the first four phases. [`float`] is the same road with the decision "everything in float". Not here: fusion (a clamp that only feeds on from an
//! elementwise node is the one exception), memory layout, the verifier.

mod conv;
mod decide;
mod dynamic;
mod elementwise;
mod emit;
mod equalize;
mod given;
mod moves;
mod options;
mod pools;
mod ranges;
mod resize;
mod select;
mod smart;
mod summary;
mod transposed;
mod weights;

use crate::calib::Profile;
use crate::error::{Error, Problem, Result, Stage};
use crate::graph::{Graph, Node, Op, verify};
use crate::preprocess::Preprocess;
use crate::qgraph::QGraph;
use decide::{Decisions, Run};
use emit::{Emit, Numbers};
use equalize::Equalized;
use ranges::Scales;
use std::collections::BTreeMap;

pub use options::{Activations, Equalize, Mode, Options, Weights};
pub use qgraph_runtime::requant::Rounding;
pub use summary::{Placement, summary};

/// Quantizes with the ranges of a profile.
///
/// # Errors
/// The graph is invalid, the profile is of another graph, values without a usable range, layers that integers cannot hold: all of a kind
/// are named at once. Words of the options that match nothing.
pub fn quantize(graph: &Graph, profile: &Profile, options: &Options) -> Result<QGraph> {
    quantize_keeping(graph, profile, options, &BTreeMap::new())
}

/// The same with more nodes in float: by name, with the reason.
pub(crate) fn quantize_keeping(
    graph: &Graph,
    profile: &Profile,
    options: &Options,
    kept: &BTreeMap<&str, String>,
) -> Result<QGraph> {
    check(graph)?;
    profile.check_graph(graph).map_err(|e| Error { stage: Stage::Quantize, ..e })?;
    if graph.is_quantized() {
        let message = "is quantized already: its numbers are taken as they are, without a profile";
        return Err(Error::new(Stage::Quantize, &graph.name, message));
    }
    whole_sums(graph, options)?;
    let mut excluded = select::excluded(graph, options)?;
    for (reason, node) in excluded.iter_mut().zip(&graph.nodes) {
        *reason = reason.take().or_else(|| kept.get(&node.name[..]).cloned());
    }
    let mut decisions = Decisions::integer(graph, &excluded);
    if options.mode == Mode::Smart {
        for (reason, alone) in excluded.iter_mut().zip(smart::alone(graph, &decisions)) {
            *reason = reason.take().or(alone);
        }
        decisions = Decisions::integer(graph, &excluded);
    }
    let Equalized { graph, profile, multiples } = equalize::equalize(graph, profile, &decisions, options);
    // The same as before, for other constants.
    let decisions = Decisions::integer(&graph, &excluded);
    let scales = Scales::new(&graph, &profile, &decisions, multiples, options.activations)?;
    let numbers = Numbers {
        scaling: options.scaling(),
        channels: Some(&profile.channels),
        correct_biases: options.correct_biases,
        given: false,
        rounding: options.rounding,
    };
    lower(&graph, &decisions, &scales, numbers, profile.preprocess.clone())
}

/// Quantizes without ranges: every layer with weights finds that of what it reads when it runs, image by image, which is slower. Whatever stands
/// between layers runs in float.
///
/// # Errors
/// As [`quantize`]; options that only ranges give a meaning.
pub fn quantize_dynamic(graph: &Graph, options: &Options) -> Result<QGraph> {
    check(graph)?;
    let fail = |message: &str| Err(Error::new(Stage::Quantize, &graph.name, message));
    if graph.is_quantized() {
        return fail("is quantized already: its ranges are taken as they are");
    }
    if options.asks_for_ranges() {
        return fail(
            "finds its ranges at run time: how zeros lie, channels are equalized and results are rounded is asked of ranges that are known",
        );
    }
    let excluded = select::excluded(graph, options)?;
    let numbers = Numbers { scaling: options.scaling(), ..Numbers::default() };
    lower(graph, &Decisions::dynamic(graph, &excluded), &Scales::none(graph), numbers, None)
}

/// Quantizes a model that is quantized already, with its own integers, scales and zero points. Of the options only those count that keep
/// layers in float, and the rounding, which the graph was fused for.
///
/// # Errors
/// The graph is invalid, or says nothing of integers; options that ask for other numbers; layers that integers cannot hold.
pub fn quantize_given(graph: &Graph, options: &Options) -> Result<QGraph> {
    check(graph)?;
    let fail = |message: &str| Err(Error::new(Stage::Quantize, &graph.name, message));
    if !graph.is_quantized() {
        return fail("is not quantized: calibrate it first");
    }
    if !options.only_excludes() {
        return fail(
            "is quantized already: weights, activations, equalization, clipping, bias correction and mode are as it has them",
        );
    }
    let rounding = graph.rounding.unwrap_or(Rounding::ZeroLast);
    if options.rounding == Rounding::ZeroLast && rounding != options.rounding {
        return fail(
            "was exported from a network that rounds otherwise than ONNX Runtime: quantize the float network so",
        );
    }
    whole_sums(graph, options)?;
    let excluded = select::excluded(graph, options)?;
    let given::Given { graph, decisions, scales } = given::read(graph, &excluded);
    lower(&graph, &decisions, &scales, Numbers { given: true, rounding, ..Numbers::default() }, None)
}

/// Refuses layers that add before they round, where every operation is asked to round by itself.
fn whole_sums(graph: &Graph, options: &Options) -> Result<()> {
    let adds = |n: &&Node| {
        options.rounding == Rounding::ZeroLast && n.op.epilogue().is_some_and(|epilogue| epilogue.residual)
    };
    let message = "adds a residual before it rounds, which ONNX Runtime does not: fuse by `fuse_for` with this rounding";
    let problem = |n: &Node| Problem { subject: n.name.clone(), message: message.into() };
    Error::all(Stage::Quantize, graph.nodes.iter().filter(adds).map(problem).collect())
}

/// The same network in f32 throughout, so that naive and fused float run on the same road. Nothing is fused on the way.
pub fn float(graph: &Graph) -> Result<QGraph> {
    check(graph)?;
    lower(graph, &Decisions::float(graph), &Scales::none(graph), Numbers::default(), None)
}

/// What both roads rely on: a valid graph of finite constants.
fn check(graph: &Graph) -> Result<()> {
    let mut problems = verify::verify(graph);
    for n in &graph.nodes {
        for &i in &n.inputs {
            if graph.constant(i).is_some_and(|t| t.data.iter().any(|x| !x.is_finite())) {
                problems.push(Problem {
                    subject: n.name.clone(),
                    message: format!(
                        "constant '{}' holds NaN or infinity; export the model again with finite weights",
                        graph.value(i).name
                    ),
                });
            }
        }
    }
    Error::all(Stage::Quantize, problems)
}

fn lower(
    graph: &Graph,
    decisions: &Decisions,
    scales: &Scales,
    numbers: Numbers<'_>,
    preprocess: Option<Preprocess>,
) -> Result<QGraph> {
    let mut e = Emit::new(graph, decisions, scales, numbers);
    let mut problems = Vec::new();
    for k in 0..graph.nodes.len() {
        if decisions.run[k] == Run::Skip {
            continue;
        }
        if let Err(message) = emit(&mut e, k) {
            problems.push(Problem { subject: graph.nodes[k].name.clone(), message });
            // Later nodes still need the operand, so that their own problems are found as well.
            e.placeholder(decisions.output(graph, k));
        }
    }
    Error::all(Stage::Quantize, problems)?;
    e.finish(preprocess)
}

/// Emits node `k` into its output. The error is a message about the node.
fn emit(e: &mut Emit<'_>, k: usize) -> std::result::Result<(), String> {
    match &e.graph.nodes[k].op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => conv::emit(e, k),
        Op::BatchNorm { .. }
        | Op::Unary(_)
        | Op::PRelu
        | Op::Binary(_)
        | Op::Softmax { .. }
        | Op::Lrn { .. }
        | Op::Round(_) => elementwise::emit(e, k),
        Op::Pool(_) | Op::GlobalPool(_) => pools::emit(e, k),
        Op::Concat { .. }
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Pad { .. }
        | Op::Slice(_)
        | Op::Identity
        | Op::Dropout => moves::emit(e, k),
        Op::Resize(_) => resize::emit(e, k),
    }
}
