//! The order of one thread: steps in bands that take turns, only as far as they are independent.

use crate::support::engines::{plan, small_cache};
use crate::support::random_graph::{ConvCase, Maker};
use qgraph_compiler::lower::Options;
use qgraph_compiler::plan::split::{Split, Task};
use qgraph_compiler::plan::verify::verify;
use qgraph_compiler::plan::{Call, GridDim, Plan, Ptr, Space, Work};
use qgraph_compiler::qgraph::Window;
use qgraph_compiler::target::{Core, Target};

/// Bytes of a row.
const ROW: usize = 64;

/// A step that writes `rows` rows at `to`, each of the two at `from`: row k of rows k and k + 1.
fn sums(rows: usize, from: Ptr, to: usize) -> Work {
    let step = |space| if space == Space::Arena { ROW as i64 } else { 0 };
    let next = Ptr { offset: if from.space == Space::Arena { from.offset + ROW } else { 0 }, ..from };
    let args = vec![from, next, Ptr { space: Space::Arena, offset: to }];
    let grid = vec![GridDim { extent: rows, advance: args.iter().map(|a| step(a.space)).collect() }];
    Work::Kernels(vec![Call { kernel: 0, args, grid }])
}

fn made_up(steps: Vec<Work>) -> Plan {
    let plan = Plan { target: small_cache(Target::avx512vnni()), ..super::split::plan(steps, 120 * ROW) };
    assert_eq!(verify(&plan), vec![]);
    plan
}

const INPUT: Ptr = Ptr { space: Space::Input(0), offset: 0 };

fn arena(row: usize) -> Ptr {
    Ptr { space: Space::Arena, offset: row * ROW }
}

#[test]
fn a_step_goes_on_when_the_rows_that_it_reads_are_there() {
    // Five bands of either step, the second of which needs a row more than it writes.
    let plan = made_up(vec![sums(17, INPUT, 0), sums(16, arena(0), 40 * ROW)]);
    assert_eq!(
        Split::whole(&plan).to_string(),
        "\
thread 0
  step 0  7
  step 1  4
  step 0  4
  step 1  6
  step 0  3
  step 1  3
  step 0  3
  step 1  3
"
    );
}

#[test]
fn what_would_be_overwritten_is_waited_for() {
    // The second step begins to write where the first reads last: it waits for all of it, and nothing is cut.
    let plan = made_up(vec![sums(33, arena(40), 0), sums(32, arena(0), 72 * ROW)]);
    let split = Split::whole(&plan);
    let whole = |(k, task): (usize, &Task)| *task == Task::Work { step: k, work: plan.steps[k].work.clone() };
    assert!(split.threads[0].all.iter().enumerate().all(whole), "{split}");
}

#[test]
fn convolutions_take_turns() {
    let mut m = Maker::new(4);
    let window = |kernel: usize| Window {
        kernel: [kernel; 2],
        strides: [1; 2],
        dilations: [1; 2],
        pads: [kernel / 2; 4],
    };
    let conv = |channels, outputs, groups, kernel| ConvCase {
        channels,
        outputs,
        groups,
        window: window(kernel),
        residual: false,
        to_float: false,
        sane: true,
    };
    let x = m.input(&[1, 8, 24, 24]);
    let a = m.conv(x, &conv(8, 48, 1, 1), None).expect("the window fits");
    let b = m.conv(a, &conv(48, 48, 48, 3), None).expect("the window fits");
    let c = m.conv(b, &conv(48, 8, 1, 1), None).expect("the window fits");
    let graph = m.finish(&[c]);
    for target in Target::ALL {
        let near = plan(&graph, &target, &Options::default());
        assert_eq!(Split::whole(&near).threads[0].all.len(), near.steps.len(), "all fits the cache");
        let core = Core { l2: 16 << 10, ..target.core.clone() };
        let far = plan(&graph, &Target { core, ..target }, &Options::default());
        let split = Split::whole(&far);
        assert_eq!(split.check(&far), Ok(()));
        let convs: Vec<usize> = (0..far.steps.len()).filter(|&k| far.steps[k].macs > 0).collect();
        for k in convs {
            let parts =
                split.threads[0].all.iter().filter(|t| matches!(t, Task::Work { step, .. } if *step == k));
            assert!(parts.count() >= 3, "step {k}\n{split}\n{far}");
        }
    }
}
