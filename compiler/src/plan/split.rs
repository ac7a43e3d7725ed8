//! One run of a plan: who does what, and in which order, is fixed here, before anything runs.
//!
//! In: a verified [`Plan`] and a number of threads. Out: a [`Split`], a list of tasks per thread, which all engines walk as it is. Bits do
//! not depend on the number of threads: parts of a grid are calls of the same kernels on the same bytes.
//!
//! - **One thread** does the steps in the plan's order, or some of them in bands that take turns (`bands`).
//! - **Who.** The calls of a step are cut along their grids, so that every thread gets about the same number of cycles: a call is cut along
//!   its first axis, or as many of the next as balance needs, into runs of consecutive points; where calls do not divide, smaller ones
//!   level out what larger ones left uneven.
//! - **Which axis.** Axes that move through constants (panels of output channels) come first, so that a core reads its own weights only, or
//!   the others (rows, pixels), so that it mostly reads what it has written itself: whichever is expected to take the slowest thread less,
//!   with the lines counted that come from the cache of another core because that wrote them last (`owners`).
//! - **Only what is proven.** Steps whose calls, and axes whose points, are not proven independent stay whole. So do runtime functions and
//!   what takes less time than threads need to meet: thread 0 has them. But what a small step fills without reading, halos, is cut by its
//!   addresses if those who read it next share that work: each then mostly has what it reads in its own cache.
//! - **Barriers** stand only before steps of which a part touches what another thread may have written, or writes what it may still
//!   touch, since the last barrier.
//!
//! Not here: how threads wait (`qgraph_runtime::pool`), how images of a batch are shared (`runner`).

mod bands;
mod check;
mod cut;
mod owners;

use super::area::Reach;
use super::deeds::Deeds;
use super::{Call, Plan, Step, Work, cost};
use owners::Owners;
use std::iter::{once, repeat_n};

/// Steps of fewer cycles stay on one thread: about what it takes two threads to meet.
const LEAST: u64 = 4000;

/// What a thread does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Waits until all threads are here.
    Barrier,
    /// A step, or this thread's part of it.
    Work {
        /// Index into [`Plan::steps`].
        step: usize,
        /// What to do of it.
        work: Work,
    },
}

/// The tasks of every thread. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Of each thread.
    pub threads: Vec<Tasks>,
}

/// The tasks of a thread, those of [`Plan::head`]'s steps first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tasks {
    /// In order.
    pub all: Vec<Task>,
    /// How many of them are done for each image; those behind are done once.
    pub head: usize,
}

impl Tasks {
    /// What is done for each image, and what once for all of them.
    pub fn parts(&self) -> (&[Task], &[Task]) {
        self.all.split_at(self.head)
    }
}

impl Split {
    /// Everything on one thread: steps as they are, or in bands of rows that take turns where that keeps activations in the cache.
    pub fn whole(plan: &Plan) -> Split {
        let all = bands::tasks(plan);
        let head =
            all.iter().take_while(|t| matches!(t, Task::Work { step, .. } if *step < plan.head)).count();
        let split = Split { threads: vec![Tasks { all, head }] };
        debug_assert_eq!(split.check(plan), Ok(()));
        split
    }

    /// Shares a plan, which [`super::verify`] accepts, among `threads` (at least 1) threads.
    pub fn new(plan: &Plan, threads: usize) -> Split {
        Split::finer(plan, threads, LEAST)
    }

    /// The same, but steps of `least` cycles are already shared.
    pub fn finer(plan: &Plan, threads: usize, least: u64) -> Split {
        if threads <= 1 {
            return Split::whole(plan);
        }
        let reach: Vec<Reach> = plan.kernels.iter().map(Reach::of).collect();
        let cycles: Vec<f64> = plan.kernels.iter().map(|k| cost::kernel(k, &plan.target)).collect();
        let ways = ways(plan, &reach, &cycles, threads, least);
        let mut owners = Owners::new(plan);
        let mut tasks = vec![Tasks::default(); threads];
        // What each thread has done since the last barrier.
        let mut done: Vec<Deeds> = (0..threads).map(|_| Deeds::default()).collect();
        let barrier = |tasks: &mut Vec<Tasks>| tasks.iter_mut().for_each(|t| t.all.push(Task::Barrier));
        // The next image takes the same memory, and the tail all of it.
        let end_head = |tasks: &mut Vec<Tasks>| {
            if plan.batch > 1 {
                barrier(tasks);
            }
            tasks.iter_mut().for_each(|t| t.head = t.all.len());
        };
        for (step, (s, ways)) in plan.steps.iter().zip(ways).enumerate() {
            if step == plan.head {
                end_head(&mut tasks);
                done.iter_mut().for_each(|d| *d = Deeds::default());
            }
            let whole = || once(s.work.clone()).chain(repeat_n(Work::Kernels(Vec::new()), threads - 1));
            let ways = ways.into_iter().map(|w| w.into_iter().map(Work::Kernels).collect());
            let ways = ways.map(|parts: Vec<Work>| Way::new(parts, &reach, &cycles, &mut owners));
            let best = ways.reduce(|a, b| if b.cycles < a.cycles { b } else { a });
            let Way { parts, deeds, .. } =
                best.unwrap_or_else(|| Way::new(whole().collect(), &reach, &cycles, &mut owners));
            deeds.iter().enumerate().for_each(|(t, d)| owners.write(t, &d.written));
            let others = |t: usize| done.iter().enumerate().filter(move |d| d.0 != t).map(|d| d.1);
            if deeds.iter().enumerate().any(|(t, new)| others(t).any(|old| new.meet(old))) {
                barrier(&mut tasks);
                done.iter_mut().for_each(|d| *d = Deeds::default());
            }
            for (t, (work, new)) in parts.into_iter().zip(deeds).enumerate() {
                if work != Work::Kernels(Vec::new()) {
                    tasks[t].all.push(Task::Work { step, work });
                    done[t].add(new);
                }
            }
        }
        if plan.head == plan.steps.len() {
            end_head(&mut tasks);
        }
        let split = Split { threads: tasks };
        debug_assert_eq!(split.check(plan), Ok(()));
        split
    }

    /// How often threads wait for each other, with one image.
    pub fn barriers(&self) -> usize {
        self.threads[0].all.iter().filter(|t| **t == Task::Barrier).count()
    }
}

/// Ways to share each step of a plan, each a list of calls per thread; none where one thread does it.
fn ways(
    plan: &Plan,
    reach: &[Reach],
    cycles: &[f64],
    threads: usize,
    least: u64,
) -> Vec<Vec<Vec<Vec<Call>>>> {
    let of_step = |step: &Step| match &step.work {
        Work::Kernels(calls) if cost::calls(calls, cycles) >= least as f64 => {
            cut::ways(calls, reach, cycles, threads)
        }
        Work::Kernels(_) | Work::Function(_) => Vec::new(),
    };
    let mut ways: Vec<_> = plan.steps.iter().map(of_step).collect();
    let deeds: Vec<Deeds> = plan.steps.iter().map(|s| Deeds::of(&s.work, reach)).collect();
    for (step, fill) in deeds.iter().enumerate() {
        let Work::Kernels(calls) = &plan.steps[step].work else { continue };
        if !ways[step].is_empty() || !cut::fills(calls, reach) || !cut::independent(calls, reach) {
            continue;
        }
        let reader = (step + 1..ways.len()).find(|&later| fill.change(&deeds[later]));
        if reader.is_some_and(|r| !ways[r].is_empty()) {
            let starts: Vec<usize> = (0..threads).collect();
            ways[step].push(cut::bands(calls, reach, threads, &starts));
        }
    }
    ways
}

/// A way to share a step.
struct Way<'a> {
    /// Of each thread.
    parts: Vec<Work>,
    deeds: Vec<Deeds<'a>>,
    /// That the slowest thread is expected to take.
    cycles: f64,
}

impl<'a> Way<'a> {
    fn new(parts: Vec<Work>, reach: &'a [Reach], kernels: &[f64], owners: &mut Owners) -> Self {
        let core = &owners.plan().target.core;
        let (line, rate) = (f64::from(core.line_of_others), f64::from(core.l3_rate));
        let deeds: Vec<Deeds> = parts.iter().map(|work| Deeds::of(work, reach)).collect();
        let cycles = |(t, work): (usize, &Work)| {
            let Work::Kernels(calls) = work else { return 0.0 };
            // What is asked for ahead is planned for a whole step on one core: about half of it still comes in time.
            let constants = cost::constants(work, reach) as f64 / rate / 2.0;
            let others = line * owners.lines_of_others(t, &deeds[t].touched) as f64;
            cost::calls(calls, kernels) + constants + others
        };
        let cycles = parts.iter().enumerate().map(cycles).fold(0.0, f64::max);
        Way { parts, deeds, cycles }
    }
}
