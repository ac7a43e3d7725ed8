//! Accuracy-aware fallback: the fewest layers in float for which int8 loses no more than a limit, measured on images.
//!
//! In: fused graph, profile, images (with labels or without), a limit in points of percent. Out: [`Found`], the network and how it was found. Every
//! network is run on all images, as it would be saved: nothing is estimated but the order in which layers are tried.
//!
//! 1. int8 throughout. If that meets the limit, it is the answer.
//! 2. Every layer by itself is put in float, and all else left in int8: what noise that takes off the outputs, on a few images, is the layer's damage.
//! 3. The most damaging layers go to float, twice as many each time, until the limit is met; then bisection; then every layer goes back to int8
//!    that is not needed (`search`).
//!
//! Holds: the same images give the same network, for any number of threads; whatever is better than all before is given to [`Options::save`] at once. Not here: where images come from, times.

mod reference;
mod search;

use crate::assess::Assessment;
use crate::calib::Profile;
use crate::error::{Error, Result, Stage};
use crate::graph::Graph;
use crate::qgraph::QGraph;
use crate::quant;
use crate::target::Target;
use reference::{Machine, Reference};
use search::fewest;
use std::collections::BTreeMap;

/// An image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// One tensor per input of the network, row-major in its shape.
    pub inputs: Vec<Vec<f32>>,
    /// Its class, if known.
    pub label: Option<usize>,
}

/// Opens the images anew: all of them, in the same order each time.
pub type Open<'a> = dyn FnMut() -> Result<Box<dyn Iterator<Item = Result<Image>>>> + 'a;

/// Takes a network that is better than all before.
pub type Save<'a> = dyn FnMut(&QGraph) -> Result<()> + 'a;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Labelled images whose best class is the label.
    Top1,
    /// Images (or pixels, if each has classes) whose best class is the float network's.
    Agreement,
}

impl Metric {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Top1 => "top-1",
            Metric::Agreement => "agreement with float",
        }
    }
}

/// How the search stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// So many images went through the float network.
    Float(usize),
    /// So many layers have been in float, each by itself.
    Ranked {
        /// So many.
        layers: usize,
        /// Of so many.
        of: usize,
    },
    /// A network has been run on all images.
    Tried {
        /// Its layers in float.
        layers: usize,
        /// What it loses, in points of percent.
        lost: f64,
    },
}

/// How far to go.
///
/// ```
/// use qgraph_compiler::{fallback, quant};
///
/// let mut best = None;
/// let mut save = |graph: &_| {
///     best = Some(std::clone::Clone::clone(graph));
///     Ok(())
/// };
/// let options = fallback::Options::new(0.5).quantize(quant::Options::default().float_first()).max_float(8).threads(2).save(&mut save);
/// ```
pub struct Options<'s, 'p> {
    max_drop: f64,
    max_float: usize,
    quantize: quant::Options,
    threads: usize,
    save: Option<&'s mut Save<'s>>,
    progress: Option<&'p mut dyn FnMut(Progress)>,
}

impl<'s, 'p> Options<'s, 'p> {
    /// At most so many points of percent are lost against float: 0 to 100.
    #[must_use]
    pub fn new(max_drop: f64) -> Self {
        let quantize = quant::Options::default();
        Options { max_drop, max_float: usize::MAX, quantize, threads: 1, save: None, progress: None }
    }

    /// How everything else is quantized. Layers that it keeps in float stay there and are not counted.
    #[must_use]
    pub fn quantize(self, quantize: quant::Options) -> Self {
        Options { quantize, ..self }
    }

    /// At most so many layers go to float. Without it there is no such limit, and every limit of accuracy is met in the end: by float.
    #[must_use]
    pub fn max_float(self, max_float: usize) -> Self {
        Options { max_float, ..self }
    }

    /// How many threads run the networks. The result does not depend on it.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Options { threads, ..self }
    }

    /// Is given each network that is better than all before, first int8 throughout.
    #[must_use]
    pub fn save<'n>(self, save: &'n mut Save<'n>) -> Options<'n, 'p> {
        let Options { max_drop, max_float, quantize, threads, save: _, progress } = self;
        Options { max_drop, max_float, quantize, threads, save: Some(save), progress }
    }

    /// Is told how the search stands.
    #[must_use]
    pub fn progress<'n>(self, progress: &'n mut dyn FnMut(Progress)) -> Options<'s, 'n> {
        let Options { max_drop, max_float, quantize, threads, save, progress: _ } = self;
        Options { max_drop, max_float, quantize, threads, save, progress: Some(progress) }
    }
}

/// A layer that went to float.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Name of its node.
    pub node: String,
    /// The part of the outputs' noise that goes when this layer alone goes to float; not above 1, negative if noise comes.
    pub damage: f64,
}

/// The best network that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The network.
    pub graph: QGraph,
    /// The same without layers that went to float.
    pub int8: QGraph,
    /// Whether it loses no more than was allowed.
    pub met: bool,
    /// What was counted.
    pub metric: Metric,
    /// Images that were counted.
    pub images: usize,
    /// What float reaches, in percent; 100 of [`Metric::Agreement`].
    pub float: f64,
    /// What int8 reaches, in percent.
    pub before: f64,
    /// What the network reaches, in percent.
    pub after: f64,
    /// The layers that went to float, the most damaging first.
    pub layers: Vec<Kept>,
    /// Networks that were run on all images.
    pub tried: usize,
}

/// Quantizes, and keeps the fewest layers in float for which accuracy falls by no more than a limit. See the module.
///
/// # Errors
/// Those of [`quant::quantize`]; no images, or such that do not fit; labels beyond the classes; a first output that holds no classes: its shape is
/// `[N, classes]`, or `[N, classes, H, W]` with a class for each pixel; a limit that is none; what [`Options::save`] gives.
pub fn quantize_within(
    fused: &Graph,
    profile: &Profile,
    images: &mut Open<'_>,
    options: Options<'_, '_>,
) -> Result<Found> {
    let Options { max_drop, max_float, quantize, threads, save, mut progress } = options;
    if !(0.0..=100.0).contains(&max_drop) {
        return Err(failure("max_drop", format!("{max_drop} is not between 0 and 100 points")));
    }
    let machine = Machine { target: Target::detect(), threads };
    let reference = Reference::new(&quant::float(fused)?, &machine, images, &mut |n| {
        progress.iter_mut().for_each(|say| say(Progress::Float(n)));
    })?;
    let candidates = Vec::new();
    let tried = BTreeMap::new();
    let mut search = Search {
        fused,
        profile,
        quantize,
        images,
        machine,
        reference,
        max_drop,
        save,
        progress,
        candidates,
        tried,
        best: None,
    };
    let mut met = search.meets(&[])?;
    let first = search.best.as_ref().expect("the first is the best so far");
    let (int8, before) = (first.graph.clone(), first.right);
    if !met {
        let ranked = search.rank(&int8)?;
        met = fewest(&ranked, max_float, &mut |kept| search.meets(kept))?;
    }
    let Search { reference, candidates, tried, best, .. } = search;
    let Best { mut kept, graph, right } = best.expect("the first is the best so far");
    kept.sort_by(|&a, &b| candidates[b].damage.total_cmp(&candidates[a].damage).then(a.cmp(&b)));
    let layers = kept.iter().map(|&k| candidates[k].clone()).collect();
    Ok(Found {
        met,
        metric: reference.metric,
        images: reference.images(),
        float: reference.percent(reference.right),
        before: reference.percent(before),
        after: reference.percent(right),
        layers,
        tried: tried.len(),
        graph,
        int8,
    })
}

/// The state of the search. Sets of layers are indices of candidates.
struct Search<'a, 's, 'p> {
    fused: &'a Graph,
    profile: &'a Profile,
    quantize: quant::Options,
    images: &'a mut Open<'a>,
    machine: Machine,
    reference: Reference,
    max_drop: f64,
    save: Option<&'s mut Save<'s>>,
    progress: Option<&'p mut dyn FnMut(Progress)>,
    candidates: Vec<Kept>,
    /// Right answers with these layers in float, in ascending order.
    tried: BTreeMap<Vec<usize>, usize>,
    best: Option<Best>,
}

/// The best network so far.
struct Best {
    kept: Vec<usize>,
    graph: QGraph,
    right: usize,
}

impl Search<'_, '_, '_> {
    fn say(&mut self, progress: Progress) {
        self.progress.iter_mut().for_each(|say| say(progress));
    }

    /// Whether so many right answers are enough.
    fn enough(&self, right: usize) -> bool {
        self.reference.lost(right) <= self.max_drop
    }

    /// The network with these layers in float.
    fn network(&self, kept: &[usize]) -> Result<QGraph> {
        let reasons = kept.iter().map(|&k| {
            let Kept { node, damage } = &self.candidates[k];
            (
                node.as_str(),
                format!(
                    "for accuracy: alone in float it takes {:.1} % of the noise off the outputs",
                    100.0 * damage
                ),
            )
        });
        quant::quantize_keeping(self.fused, self.profile, &self.quantize, &reasons.collect())
    }

    /// Runs the network with these layers in float on all images, and remembers it if it is the best.
    fn meets(&mut self, kept: &[usize]) -> Result<bool> {
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        if let Some(&right) = self.tried.get(&kept) {
            return Ok(self.enough(right));
        }
        let graph = self.network(&kept)?;
        let right = self.reference.run(&graph, &self.machine, self.images)?;
        self.say(Progress::Tried { layers: kept.len(), lost: self.reference.lost(right) });
        self.tried.insert(kept.clone(), right);
        // Of two that meet the limit that with fewer layers, else that with more right answers.
        let rank = |right: usize, layers: usize| match self.enough(right) {
            true => (true, usize::MAX - layers, right),
            false => (false, right, usize::MAX - layers),
        };
        let known = self.best.as_ref().map(|b| rank(b.right, b.kept.len()));
        if known < Some(rank(right, kept.len())) {
            if let Some(save) = &mut self.save {
                save(&graph)?;
            }
            self.best = Some(Best { kept, graph, right });
        }
        Ok(self.enough(right))
    }

    /// Finds the damage of every layer, and gives all, the most damaging first.
    fn rank(&mut self, int8: &QGraph) -> Result<Vec<usize>> {
        let layers = Assessment::new(self.fused, int8);
        let names = layers.layers().iter().filter(|l| l.excludable).map(|l| l.node.clone());
        self.candidates = names.map(|node| Kept { node, damage: 0.0 }).collect();
        let all = self.reference.noise(int8, &self.machine)?;
        for k in 0..self.candidates.len() {
            let noise = self.reference.noise(&self.network(&[k])?, &self.machine)?;
            self.candidates[k].damage = if all > 0.0 { (all - noise) / all } else { 0.0 };
            self.say(Progress::Ranked { layers: k + 1, of: self.candidates.len() });
        }
        let mut ranked: Vec<usize> = (0..self.candidates.len()).collect();
        ranked.sort_by(|&a, &b| {
            self.candidates[b].damage.total_cmp(&self.candidates[a].damage).then(a.cmp(&b))
        });
        Ok(ranked)
    }
}

/// An error of this stage.
fn failure(subject: &str, message: impl Into<String>) -> Error {
    Error::new(Stage::Quantize, subject, message)
}
