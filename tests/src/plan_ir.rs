//! Plans: what their verifier accepts and rejects, their interpreter, their text.

use crate::support::workspace_root;
use qgraph_compiler::Stage;
use qgraph_compiler::blob::Bytes;
use qgraph_compiler::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Stmt};
use qgraph_compiler::lower::{Options, schedule};
use qgraph_compiler::plan::interp::Interpreter;
use qgraph_compiler::plan::verify::verify;
use qgraph_compiler::plan::{Block, Call, FunctionCall, GridDim, Io, Place, Plan, Ptr, Space, Step, Work};
use qgraph_compiler::qgraph::file;
use qgraph_compiler::target::Target;
use qgraph_runtime::functions::{Function, Unary};
use qgraph_runtime::{Dtype, Extent, Model, RunError, TensorMut, TensorRef};
use std::sync::Arc;

fn at(space: Space, offset: usize) -> Ptr {
    Ptr { space, offset }
}

/// y[16 i32] = bias[16] + Σ over 4 groups of 4 channels.
fn dot() -> Kernel {
    let mut b = KernelBuilder::new("dot_u8s8_1x16_avx512vnni", 16);
    let x = b.param("x", Access::Read);
    let w = b.param("w", Access::Read);
    let bias = b.param("bias", Access::Read);
    let y = b.param("y", Access::Write);
    let (acc, t) = (b.array("acc", 1), b.array("t", 1));
    b.op(Instr::Load { dst: acc.at(0), src: Addr::new(bias, 0), bytes: 64 });
    b.loop_(4, [(x, 4), (w, 64)], |b| {
        b.op(Instr::Broadcast32 { dst: t.at(0), src: Addr::new(x, 0) });
        b.op(Instr::Dot4 { acc: acc.at(0), u: t.at(0), s: Addr::new(w, 0).into() });
    });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: acc.at(0), bytes: 64 });
    b.finish()
}

/// y[16 f32] = f32(x[16 i32]), in place if x and y are equal.
fn convert() -> Kernel {
    let mut b = KernelBuilder::new("f32_from_i32_avx512vnni", 16);
    let x = b.param("x", Access::Read);
    let y = b.param("y", Access::Write);
    let t = b.array("t", 1);
    b.op(Instr::Load { dst: t.at(0), src: Addr::new(x, 0), bytes: 64 });
    b.op(Instr::CvtI32F32 { dst: t.at(0), src: t.at(0) });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: t.at(0), bytes: 64 });
    b.finish()
}

/// Two images of 2×3 pixels of 16 channels; 32 outputs each: dot products, conversion in place, square.
fn plan() -> Plan {
    let mut weights = Bytes::zeroed(2 * 256);
    for (i, w) in weights.iter_mut().enumerate() {
        *w = (i * 7 + 3) as u8;
    }
    let mut consts = Bytes::zeroed(2 * 64);
    for (i, c) in consts.chunks_mut(4).enumerate() {
        c.copy_from_slice(&(i as i32 - 5).to_le_bytes());
    }
    let step = |what, macs, work| Step { layer: "fc".into(), what, macs, work };
    Plan {
        name: "small".into(),
        target: Target::avx512vnni(),
        batch: 2,
        head: 3,
        arena_bytes: 6 * 128,
        carried_bytes: 0,
        weights: Arc::new(weights),
        consts: Arc::new(consts),
        inputs: vec![Io { name: "data".into(), dtype: Dtype::U8, shape: vec![2, 2, 3, 16], image_bytes: 96 }],
        outputs: vec![Io { name: "prob".into(), dtype: Dtype::F32, shape: vec![2, 6, 32], image_bytes: 768 }],
        kernels: vec![dot(), convert()],
        steps: vec![
            step(
                "conv",
                6 * 32 * 16,
                Work::Kernels(vec![Call {
                    kernel: 0,
                    args: vec![
                        at(Space::Input(0), 0),
                        at(Space::Weights, 0),
                        at(Space::Consts, 0),
                        at(Space::Arena, 0),
                    ],
                    grid: vec![
                        GridDim { extent: 2, advance: vec![48, 0, 0, 384] },
                        GridDim { extent: 3, advance: vec![16, 0, 0, 128] },
                        GridDim { extent: 2, advance: vec![0, 256, 64, 64] },
                    ],
                }]),
            ),
            step(
                "convert",
                0,
                Work::Kernels(vec![Call {
                    kernel: 1,
                    args: vec![at(Space::Arena, 704), at(Space::Arena, 704)],
                    grid: vec![GridDim { extent: 12, advance: vec![-64, -64] }],
                }]),
            ),
            step(
                "square",
                0,
                Work::Function(FunctionCall {
                    function: Function::Unary {
                        unary: Unary::Square,
                        rows: 6,
                        len: 32,
                        src_stride: 128,
                        dst_stride: 128,
                    },
                    args: vec![at(Space::Arena, 0), at(Space::Output(0), 0)],
                }),
            ),
        ],
        blocks: vec![],
        places: vec![Place {
            name: "fc".into(),
            dtype: Dtype::F32,
            affine: (1.0, 0),
            ptr: at(Space::Arena, 4),
            shape: vec![3, 6],
            strides: vec![8, 128],
        }],
    }
}

/// What [`plan`] computes before squaring.
fn expected(plan: &Plan, image: &[u8]) -> Vec<f32> {
    let mut out = Vec::new();
    for pixel in image.chunks(16) {
        for m in 0..32 {
            let w = |c: usize| plan.weights[m / 16 * 256 + c / 4 * 64 + m % 16 * 4 + c % 4] as i8;
            let sum: i32 = pixel.iter().enumerate().map(|(c, &x)| i32::from(x) * i32::from(w(c))).sum();
            out.push((sum + m as i32 - 5) as f32);
        }
    }
    out
}

#[test]
fn a_plan_runs_image_by_image() {
    let mut plan = plan();
    // Functions have tests of their own; a kernel squares here.
    let mut b = KernelBuilder::new("square", 16);
    let (x, y) = (b.param("x", Access::Read), b.param("y", Access::Write));
    let t = b.array("t", 1);
    b.op(Instr::Load { dst: t.at(0), src: Addr::new(x, 0), bytes: 64 });
    b.op(Instr::MulF32 { dst: t.at(0), a: t.at(0), b: Addr::new(x, 0).into() });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: t.at(0), bytes: 64 });
    plan.kernels.push(b.finish());
    plan.steps[2].work = Work::Kernels(vec![Call {
        kernel: 2,
        args: vec![at(Space::Arena, 0), at(Space::Output(0), 0)],
        grid: vec![GridDim { extent: 12, advance: vec![64, 64] }],
    }]);
    let plan = Arc::new(plan);
    let model = Interpreter::new(plan.clone()).unwrap();
    let data: Vec<u8> = (0..192).map(|i| (i * 31 + 5) as u8).collect();
    let mut out = vec![0f32; 2 * 192];
    let mut arena = Bytes::zeroed(model.arena_bytes());
    model.run(&[TensorRef::U8(&data)], &mut [TensorMut::F32(&mut out)], &mut arena).unwrap();
    let images: Vec<Vec<f32>> = data.chunks(96).map(|image| expected(&plan, image)).collect();
    let squares: Vec<f32> = images.iter().flatten().map(|x| x * x).collect();
    assert_eq!(out, squares);
    // Channels 1, 3, 5 of each pixel, channels first, of the last image.
    let read: Vec<f32> = (0..18).map(|i| images[1][i % 6 * 32 + 1 + i / 6 * 2]).collect();
    assert_eq!(plan.places[0].read_f32(&arena), read);
    assert_eq!(plan.places[0].read_u8(&arena), None);

    let wrong = model.run(&[TensorRef::U8(&data[1..])], &mut [TensorMut::F32(&mut out)], &mut arena);
    let extent = |dtype, len| Extent { dtype, len };
    let (expected, found) = (extent(Dtype::U8, 192), extent(Dtype::U8, 191));
    assert_eq!(wrong, Err(RunError::Input { index: 0, expected, found }));
    let wrong = model.run(&[TensorRef::F32(&out)], &mut [TensorMut::U8(&mut [0])], &mut arena);
    let text = "run: input 0 takes 192 x u8, 384 x f32 was given (see input())";
    assert_eq!(wrong.map_err(|e| e.to_string()), Err(text.to_string()));
    let wrong = model.run(&[TensorRef::U8(&data)], &mut [TensorMut::F32(&mut out)], &mut arena[64..]);
    assert_eq!(wrong, Err(RunError::Arena { expected: 768, found: 704 }));
}

#[test]
fn quantized_places_are_read_back() {
    let place = Place {
        name: "q".into(),
        dtype: Dtype::U8,
        affine: (0.5, 128),
        ptr: at(Space::Arena, 2),
        shape: vec![1, 2, 2],
        strides: vec![0, 1, 4],
    };
    let memory = [9, 9, 130, 131, 9, 9, 0, 1];
    assert_eq!(place.read_u8(&memory), Some(vec![130, 0, 131, 1]));
    assert_eq!(place.read_f32(&memory), [1.0, -64.0, 1.5, -63.5]);
}

#[test]
fn text() {
    assert_eq!(
        plan().to_string(),
        "plan small  target avx512vnni  batch 2  steps 3  kernels 2  macs 3072
  arena 768 bytes  weights 512 bytes  consts 128 bytes
  input0 data: U8 [2, 2, 3, 16]
  output0 prob: F32 [2, 6, 32]
step 0  fc: conv  macs 3072
  dot_u8s8_1x16_avx512vnni  grid 2×3×2  x=input0+0 [48, 16, 0]  w=weights+0 [0, 0, 256]  bias=consts+0 [0, 0, 64]  \
         y=arena+0 [384, 128, 64]
step 1  fc: convert
  f32_from_i32_avx512vnni  grid 12  x=arena+704 [-64]  y=arena+704 [-64]
step 2  fc: square
  Unary { unary: Square, rows: 6, len: 32, src_stride: 128, dst_stride: 128 }  arena+0  output0+0
"
    );
    assert!(format!("{:#}", plan()).ends_with(&format!("\n{}\n{}", dot(), convert())));
}

fn call(plan: &mut Plan, step: usize) -> &mut Call {
    match &mut plan.steps[step].work {
        Work::Kernels(calls) => &mut calls[0],
        Work::Function(_) => panic!("step {step} calls a function"),
    }
}

fn function(plan: &mut Plan) -> &mut FunctionCall {
    match &mut plan.steps[2].work {
        Work::Function(call) => call,
        Work::Kernels(_) => panic!("step 2 calls kernels"),
    }
}

/// A change of [`plan`] and words of the complaint it must cause.
type Mutation = (&'static str, fn(&mut Plan));

const MUTATIONS: &[Mutation] = &[
    ("kernel 2 does not exist", |p| call(p, 0).kernel = 2),
    ("takes 4 arguments, 3", |p| call(p, 0).args.truncate(3)),
    ("takes 4 advances, 3", |p| call(p, 0).grid[1].advance.truncate(3)),
    ("grid extent of 0", |p| call(p, 0).grid[0].extent = 0),
    ("grid extent of", |p| call(p, 0).grid[0].extent = usize::MAX),
    ("argument x: bytes 0..144 from input0+0 leave its 96", |p| call(p, 0).grid[0].extent = 3),
    ("argument w: bytes", |p| call(p, 0).grid[2].extent = 3),
    ("argument x: bytes", |p| call(p, 0).args[0].offset = 1),
    ("argument w: bytes", |p| call(p, 0).args[1].offset = 1),
    ("argument bias: bytes", |p| call(p, 0).args[2].offset = 1),
    ("argument y: bytes", |p| call(p, 0).args[3].offset = 1),
    ("argument y: bytes", |p| call(p, 0).args[3].offset = usize::MAX),
    ("argument x: bytes", |p| call(p, 1).args[0].offset = 703),
    ("argument x: bytes", |p| call(p, 0).grid[1].advance[0] = -16),
    ("argument x: bytes", |p| call(p, 0).grid[1].advance[0] = i64::MIN),
    ("argument y: bytes", |p| call(p, 0).grid[1].advance[3] = 129),
    ("argument x: input1 does not exist", |p| call(p, 0).args[0].space = Space::Input(1)),
    ("argument y: output9 does not exist", |p| call(p, 0).args[3].space = Space::Output(9)),
    ("argument y: input0 is written", |p| call(p, 0).args[3].space = Space::Input(0)),
    ("argument y: weights is written", |p| call(p, 0).args[3].space = Space::Weights),
    ("argument y: consts is written", |p| call(p, 0).args[3].space = Space::Consts),
    ("writes through y may overlap x", |p| {
        call(p, 0).args[0].space = Space::Arena;
    }),
    ("writes through y may overlap x", |p| call(p, 1).grid[0].advance[1] = -60),
    ("writes through y may overlap x", |p| {
        call(p, 1).args[1].offset = 640;
        call(p, 1).grid[0].extent = 11;
    }),
    ("bytes 0..100 from input0+0 leave its 96", |p| {
        // One more iteration of the kernel's own loop.
        let Stmt::Loop { extent, .. } = &mut p.kernels[0].body[1] else { panic!("loop expected") };
        *extent = 5;
    }),
    ("leave its 704 bytes", |p| p.arena_bytes = 704),
    ("no multiple of 64", |p| p.arena_bytes = 800),
    ("leave its 500 bytes", |p| p.weights = Arc::new(Bytes::zeroed(500))),
    ("no image in a batch", |p| p.batch = 0),
    ("is not 3 × 96 bytes", |p| p.batch = 3),
    ("is not 2 × 97 bytes", |p| p.inputs[0].image_bytes = 97),
    ("is not 2 × 768 bytes", |p| p.outputs[0].shape = vec![usize::MAX, 2, 3]),
    ("is not 2 × 768 bytes", |p| p.outputs[0].dtype = Dtype::U8),
    ("16 lanes, the target has 4", |p| p.target = Target::portable()),
    ("registers needed", |p| p.target.registers = 1),
    ("read unwritten", |p| drop(p.kernels[0].body.remove(0))),
    ("a second kernel of this name", |p| p.kernels[1].name = p.kernels[0].name.clone()),
    ("function takes 2 arguments, 1", |p| function(p).args.truncate(1)),
    ("argument 0: bytes 0..768 from arena+4", |p| function(p).args[0].offset = 4),
    ("argument 1: bytes 0..768 from output0+4", |p| function(p).args[1].offset = 4),
    ("argument 1: weights is written", |p| function(p).args[1].space = Space::Weights),
    ("argument 0: input7 does not exist", |p| function(p).args[0].space = Space::Input(7)),
    ("place fc: bytes 0..660 from arena+112", |p| p.places[0].ptr.offset = 112),
    ("place fc: 3 extents, 2 strides", |p| p.places[0].shape.push(1)),
    ("overflow", |p| {
        p.places[0].strides = vec![usize::MAX, usize::MAX];
        p.places[0].shape = vec![usize::MAX, usize::MAX];
    }),
    ("leave its 768", |p| p.places[0].strides = vec![usize::MAX, usize::MAX]),
    ("does not exist", |p| p.places[0].ptr.space = Space::Output(1)),
];

#[test]
fn every_broken_rule_is_rejected() {
    assert_eq!(verify(&plan()), []);
    for (i, (words, change)) in MUTATIONS.iter().enumerate() {
        let mut p = plan();
        change(&mut p);
        let problems = verify(&p);
        let text: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.subject, p.message)).collect();
        assert!(text.iter().any(|t| t.contains(words)), "mutation {i}: expected `{words}` in: {text:#?}");
        let error = Interpreter::new(Arc::new(p)).unwrap_err();
        assert_eq!((error.stage, error.problems), (Stage::Schedule, problems));
    }
}

/// Reading some channels of a buffer and writing others interleaves, but never meets.
#[test]
fn channels_of_one_buffer_are_told_apart() {
    // 5 rows of 7 pixels of 256 bytes; each call converts 64 bytes per pixel.
    let interleaved = |from: usize, to: usize| {
        let mut p = plan();
        p.arena_bytes = 5 * 7 * 256;
        *call(&mut p, 1) = Call {
            kernel: 1,
            args: vec![at(Space::Arena, from), at(Space::Arena, to)],
            grid: vec![
                GridDim { extent: 5, advance: vec![7 * 256, 7 * 256] },
                GridDim { extent: 7, advance: vec![256, 256] },
            ],
        };
        verify(&p)
    };
    assert_eq!(interleaved(0, 64), []);
    assert_eq!(interleaved(192, 0), []);
    assert_eq!(interleaved(64, 64), []);
    for (from, to) in [(0, 63), (63, 0), (0, 1), (130, 192)] {
        assert!(interleaved(from, to).iter().any(|p| p.message.contains("may overlap")), "{from} {to}");
    }
}

#[test]
fn blocks_say_when_the_arena_is_in_use() {
    let file = workspace_root().join("examples/embedded/digits.qgraph");
    let graph = file::load(&file).unwrap();
    for (target, batch) in Target::ALL.into_iter().flat_map(|t| [(t.clone(), 1), (t, 3)]) {
        let plan = schedule(&graph, &target, &Options { batch, ..Options::default() }).unwrap();
        let end = plan.blocks.iter().map(|b| b.offset + b.bytes).max();
        assert_eq!(end, Some(plan.carried_offset()));
        let apart = |a: &Block, b: &Block| {
            a.offset + a.bytes <= b.offset
                || b.offset + b.bytes <= a.offset
                || a.last < b.first
                || b.last < a.first
        };
        for (k, a) in plan.blocks.iter().enumerate() {
            assert!(a.first <= a.last && a.last < plan.steps.len());
            assert!(plan.blocks[..k].iter().all(|b| apart(a, b)), "{a:?} in {:?}", plan.blocks);
        }
        // What a step is told to use is in use.
        for (k, step) in plan.steps.iter().enumerate() {
            let pointers: Vec<Ptr> = match &step.work {
                Work::Kernels(calls) => calls.iter().flat_map(|c| c.args.clone()).collect(),
                Work::Function(call) => call.args.clone(),
            };
            for p in pointers.iter().filter(|p| p.space == Space::Arena) {
                let holds = |b: &Block| (b.offset..b.offset + b.bytes).contains(&p.offset);
                let used = plan.blocks.iter().any(|b| holds(b) && b.first <= k && k <= b.last);
                assert!(used, "step {k}, {p:?}: {:?}", plan.blocks);
            }
        }
    }
}

/// 64 bytes of y become ones.
pub(crate) fn ones() -> Kernel {
    let mut b = KernelBuilder::new("ones_avx512vnni", 16);
    let y = b.param("y", Access::Write);
    let t = b.array("t", 1);
    b.op(Instr::Splat { dst: t.at(0), bits: 0x0101_0101 });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: t.at(0), bytes: 64 });
    b.finish()
}

#[test]
fn what_memory_holds_already_is_not_written_again() {
    let arena = |offset| at(Space::Arena, offset);
    let fill = |offset| Call { kernel: 0, args: vec![arena(offset)], grid: vec![] };
    let converts = |from, to| Call { kernel: 1, args: vec![arena(from), arena(to)], grid: vec![] };
    let relu = |offset| {
        let function =
            Function::Unary { unary: Unary::Relu, rows: 1, len: 16, src_stride: 64, dst_stride: 64 };
        Work::Function(FunctionCall { function, args: vec![arena(offset); 2] })
    };
    let calls = |calls: &[Call]| Work::Kernels(calls.to_vec());
    let made = |steps: &[Work], head: usize| {
        let step = |work: &Work| Step { layer: "test".into(), what: "test", macs: 0, work: work.clone() };
        let steps: Vec<Step> = steps.iter().map(step).collect();
        let block = |first, last| Block { offset: 0, bytes: 64, first, last };
        let blocks = (0..steps.len()).map(|k| block(k, steps.len() - 1)).collect();
        let kernels = vec![ones(), convert()];
        let plan = Plan { steps, head, kernels, arena_bytes: 256, places: vec![], blocks, ..plan() };
        assert_eq!(verify(&plan), vec![]);
        plan
    };
    let [once, other, both] = [calls(&[fill(0)]), calls(&[fill(64)]), calls(&[fill(0), fill(64)])];
    let [reads, writes] = [calls(&[converts(0, 128)]), calls(&[converts(128, 0)])];
    // Steps, how many are the head, what is left.
    for (steps, head, left) in [
        (vec![once.clone(), reads.clone(), once.clone()], 3, vec![once.clone(), reads.clone()]),
        (vec![once.clone(), both.clone()], 2, vec![once.clone(), other.clone()]),
        (
            vec![both.clone(), writes.clone(), both.clone()],
            3,
            vec![both.clone(), writes.clone(), once.clone()],
        ),
        // What is read may differ; another place; written in between; other images' steps come in between.
        (vec![reads.clone(), reads.clone()], 2, vec![reads.clone(), reads.clone()]),
        (vec![once.clone(), other.clone()], 2, vec![once.clone(), other.clone()]),
        (vec![once.clone(), relu(0), once.clone()], 3, vec![once.clone(), relu(0), once.clone()]),
        (vec![once.clone(), once.clone()], 1, vec![once.clone(), once.clone()]),
    ] {
        let mut plan = made(&steps, head);
        let kept = plan.drop_repeated();
        assert_eq!(plan.steps.iter().map(|s| s.work.clone()).collect::<Vec<_>>(), left);
        assert_eq!((kept.len(), kept[0], kept[steps.len()]), (steps.len() + 1, 0, left.len()));
        assert_eq!(plan.head, kept[head]);
        assert!(
            plan.blocks.iter().all(|b| b.first <= b.last && b.last == left.len() - 1),
            "{:?}",
            plan.blocks
        );
        assert_eq!(verify(&plan), vec![]);
    }
}
