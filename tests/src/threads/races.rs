//! Who touches which byte, thread by thread: a definition of a race that shares nothing with the proofs of the compiler.

use super::{convolutions, demo};
use crate::support::random_graph::random_graph;
use qgraph_compiler::kernel::expand::expand;
use qgraph_compiler::kernel::parts::Part;
use qgraph_compiler::kernel::{FlatKernel, FlatStmt};
use qgraph_compiler::lower::{self, Options};
use qgraph_compiler::plan::split::{Split, Task, Tasks};
use qgraph_compiler::plan::{Call, Plan, Space, Work};
use qgraph_compiler::target::Target;
use std::collections::HashMap;

/// Per byte, the threads that have written and touched it since the last barrier, as bits.
struct Shadow {
    spaces: HashMap<Space, Vec<[u8; 2]>>,
    kernels: Vec<FlatKernel>,
}

impl Shadow {
    fn new(plan: &Plan) -> Self {
        let written = (0..plan.outputs.len()).map(Space::Output).chain([Space::Arena, Space::Carried]);
        let spaces = written.map(|s| (s, vec![[0; 2]; plan.space_bytes(s, plan.batch)])).collect();
        Shadow { spaces, kernels: plan.kernels.iter().map(expand).collect() }
    }

    fn touch(&mut self, thread: usize, space: Space, at: i64, bytes: usize, write: bool) {
        let Some(memory) = self.spaces.get_mut(&space) else { return };
        for byte in &mut memory[at as usize..at as usize + bytes] {
            byte[0] |= u8::from(write) << thread;
            byte[1] |= 1 << thread;
        }
    }

    fn work(&mut self, thread: usize, work: &Work) {
        match work {
            Work::Kernels(calls) => {
                for call in calls {
                    let args: Vec<i64> = call.args.iter().map(|p| p.offset as i64).collect();
                    self.grid(thread, call, args, 0);
                }
            }
            Work::Function(call) => {
                for (i, p) in call.args.iter().enumerate() {
                    let (read, written) = call.function.footprint(i);
                    self.touch(thread, p.space, p.offset as i64, read, false);
                    self.touch(thread, p.space, p.offset as i64, written, true);
                }
            }
        }
    }

    fn grid(&mut self, thread: usize, call: &Call, mut args: Vec<i64>, dim: usize) {
        let Some(d) = call.grid.get(dim) else { return self.kernel(thread, call, args) };
        for _ in 0..d.extent {
            self.grid(thread, call, args.clone(), dim + 1);
            args.iter_mut().zip(&d.advance).for_each(|(a, by)| *a += by);
        }
    }

    fn kernel(&mut self, thread: usize, call: &Call, mut args: Vec<i64>) {
        let body = std::mem::take(&mut self.kernels[call.kernel].body);
        let lanes = self.kernels[call.kernel].lanes;
        // Open loops: where the body starts, iterations to go.
        let (mut open, mut at): (Vec<(usize, usize)>, usize) = (Vec::new(), 0);
        while let Some(stmt) = body.get(at) {
            at += 1;
            match stmt {
                FlatStmt::Begin { extent, .. } => open.push((at, *extent)),
                FlatStmt::End => {
                    let (start, left) = open.pop().expect("loops nest");
                    let FlatStmt::Begin { extent, advance } = &body[start - 1] else {
                        panic!("a loop begins")
                    };
                    advance.iter().for_each(|&(p, by)| args[p] += by);
                    if left > 1 {
                        open.push((start, left - 1));
                        at = start;
                    } else {
                        advance.iter().for_each(|&(p, by)| args[p] -= by * *extent as i64);
                    }
                }
                FlatStmt::Op(instr) => {
                    for part in instr.parts(lanes).1 {
                        let (&(p, offset), bytes, write) = match part {
                            Part::Store(a, bytes) => (a, bytes, true),
                            Part::Load(a, bytes) => (a, bytes, false),
                            Part::Def(_) | Part::Use(_) | Part::Hint(_) | Part::Imm(_) => continue,
                        };
                        self.touch(thread, call.args[p].space, args[p] + offset, bytes, write);
                    }
                }
            }
        }
        self.kernels[call.kernel].body = body;
    }

    /// A byte that one thread has written and another touched; forgets everything.
    fn race(&mut self) -> Option<(Space, usize)> {
        let race = |b: &[u8; 2]| b[0] != 0 && b[1].count_ones() > 1;
        let found = self.spaces.iter().find_map(|(s, bytes)| Some((*s, bytes.iter().position(race)?)));
        self.spaces.values_mut().for_each(|bytes| bytes.fill([0; 2]));
        found
    }
}

/// Between which barriers two threads meet at which byte, if they do.
pub(super) fn race(plan: &Plan, split: &Split) -> Option<String> {
    let mut shadow = Shadow::new(plan);
    let mut sections: Vec<_> =
        split.threads.iter().map(|t| t.all.split(|task| *task == Task::Barrier)).collect();
    for section in 0.. {
        let now: Vec<_> = sections.iter_mut().map(Iterator::next).collect();
        if now.iter().all(Option::is_none) {
            break;
        }
        for (t, tasks) in now.iter().enumerate() {
            for task in tasks.expect("all threads meet the same barriers") {
                if let Task::Work { work, .. } = task {
                    shadow.work(t, work);
                }
            }
        }
        if let Some((space, byte)) = shadow.race() {
            return Some(format!("after barrier {section}: byte {byte} of {space}"));
        }
    }
    None
}

/// Asserts that a graph's splits are splits and have no race; gives the number of steps that more than one thread works at.
fn clean(graph: &qgraph_compiler::qgraph::QGraph, target: &Target, least: u64) -> usize {
    let plan = lower::schedule(graph, target, &Options::default()).expect("the graph is scheduled");
    let mut shared = 0;
    for threads in [2, 3, 8] {
        let split = Split::finer(&plan, threads, least);
        assert_eq!(split.check(&plan), Ok(()), "{threads} threads\n{plan}");
        assert_eq!(race(&plan, &split), None, "{threads} threads\n{plan}\n{split}");
        let works = |step: usize| {
            let at = |t: &&Tasks| t.all.iter().any(|t| matches!(t, Task::Work { step: s, .. } if *s == step));
            split.threads.iter().filter(at).count()
        };
        shared += (0..plan.steps.len()).filter(|&s| works(s) > 1).count();
    }
    shared
}

#[test]
fn no_two_threads_meet_at_a_byte() {
    let mut shared = 0;
    for seed in 0..80 {
        shared += clean(&random_graph(seed, 12), &Target::ALL[seed as usize % Target::ALL.len()], 0);
    }
    assert!(shared > 1000, "only {shared} steps are shared");
    for graph in demo() {
        let shared = clean(&graph, &Target::avx512vnni(), 0);
        assert!(shared >= 3 * graph.nodes.len(), "{shared} of {}", graph.nodes.len());
    }
    for seed in 0..4 {
        assert!(clean(&convolutions(seed), &Target::avx512vnni(), 4000) >= 12);
    }
}

#[test]
fn without_barriers_they_meet() {
    let [graph, _] = demo();
    let plan = lower::schedule(&graph, &Target::avx512vnni(), &Options::default()).expect("it is scheduled");
    let mut split = Split::new(&plan, 2);
    let barriers = split.barriers();
    assert!(barriers > 1);
    // None is there for nothing: two steps that meet are on either side.
    for drop in 0..barriers {
        let mut without = split.clone();
        for Tasks { all, .. } in &mut without.threads {
            let at = all.iter().enumerate().filter(|t| *t.1 == Task::Barrier).nth(drop).map(|t| t.0);
            all.remove(at.expect("as many barriers on all threads"));
        }
        assert!(race(&plan, &without).is_some(), "barrier {drop} is not needed\n{split}");
    }
    split.threads.iter_mut().for_each(|t| t.all.retain(|task| *task != Task::Barrier));
    assert!(race(&plan, &split).is_some());
}
