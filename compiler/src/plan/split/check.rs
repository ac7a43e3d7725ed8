//! The check of a split: every thread meets the same barriers, and together they do what the plan does, each point once.

use super::{Split, Task};
use crate::plan::area::Reach;
use crate::plan::deeds::Deeds;
use crate::plan::{Call, Plan, Ptr, Work};

/// A kernel and its arguments at one point of a grid.
type Point = (usize, Vec<(crate::plan::Space, usize)>);

impl Split {
    /// The first rule that is broken:
    ///
    /// - threads pass the same number of barriers, do each step between the same two, and steps in order, but for parts that are independent;
    /// - the grid points of all threads' parts of a step are those of the step, each once;
    /// - a function runs on one thread;
    /// - what is done for each image is just the plan's head.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        // Per step, its parts and how many barriers came before.
        let mut parts: Vec<Vec<(usize, &Work)>> = vec![Vec::new(); plan.steps.len()];
        let reach: Vec<Reach> = plan.kernels.iter().map(Reach::of).collect();
        for (t, tasks) in self.threads.iter().enumerate() {
            let mut passed = 0;
            if let Some(step) = overtaken(&tasks.all, &reach) {
                return Err(format!("thread {t}: step {step} is out of order"));
            }
            for (at, task) in tasks.all.iter().enumerate() {
                match task {
                    Task::Barrier => passed += 1,
                    Task::Work { step, work } => {
                        if *step >= plan.steps.len() {
                            return Err(format!("thread {t}: there is no step {step}"));
                        }
                        if (at < tasks.head) != (*step < plan.head) {
                            return Err(format!("thread {t}: step {step} is on the other side of the head"));
                        }
                        parts[*step].push((passed, work));
                    }
                }
            }
            if passed != self.barriers() {
                return Err(format!("thread {t}: {passed} barriers, thread 0 has {}", self.barriers()));
            }
        }
        for (i, (step, parts)) in plan.steps.iter().zip(parts).enumerate() {
            let in_step = |e: &str| Err(format!("step {i} ({}: {}): {e}", step.layer, step.what));
            if parts.iter().any(|p| p.0 != parts[0].0) {
                return in_step("a barrier stands between its parts");
            }
            let same = match &step.work {
                Work::Function(_) => matches!(parts[..], [(_, work)] if *work == step.work),
                Work::Kernels(calls) => {
                    let calls_of = |w: &Work| match w {
                        Work::Kernels(calls) => calls.clone(),
                        Work::Function(_) => Vec::new(),
                    };
                    let all: Vec<Call> = parts.iter().flat_map(|p| calls_of(p.1)).collect();
                    points(calls) == points(&all)
                }
            };
            if !same {
                return in_step("its parts are not the step");
            }
        }
        Ok(())
    }
}

/// A step that a later one comes before though the order may matter, if there is one.
pub(super) fn overtaken(tasks: &[Task], reach: &[Reach]) -> Option<usize> {
    let mut before: Vec<(usize, Deeds)> = Vec::new();
    tasks.iter().find_map(|task| {
        let Task::Work { step, work } = task else { return None };
        let deeds = Deeds::of(work, reach);
        let overtaken = before.iter().any(|b| b.0 > *step && b.1.meet(&deeds));
        before.push((*step, deeds));
        overtaken.then_some(*step)
    })
}

/// All points of some calls, sorted.
fn points(calls: &[Call]) -> Vec<Point> {
    let mut all = Vec::new();
    for call in calls {
        let mut here: Vec<Vec<Ptr>> = vec![call.args.clone()];
        for dim in &call.grid {
            let moved = |args: &Vec<Ptr>, k: usize| -> Vec<Ptr> {
                let by = |(a, by): (&Ptr, &i64)| Ptr {
                    offset: a.offset.wrapping_add_signed((*by as isize).wrapping_mul(k as isize)),
                    ..*a
                };
                args.iter().zip(&dim.advance).map(by).collect()
            };
            here = here.iter().flat_map(|args| (0..dim.extent).map(move |k| moved(args, k))).collect();
        }
        let key = |args: Vec<Ptr>| (call.kernel, args.into_iter().map(|p| (p.space, p.offset)).collect());
        all.extend(here.into_iter().map(key));
    }
    all.sort_unstable();
    all
}
