//! Splits of made-up plans: every point once, in balance, and what the check rejects.

use super::races::race;
use crate::plan_ir::ones;
use proptest::prelude::*;
use qgraph_compiler::blob::Bytes;
use qgraph_compiler::kernel::{Access, Addr, Instr, Kernel, KernelBuilder};
use qgraph_compiler::plan::split::{Split, Task, Tasks};
use qgraph_compiler::plan::verify::verify;
use qgraph_compiler::plan::{Call, FunctionCall, GridDim, Io, Plan, Ptr, Space, Step, Work};
use qgraph_compiler::target::Target;
use qgraph_runtime::Dtype;
use qgraph_runtime::functions::{Function, Unary};
use std::sync::Arc;

/// 64 bytes of y = 64 bytes of x + 64 bytes of w, `again` times.
fn add(again: usize) -> Kernel {
    let mut b = KernelBuilder::new("add_avx512vnni", 16);
    let x = b.param("x", Access::Read);
    let w = b.param("w", Access::Read);
    let y = b.param("y", Access::Write);
    let r = b.array("r", 1);
    b.op(Instr::Load { dst: r.at(0), src: Addr::new(x, 0), bytes: 64 });
    b.loop_(again, [], |b| b.op(Instr::AddI32 { dst: r.at(0), a: r.at(0), b: Addr::new(w, 0).into() }));
    b.op(Instr::Store { dst: Addr::new(y, 0), src: r.at(0), bytes: 64 });
    b.finish()
}

fn at(space: Space, offset: usize) -> Ptr {
    Ptr { space, offset }
}

/// Calls over grids of these extents, each writing a block of its own, row-major; along dimensions with `true` another constant is read.
fn calls(grids: &[Vec<(usize, bool)>]) -> (Vec<Call>, usize) {
    let (mut calls, mut first) = (Vec::new(), 0);
    for dims in grids {
        let mut inner = 64;
        let mut grid = Vec::new();
        for &(extent, constant) in dims.iter().rev() {
            grid.insert(0, GridDim { extent, advance: vec![0, if constant { 64 } else { 0 }, inner as i64] });
            inner *= extent;
        }
        let args = vec![at(Space::Input(0), 0), at(Space::Weights, 0), at(Space::Arena, first)];
        calls.push(Call { kernel: 0, args, grid });
        first += inner;
    }
    (calls, first)
}

pub(super) fn plan(steps: Vec<Work>, arena_bytes: usize) -> Plan {
    let step = |work| Step { layer: "test".into(), what: "test", macs: 0, work };
    Plan {
        name: "made up".into(),
        target: Target::avx512vnni(),
        batch: 1,
        head: steps.len(),
        carried_bytes: 0,
        arena_bytes,
        weights: Arc::new(Bytes::zeroed(64 * 64)),
        consts: Arc::new(Bytes::zeroed(0)),
        inputs: vec![Io { name: "x".into(), dtype: Dtype::U8, shape: vec![1, 64], image_bytes: 64 }],
        outputs: vec![],
        kernels: vec![add(100)],
        steps: steps.into_iter().map(step).collect(),
        places: vec![],
        blocks: vec![],
    }
}

/// Grid points of each thread.
fn points(split: &Split) -> Vec<usize> {
    let of = |task: &Task| match task {
        Task::Work { work: Work::Kernels(calls), .. } => {
            calls.iter().map(|c| c.grid.iter().map(|d| d.extent).product::<usize>()).sum()
        }
        Task::Work { work: Work::Function(_), .. } | Task::Barrier => 0,
    };
    split.threads.iter().map(|tasks| tasks.all.iter().map(of).sum()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_point_once_and_in_balance(
        grids in prop::collection::vec(prop::collection::vec((1..14usize, any::<bool>()), 0..=3), 1..=4),
        threads in 1..=64usize,
    ) {
        let (calls, arena) = calls(&grids);
        let plan = plan(vec![Work::Kernels(calls)], arena);
        prop_assert_eq!(verify(&plan), vec![]);
        let split = Split::finer(&plan, threads, 0);
        prop_assert_eq!(split.check(&plan), Ok(()));
        let points = points(&split);
        let total: usize = points.iter().sum();
        let most = points.iter().copied().max().unwrap_or(0);
        // Nobody has more than his share by one point and what a coarser cut may cost, per call.
        let allowed = (total as f64 / threads as f64 + 1.0) * (1.0 + 1.0 / 64.0f64).powi(grids.len() as i32);
        prop_assert!(most as f64 <= allowed, "{:?} of {} points\n{}", points, total, split);
        if threads <= 8 {
            prop_assert_eq!(race(&plan, &split), None);
        }
    }
}

#[test]
fn equal_shares_differ_by_one_point_of_the_axis_that_is_cut() {
    // 56 rows of 8 tiles. Rows are enough for 2 and 7 threads, and for 3 (the slowest has 152 tiles of 149.3 ideal); for 64 they are not.
    let (calls, arena) = calls(&[vec![(56, false), (8, false)]]);
    let plan = plan(vec![Work::Kernels(calls)], arena);
    let shares = |threads| points(&Split::new(&plan, threads));
    assert_eq!(shares(2), [224, 224]);
    assert_eq!(shares(7), [64; 7]);
    assert_eq!(shares(3), [152, 144, 152]);
    assert_eq!(shares(64), [7; 64]);
}

#[test]
fn threads_go_on_with_what_they_have_written() {
    // 8 rows of 8 panels, a block each. The second step reads the blocks of the first where it wrote them, and other constants per panel.
    // Alone it is cut along panels, so that each thread reads half of the constants.
    let (first, bytes) = calls(&[vec![(8, false), (8, false)]]);
    let (mut second, _) = calls(&[vec![(8, false), (8, true)]]);
    let grids = |plan: &Plan| -> Vec<String> {
        assert_eq!(verify(plan), vec![]);
        let text = Split::finer(plan, 2, 0).to_string();
        text.lines().filter_map(|l| Some(l.split_once("  ")?.1.to_string())).collect()
    };
    let alone = plan(vec![Work::Kernels(second.clone())], bytes);
    assert_eq!(grids(&alone), ["step 0  8×4", "step 0  8×4"]);
    second[0].args[0] = at(Space::Arena, 0);
    second[0].args[2] = at(Space::Arena, bytes);
    second[0].grid.iter_mut().for_each(|d| d.advance[0] = d.advance[2]);
    let both = plan(vec![Work::Kernels(first), Work::Kernels(second)], 2 * bytes);
    assert_eq!(grids(&both), ["step 0  4×8", "step 1  4×8", "step 0  4×8", "step 1  4×8"]);
}

#[test]
fn what_is_filled_is_shared_if_its_readers_share_their_work() {
    let row = |advance: &[i64]| GridDim { extent: 8, advance: advance.to_vec() };
    let fill = Call { kernel: 1, args: vec![at(Space::Arena, 0)], grid: vec![row(&[64])] };
    let args = vec![at(Space::Arena, 0), at(Space::Weights, 0), at(Space::Arena, 512)];
    let read = Call { kernel: 0, args, grid: vec![row(&[64, 0, 64])] };
    let mut plan = plan(vec![Work::Kernels(vec![fill]), Work::Kernels(vec![read])], 1024);
    plan.kernels.push(ones());
    assert_eq!(verify(&plan), vec![]);
    let split = |least| Split::finer(&plan, 2, least);
    // Each reads what it has filled itself: nobody waits.
    assert_eq!(
        split(500).to_string(),
        "thread 0\n  step 0  4\n  step 1  4\nthread 1\n  step 0  4\n  step 1  4\n"
    );
    assert_eq!(race(&plan, &split(500)), None);
    assert_eq!(split(1 << 20).to_string(), "thread 0\n  step 0  8\n  step 1  8\nthread 1\n");
}

/// A step of rows × panels, then one of the same rows in place, then a function, then another step over all.
fn network() -> Plan {
    let rows = |x: Ptr, y: usize| {
        let moves = |x: bool, y: i64| vec![if x { y } else { 0 }, 0, y];
        let from_arena = x.space == Space::Arena;
        let grid = vec![
            GridDim { extent: 6, advance: moves(from_arena, 256) },
            GridDim { extent: 4, advance: moves(from_arena, 64) },
        ];
        Work::Kernels(vec![Call {
            kernel: 0,
            args: vec![x, at(Space::Weights, 0), at(Space::Arena, y)],
            grid,
        }])
    };
    let function = Function::Unary { unary: Unary::Relu, rows: 6, len: 64, src_stride: 256, dst_stride: 256 };
    let args = vec![at(Space::Arena, 0), at(Space::Arena, 0)];
    plan(
        vec![
            rows(at(Space::Input(0), 0), 0),
            rows(at(Space::Arena, 0), 0),
            Work::Function(FunctionCall { function, args }),
            rows(at(Space::Arena, 0), 1536),
        ],
        3072,
    )
}

#[test]
fn text_of_a_split() {
    let plan = network();
    assert_eq!(verify(&plan), vec![]);
    let split = Split::finer(&plan, 2, 0);
    assert_eq!(
        split.to_string(),
        "\
thread 0
  step 0  3×4
  step 1  3×4
  barrier
  step 2  function
  barrier
  step 3  3×4
thread 1
  step 0  3×4
  step 1  3×4
  barrier
  barrier
  step 3  3×4
"
    );
    assert_eq!(split.barriers(), 2);
    assert_eq!(split.check(&plan), Ok(()));
    assert_eq!(race(&plan, &split), None);
    // Too little to share.
    let whole = Split::new(&plan, 2);
    assert_eq!((whole.barriers(), whole.threads[1].all.len()), (0, 0));
    assert_eq!(Split::new(&plan, 1), Split::whole(&plan));
    let batch = Plan { batch: 2, ..plan };
    assert_eq!(Split::finer(&batch, 2, 0).threads[1].all.last(), Some(&Task::Barrier));
}

#[test]
fn what_is_not_proven_independent_stays_whole() {
    // Rows that overlap by half a vector, and two calls that write the same rows.
    let (mut overlapping, arena) = calls(&[vec![(50, false)]]);
    overlapping[0].grid[0].advance[2] = 32;
    let (twice, _) = calls(&[vec![(50, false)]]);
    let twice = [twice.clone(), twice].concat();
    for calls in [overlapping, twice] {
        let plan = plan(vec![Work::Kernels(calls)], arena);
        assert_eq!(verify(&plan), vec![]);
        let split = Split::finer(&plan, 4, 0);
        assert_eq!(split.threads[0].all.len(), 1);
        assert!(split.threads[1..].iter().all(|t| t.all.is_empty()), "{split}");
    }
}

/// Changes a split so that it is none, and the words of the complaint.
type Mutation = (&'static str, fn(&mut Vec<Vec<Task>>));

fn call(tasks: &mut [Task], task: usize) -> &mut Vec<Call> {
    match &mut tasks[task] {
        Task::Work { work: Work::Kernels(calls), .. } => calls,
        Task::Work { work: Work::Function(_), .. } | Task::Barrier => panic!("task {task} calls no kernel"),
    }
}

const MUTATIONS: &[Mutation] = &[
    ("step 0 (test: test): its parts are not the step", |t| drop(t[1].remove(0))),
    ("its parts are not the step", |t| call(&mut t[0], 0)[0].grid[0].extent = 2),
    ("its parts are not the step", |t| call(&mut t[0], 1)[0].args[2].offset += 64),
    ("its parts are not the step", |t| {
        let again = call(&mut t[0], 0)[0].clone();
        call(&mut t[0], 0).push(again);
    }),
    ("its parts are not the step", |t| call(&mut t[1], 0)[0].args[0].space = Space::Arena),
    ("step 2 (test: test): its parts are not the step", |t| {
        let function = t[0][3].clone();
        t[1].insert(3, function);
    }),
    ("out of order", |t| t[0].swap(0, 1)),
    ("there is no step 4", |t| t[0].push(Task::Work { step: 4, work: Work::Kernels(vec![]) })),
    ("thread 1: 1 barriers, thread 0 has 2", |t| drop(t[1].remove(2))),
    ("a barrier stands between its parts", |t| t[0].swap(1, 2)),
];

#[test]
fn every_broken_split_is_rejected() {
    let plan = network();
    let mut halved = Split::finer(&plan, 2, 0);
    halved.threads[1].head = 0;
    assert!(halved.check(&plan).expect_err("a broken split").contains("other side"));
    for (i, (words, change)) in MUTATIONS.iter().enumerate() {
        let mut split = Split::finer(&plan, 2, 0);
        let mut tasks: Vec<Vec<Task>> = split.threads.iter().map(|t| t.all.clone()).collect();
        change(&mut tasks);
        split.threads = tasks.into_iter().map(|all| Tasks { head: all.len(), all }).collect();
        let complaint = split.check(&plan).expect_err("a broken split");
        assert!(complaint.contains(words), "mutation {i}: expected `{words}` in `{complaint}`");
    }
}
