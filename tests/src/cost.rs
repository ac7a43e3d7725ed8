//! The cost model: pure, of every step, never faster than the pipes, and more for more work. How well it predicts time is what
//! `bench --profile` prints.

use crate::support::data_dir;
use crate::support::engines::plan;
use crate::support::random_graph::{ConvCase, Maker, random_graph};
use qgraph_compiler::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Regs};
use qgraph_compiler::lower::Options;
use qgraph_compiler::plan::cost::{self, Cost};
use qgraph_compiler::plan::{Plan, Work};
use qgraph_compiler::qgraph::Window;
use qgraph_compiler::target::{Core, Target};
use qgraph_compiler::{onnx, pipeline};

/// Checks what holds for any plan; gives its costs.
fn check(plan: &Plan, what: &str) -> Vec<Cost> {
    let costs = cost::steps(plan);
    assert_eq!(costs.len(), plan.steps.len(), "{what}");
    assert_eq!(costs, cost::steps(plan), "{what}");
    let (fixed, activations) = (plan.weights.len() + plan.consts.len(), plan.arena_bytes);
    for (step, c) in plan.steps.iter().zip(&costs) {
        let what = format!("{what}, {}: {}: {c:?}", step.layer, step.what);
        assert!(c.cycles.is_finite() && c.cycles > 0.0 && c.written > 0, "{what}");
        assert!(c.constants <= fixed, "{what}: of {fixed}");
        let io: usize = plan.inputs.iter().chain(&plan.outputs).map(|io| plan.batch * io.image_bytes).sum();
        assert!(c.read.max(c.written) <= activations + io, "{what}: of {activations} and {io}");
        // Four products of bytes a lane is all that the pipes do.
        let Core { multiply, passes, .. } = plan.target.core;
        let most = f64::from(multiply.count_ones()) / f64::from(passes) * (4 * plan.target.lanes) as f64;
        assert!(c.cycles >= step.macs as f64 / most, "{what}: {} MACs", step.macs);
    }
    costs
}

#[test]
fn every_step_of_random_plans_has_a_cost() {
    let mut functions = 0;
    for seed in 0..60 {
        let graph = random_graph(seed, 12);
        for target in Target::ALL {
            let plan = plan(&graph, &target, &Options { batch: 1 + seed as usize % 3, ..Options::default() });
            check(&plan, &format!("seed {seed}, {target}"));
            functions += plan.steps.iter().filter(|s| matches!(s.work, Work::Function(_))).count();
        }
    }
    assert!(functions > 0, "no runtime function among the steps");
}

#[test]
fn every_step_of_real_plans_has_a_cost() {
    let Some(data) = data_dir() else { return };
    for name in ["mobilenet_v2", "squeezenet1.1"] {
        let path = data.join("models").join(format!("{name}.onnx"));
        let graph = pipeline::import(&path, &onnx::Options::default()).unwrap();
        for graph in
            [pipeline::float(&graph).unwrap(), pipeline::float(&pipeline::fuse(&graph).unwrap().0).unwrap()]
        {
            for target in [Target::avx512vnni(), Target::avx2()] {
                let plan = plan(&graph, &target, &Options::default());
                let costs = check(&plan, name);
                let weights: usize = costs.iter().map(|c| c.constants).sum();
                assert!(2 * weights > plan.weights.len(), "{name}: {weights} of {}", plan.weights.len());
            }
        }
    }
}

/// Cycles of the convolutions of a network of one.
fn convolution(channels: usize, outputs: usize, kernel: usize, map: usize, target: &Target) -> f64 {
    let mut m = Maker::new(7);
    let x = m.input(&[1, channels, map, map]);
    let window = Window { kernel: [kernel; 2], strides: [1; 2], dilations: [1; 2], pads: [kernel / 2; 4] };
    let groups = if channels == outputs && kernel == 5 { channels } else { 1 };
    let case = ConvCase { channels, outputs, groups, window, residual: false, to_float: false, sane: true };
    let y = m.conv(x, &case, None).expect("it fits");
    let plan = plan(&m.finish(&[y]), target, &Options::default());
    let costs = check(&plan, &format!("{channels} to {outputs}, {kernel}x{kernel}, {target}"));
    plan.steps.iter().zip(costs).filter(|s| s.0.macs > 0).map(|s| s.1.cycles).sum()
}

#[test]
fn more_work_costs_more() {
    for target in Target::ALL {
        let grows = |what: &str, costs: Vec<f64>| {
            assert!(costs.is_sorted_by(|a, b| a < b), "{what}, {target}: {costs:?}");
        };
        let sizes = [16, 32, 64, 80, 128, 192];
        grows("inputs", sizes.map(|c| convolution(c, 48, 3, 14, &target)).to_vec());
        grows("outputs", sizes.map(|c| convolution(48, c, 3, 14, &target)).to_vec());
        grows("pixels", [7, 14, 28, 56].map(|n| convolution(32, 64, 1, n, &target)).to_vec());
        grows("taps", [1, 3, 7].map(|k| convolution(32, 64, k, 14, &target)).to_vec());
        grows("depthwise", [64, 128, 192].map(|c| convolution(c, c, 5, 14, &target)).to_vec());
    }
}

/// A loop of 1000 turns over `body`, which gets an array of 24 registers and the parameters y and x.
fn loop_of(body: impl Fn(&mut KernelBuilder, Regs, usize, usize)) -> Kernel {
    let mut b = KernelBuilder::new("k", 16);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    let r = b.array("r", 24);
    b.loop_(1000, [], |b| body(b, r, y, x));
    b.finish()
}

/// The figures of a Golden Cove: two dots of 64 bytes a cycle, two loads, one store, five cycles between dots into one register.
#[test]
fn what_is_short_decides() {
    let target = Target::avx512vnni();
    let per_turn = |body: &dyn Fn(&mut KernelBuilder, Regs, usize, usize)| {
        let cycles = cost::kernel(&loop_of(body), &target) / 1000.0;
        (cycles * 10.0).round() / 10.0
    };
    let dot = |r: Regs, acc: usize| Instr::Dot4 { acc: r.at(acc), u: r.at(22), s: r.at(23).into() };
    let load =
        |r: Regs, x: usize, k: usize| Instr::Load { dst: r.at(k), src: Addr::new(x, 64 * k), bytes: 64 };
    assert_eq!(per_turn(&|b, r, _, _| (0..20).for_each(|k| b.op(dot(r, k)))), 10.0);
    assert_eq!(per_turn(&|b, r, _, _| b.unroll(20, |b, _| b.op(dot(r, 0)))), 100.0);
    assert_eq!(per_turn(&|b, r, _, x| (0..20).for_each(|k| b.op(load(r, x, k)))), 10.0);
    let store = |r: Regs, y: usize, k: usize, bytes: usize| Instr::Store {
        dst: Addr::new(y, 64 * k),
        src: r.at(k),
        bytes,
    };
    assert_eq!(per_turn(&|b, r, y, _| (0..20).for_each(|k| b.op(store(r, y, k, 64)))), 20.0);
    assert_eq!(per_turn(&|b, r, y, _| (0..20).for_each(|k| b.op(store(r, y, k, 16)))), 20.0);
    // Conversions share both pipes with dots; packs have one of the two.
    let convert = |r: Regs, k: usize| Instr::CvtI32F32 { dst: r.at(k), src: r.at(23) };
    let pack = |r: Regs, k: usize| Instr::PackI16U8 { dst: r.at(k), a: r.at(22), b: r.at(23) };
    let both = |b: &mut KernelBuilder, r: Regs, other: &dyn Fn(Regs, usize) -> Instr<_, _>| {
        (0..6).for_each(|k| b.op(dot(r, k)));
        (6..20).for_each(|k| b.op(other(r, k)));
    };
    assert_eq!(per_turn(&|b, r, _, _| both(b, r, &convert)), 10.0);
    assert_eq!(per_turn(&|b, r, _, _| both(b, r, &pack)), 14.0);
}
