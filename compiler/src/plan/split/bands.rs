//! The order in which one thread does a plan: steps that pass on more than the L2 cache holds well take turns, band by band, so that a step
//! reads what the one before has just written.
//!
//! A chain is a run of steps that each write so much, and the one that reads the last of it. All are cut into as many bands, by the addresses
//! that they write: rows of a map. Whatever step of the chain is the furthest goes on, as long as no band that is still to come before it, in the
//! plan's order, touches what its next band writes or writes what that touches (`area`). So only what is proven to be independent changes places,
//! and where memory is shared in a way that forbids it, steps stay whole.

use super::{Task, check, cut};
use crate::plan::area::{Area, Reach};
use crate::plan::deeds::Deeds;
use crate::plan::{Call, Plan, Work, cost};
use std::ops::Range;

/// The most steps of a chain, and the most bands of a step.
const LONGEST: usize = 8;
const BANDS: usize = 64;

/// All steps of a plan.
pub(super) fn tasks(plan: &Plan) -> Vec<Task> {
    let reach: Vec<Reach> = plan.kernels.iter().map(Reach::of).collect();
    let sizes: Vec<Size> =
        plan.steps.iter().map(|s| Size::of(&s.work, &reach, plan.target.core.l2)).collect();
    let mut tasks = Vec::new();
    let mut step = 0;
    while step < plan.steps.len() {
        let end = if step < plan.head { plan.head } else { plan.steps.len() };
        let chain = chain(&sizes[step..end]);
        match chain {
            0 | 1 => tasks.push(Task::Work { step, work: plan.steps[step].work.clone() }),
            _ => tasks.extend(in_turn(plan, step..step + chain, &sizes, &reach)),
        }
        step += chain.max(1);
    }
    tasks
}

/// What a step means for a cache.
#[derive(Clone, Copy)]
struct Size {
    /// It can be cut, and its constants may be read once per band.
    cuts: bool,
    /// Bytes of activations that it reads or writes.
    touched: usize,
    /// What it writes does not stay in the cache until it is done.
    much: bool,
    /// It hardly matters, or only fills: halos.
    little: bool,
}

impl Size {
    fn of(work: &Work, reach: &[Reach], cache: usize) -> Size {
        let deeds = Deeds::of(work, reach);
        let bytes = |areas: &[Area]| areas.iter().map(|a| a.bytes() as usize).sum::<usize>();
        let (written, touched) = (bytes(&deeds.written), bytes(&deeds.touched));
        let (cuts, fills) = match work {
            Work::Kernels(calls) => (
                cut::independent(calls, reach) && cost::constants(work, reach) <= cache / 4,
                cut::fills(calls, reach),
            ),
            Work::Function(_) => (false, false),
        };
        Size { cuts, touched, much: written > cache / 2, little: fills || touched < cache / 8 }
    }
}

/// How many of these steps make a chain; at most 1 if the first starts none.
fn chain(sizes: &[Size]) -> usize {
    if !sizes[0].much {
        return 0;
    }
    let reading = sizes.iter().take(LONGEST).take_while(|s| s.cuts).count();
    let last = sizes[..reading].iter().position(|s| !s.much && !s.little);
    last.map_or(reading, |last| last + 1)
}

/// A chain's steps, cut, in the order in which they are done.
fn in_turn(plan: &Plan, steps: Range<usize>, sizes: &[Size], reach: &[Reach]) -> Vec<Task> {
    let touched: usize = sizes[steps.clone()].iter().map(|s| s.touched).sum();
    // What the bands of all steps touch together takes half of the cache.
    let bands = touched.div_ceil(plan.target.core.l2 / 2).clamp(1, BANDS);
    let calls = |step: usize| match &plan.steps[step].work {
        Work::Kernels(calls) => &calls[..],
        Work::Function(_) => &[],
    };
    let deeds: Vec<Vec<Deeds>> = steps
        .clone()
        .map(|step| {
            let starts: Vec<usize> = (0..if sizes[step].little { 1 } else { bands }).collect();
            let parts = cut::bands(calls(step), reach, bands, &starts);
            parts.into_iter().map(|part| Deeds::of(&Work::Kernels(part), reach)).collect()
        })
        .collect();
    let mut order: Vec<(usize, Range<usize>)> = Vec::new();
    for (s, band) in turns(&deeds) {
        match order.last_mut() {
            Some(last) if last.0 == s => last.1.end = band + 1,
            _ => order.push((s, band..band + 1)),
        }
    }
    let mut works: Vec<_> = (0..deeds.len())
        .map(|s| {
            let starts: Vec<usize> = order.iter().filter(|o| o.0 == s).map(|o| o.1.start).collect();
            let step = steps.start + s;
            let whole = starts.len() == 1;
            let parts = if whole {
                vec![calls(step).to_vec()]
            } else {
                cut::bands(calls(step), reach, bands, &starts)
            };
            parts.into_iter()
        })
        .collect();
    let work = |(s, _): (usize, _)| {
        let calls: Vec<Call> = works[s].next().unwrap_or_default();
        (!calls.is_empty()).then(|| Task::Work { step: steps.start + s, work: Work::Kernels(calls) })
    };
    let tasks: Vec<Task> = order.into_iter().filter_map(work).collect();
    // Of bands that were joined to one run it can be harder to prove than of each.
    if check::overtaken(&tasks, reach).is_none() {
        return tasks;
    }
    steps.map(|step| Task::Work { step, work: plan.steps[step].work.clone() }).collect()
}

/// Steps and bands, given what the bands of each step do, in an order that gives what the steps one after the other do.
fn turns(deeds: &[Vec<Deeds>]) -> Vec<(usize, usize)> {
    // For each band, how many bands of each step before must be done.
    let needs: Vec<Vec<Vec<usize>>> = (0..deeds.len())
        .map(|s| {
            let needed = |band: &Deeds, before: &Vec<Deeds>| {
                before.iter().rposition(|other| band.meet(other)).map_or(0, |last| last + 1)
            };
            deeds[s]
                .iter()
                .map(|band| deeds[..s].iter().map(|before| needed(band, before)).collect())
                .collect()
        })
        .collect();
    let mut done = vec![0; deeds.len()];
    let ready = |s: usize, done: &[usize]| {
        needs[s].get(done[s]).is_some_and(|need| need.iter().zip(done).all(|(need, done)| need <= done))
    };
    let mut order = Vec::new();
    // Nothing is before the first step that is not done.
    while let Some(s) = (0..deeds.len()).rev().find(|&s| ready(s, &done)) {
        order.push((s, done[s]));
        done[s] += 1;
    }
    order
}
