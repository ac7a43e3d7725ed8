//! What surrounds kernels: batches, functions, the floating point environment, memory protection, listings, refusals.

use super::*;
use crate::support::{allocations, temp_dir};
use qgraph_compiler::error::Stage;
use qgraph_compiler::jit::Code;
use qgraph_compiler::kernel::{Addr, Instr, KernelBuilder, Operand};
use qgraph_compiler::plan::FunctionCall;
use qgraph_compiler::target::Dots;
use qgraph_runtime::functions::{Function, Unary};

/// y[i] = x[i] + w[i] of one vector of i32.
fn add_kernel(target: &Target) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new("add_i32", target.lanes);
    let x = b.param("x", Access::Read);
    let w = b.param("w", Access::Read);
    let y = b.param("y", Access::Write);
    let r = b.array("r", 1);
    b.op(Instr::Load { dst: r.at(0), src: Addr::new(x, 0), bytes });
    b.op(Instr::AddI32 { dst: r.at(0), a: r.at(0), b: Addr::new(w, 0).into() });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: r.at(0), bytes });
    b.finish()
}

fn at(space: Space, offset: usize) -> Ptr {
    Ptr { space, offset }
}

/// Input + weights → arena; arena + consts → output; 256 bytes per image, by a grid.
fn two_steps(target: &Target, batch: usize) -> Plan {
    let vector = target.vector_bytes() as i64;
    let mut weights = Bytes::zeroed(256);
    let mut consts = Bytes::zeroed(64);
    fill(&mut weights, Data::Bits, &mut Rng::new(20));
    fill(&mut consts, Data::Bits, &mut Rng::new(21));
    let call = |x, w, y, w_step| {
        let grid = vec![GridDim { extent: 256 / vector as usize, advance: vec![vector, w_step, vector] }];
        Work::Kernels(vec![Call { kernel: 0, args: vec![x, w, y], grid }])
    };
    Plan {
        name: "two steps".into(),
        target: target.clone(),
        batch,
        head: 2,
        carried_bytes: 0,
        arena_bytes: 512,
        weights: Arc::new(weights),
        consts: Arc::new(consts),
        inputs: vec![u8_io("x", 256, batch)],
        outputs: vec![u8_io("y", 256, batch)],
        kernels: vec![add_kernel(target)],
        steps: vec![
            step("first", call(at(Space::Input(0), 0), at(Space::Weights, 0), at(Space::Arena, 128), vector)),
            step("second", call(at(Space::Arena, 128), at(Space::Consts, 0), at(Space::Output(0), 0), 0)),
        ],
        places: vec![],
        blocks: vec![],
    }
}

#[test]
fn batches_repeat_the_steps_on_each_image() {
    for (target, batch) in targets().iter().flat_map(|t| [1, 2, 7].map(|batch| (t, batch))) {
        agree(two_steps(target, batch), Data::Bits, &Options::default(), &mut Rng::new(22));
    }
}

#[test]
fn a_run_allocates_nothing() {
    for target in targets() {
        let plan = Arc::new(two_steps(&target, 3));
        let jit = Jit::compile(plan, &Options::default()).unwrap();
        let input = vec![1; 256 * 3];
        let mut output = vec![0; 256 * 3];
        let mut arena = Bytes::zeroed(512);
        let n = allocations(|| {
            jit.run(&[TensorRef::U8(&input)], &mut [TensorMut::U8(&mut output)], &mut arena).unwrap();
        });
        assert_eq!(n, 0);
    }
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8]))), 1);
}

#[test]
fn functions_are_called_with_their_pointers() {
    for target in targets() {
        let mut plan = two_steps(&target, 3);
        let function =
            Function::Unary { unary: Unary::Relu, rows: 4, len: 16, src_stride: 64, dst_stride: 64 };
        let args = vec![at(Space::Arena, 128), at(Space::Arena, 128)];
        plan.steps.insert(1, step("relu", Work::Function(FunctionCall { function, args })));
        agree(plan, Data::Convertible, &Options { profile: true, ..Options::default() }, &mut Rng::new(23));
    }
}

#[test]
fn profiles_count_the_cycles_of_each_step() {
    for target in targets() {
        let plan = Arc::new(two_steps(&target, 50));
        let input = vec![vec![1; 256 * 50]];
        let jit = Jit::compile(plan.clone(), &Options::default()).unwrap();
        assert_eq!(jit.take_cycles(), None);
        let jit = Jit::compile(plan, &Options { profile: true, ..Options::default() }).unwrap();
        run(&jit, &input, &[0; 512]);
        let cycles = jit.take_cycles().unwrap();
        assert_eq!(cycles.len(), 2);
        assert!(cycles.iter().all(|&c| c > 0 && c < 1_000_000_000), "{cycles:?}");
        assert_eq!(jit.take_cycles().unwrap(), [0, 0]);
    }
}

#[cfg(target_arch = "x86_64")]
mod mxcsr {
    use super::*;
    use std::arch::asm;

    fn get() -> u32 {
        let mut v = 0u32;
        // SAFETY: stores the register into `v`.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut v) };
        v
    }

    fn set(v: u32) {
        // SAFETY: loads the register; the test restores it, and makes no float arithmetic of its own meanwhile.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &v) };
    }

    #[test]
    fn the_callers_rounding_and_flushing_change_no_bit_and_stay() {
        for target in targets() {
            let bytes = target.vector_bytes();
            let mut b = KernelBuilder::new("rounding", target.lanes);
            let x = b.param("x", Access::Read);
            let y = b.param("y", Access::Write);
            let r = b.array("r", 2);
            b.op(Instr::Load { dst: r.at(0), src: Addr::new(x, 0), bytes });
            b.op(Instr::CvtF32I32 { dst: r.at(1), src: r.at(0) });
            b.op(Instr::Store { dst: Addr::new(y, 0), src: r.at(1), bytes });
            b.op(Instr::Splat { dst: r.at(1), bits: 0.3f32.to_bits() });
            b.op(Instr::MulF32 { dst: r.at(0), a: r.at(0), b: Operand::Reg(r.at(1)) });
            b.op(Instr::Store { dst: Addr::new(y, 64), src: r.at(0), bytes });
            let plan = Arc::new(plan_of(&target, b.finish(), vec![]));
            let values = [0.5f32, 1.5, -1.5, 1.0e-38, -1.2e-38, 1.0e-42, 123.456, 7.0];
            let mut input = vec![0; plan.inputs[0].image_bytes];
            for (lane, v) in input[SLACK as usize..].chunks_mut(4).zip(values) {
                lane.copy_from_slice(&v.to_le_bytes());
            }
            let jit = Jit::compile(plan.clone(), &Options::default()).unwrap();
            let arena = vec![0; plan.arena_bytes];
            let expected = run(&Interpreter::new(plan).unwrap(), std::slice::from_ref(&input), &arena);

            let before = get();
            // Round down, flush to zero, denormals are zero, exceptions masked.
            let odd = 0x1f80 | 0x2000 | 0x8000 | 0x40;
            set(odd);
            let found = run(&jit, &[input], &arena);
            let after = get();
            set(before);
            assert_eq!(after & !0x3f, odd);
            assert!(found == expected);
        }
    }
}

#[test]
fn code_is_never_writable_and_executable() {
    let Some(target) = targets().pop().filter(|_| cfg!(target_os = "linux")) else { return };
    let jit = Jit::compile(Arc::new(two_steps(&target, 1)), &Options::default()).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut seen = false;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let parse = |s| usize::from_str_radix(s, 16).unwrap();
        if (parse(start)..parse(end)).contains(&(jit.address() as usize)) {
            assert!(rest.starts_with("r-x"), "{line}");
            seen = true;
        }
        assert!(!rest.starts_with("rwx"), "{line}");
    }
    assert!(seen);
}

#[test]
fn perf_map_names_kernels() {
    let Some(target) = targets().pop() else { return };
    let jit = Jit::compile(Arc::new(two_steps(&target, 1)), &Options::default()).unwrap();
    let path = jit.write_perf_map().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let line = text.lines().find(|l| l.ends_with(" qgraph::add_i32")).unwrap();
    assert!(line.starts_with(&format!("{:x} ", jit.address() as usize)), "{line}");
    assert!(text.contains("qgraph::entry"));
}

/// A number of a jitdump.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(word)
}

#[test]
fn a_jitdump_has_every_kernel_with_its_code() {
    let Some(target) = targets().pop() else { return };
    if !cfg!(target_os = "linux") {
        println!("skipped: perf is a tool of Linux");
        return;
    }
    let dir = temp_dir("jitdump");
    let jit = Jit::compile(Arc::new(two_steps(&target, 1)), &Options::default()).unwrap();
    let path = jit.write_jitdump(dir.path(), 77).unwrap();
    // A second network of the process comes behind the first.
    assert_eq!(jit.write_jitdump(dir.path(), 99).unwrap(), path);
    let pid = u64::from(std::process::id());
    assert_eq!(path, dir.join(format!("jit-{pid}.dump")));
    let file = std::fs::read(path).unwrap();
    let header = [
        (0, 4, 0x4a69_5444),
        (4, 4, 1),
        (8, 4, 40),
        (12, 4, 62),
        (16, 4, 0),
        (20, 4, pid),
        (24, 8, 77),
        (32, 8, 0),
    ];
    for (at, len, value) in header {
        assert_eq!(number(&file, at, len), value, "byte {at}");
    }
    let (mut at, mut found, mut indices) = (40, Vec::new(), Vec::new());
    while at < file.len() {
        let [id, size] = [0, 4].map(|k| number(&file, at + k, 4));
        let record = &file[at..at + size as usize];
        assert_eq!((id, number(record, 16, 4), number(record, 20, 4)), (0, pid, pid));
        let [vma, start, len, index] = [24, 32, 40, 48].map(|k| number(record, k, 8));
        let end = 56 + record[56..].iter().position(|&b| b == 0).expect("a name that ends");
        let (name, code) = (std::str::from_utf8(&record[56..end]).unwrap(), &record[end + 1..]);
        assert_eq!((code.len() as u64, vma), (len, start));
        let offset = (start - jit.address() as u64) as usize;
        assert_eq!(code, &jit.code().bytes()[offset..offset + code.len()]);
        found.push((name.to_string(), number(record, 8, 8)));
        indices.push(index);
        at += record.len();
    }
    assert_eq!(at, file.len());
    let symbols = jit.code().symbols().iter().filter(|s| !s.name.starts_with("step "));
    let names: Vec<String> = symbols.map(|s| format!("qgraph::{}", s.name)).collect();
    let expected: Vec<(String, u64)> =
        [77, 99].iter().flat_map(|&t| names.iter().map(move |n| (n.clone(), t))).collect();
    assert_eq!(found, expected);
    assert!(
        names.contains(&"qgraph::add_i32".into()) && indices.is_sorted_by(|a, b| a < b),
        "{names:?} {indices:?}"
    );
}

/// Two pixels by two vectors, as the convolutions have it, with the epilogue of one vector.
fn conv_kernel(target: &Target) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new(format!("conv_u8s8_2x{}_{target}", 2 * target.lanes), target.lanes);
    let x = b.param("x", Access::Read);
    let w = b.param("w", Access::Read);
    let s = b.param("scale", Access::Read);
    let y = b.param("y", Access::Write);
    let (acc, v, t) = (b.array("acc", 4), b.array("w", 2), b.array("t", 1));
    b.unroll(4, |b, i| b.op(Instr::Splat { dst: acc.at(i), bits: 0 }));
    b.loop_(3, [(x, 4096), (w, 2048)], |b| {
        b.loop_(16, [(x, 4), (w, 64)], |b| {
            b.unroll(2, |b, j| b.op(Instr::Load { dst: v.at(j), src: Addr::new(w, j * 1024), bytes }));
            b.unroll(2, |b, k| {
                b.op(Instr::Broadcast32 { dst: t.at(0), src: Addr::new(x, k * 64) });
                b.unroll(2, |b, l| {
                    let (acc, u, s) = (acc.at(k * 2 + l), t.at(0), v.at(l).into());
                    b.op(match target.dots {
                        Dots::Bytes => Instr::Dot4 { acc, u, s },
                        Dots::Words => Instr::Dot2 { acc, a: u, b: s },
                    });
                });
            });
        });
    });
    b.unroll(4, |b, i| {
        b.op(Instr::CvtI32F32 { dst: acc.at(i), src: acc.at(i) });
        b.op(Instr::MulF32 { dst: acc.at(i), a: acc.at(i), b: Addr::new(s, 0).into() });
    });
    let part = bytes * 3 / 4;
    b.unroll(4, |b, i| b.op(Instr::Store { dst: Addr::new(y, i * part), src: acc.at(i), bytes: part }));
    b.finish()
}

/// The listing of [`conv_kernel`] over a grid.
fn listing(target: &Target) -> String {
    let advance = vec![128, 0, 0, 3 * target.vector_bytes() as i64];
    let plan = plan_of(target, conv_kernel(target), vec![GridDim { extent: 5, advance }]);
    let options = Options { vbmi: false, ..Options::default() };
    let code = Code::assemble(&plan, &options).unwrap();
    assert_eq!(code, Code::assemble(&plan, &options).unwrap());
    assert_eq!(code.disassemble("nothing"), None);
    code.disassemble_all()
}

#[test]
fn listing_of_a_kernel() {
    insta::assert_snapshot!(listing(&Target::avx512vnni()));
}

#[test]
fn listing_of_a_kernel_for_avx2() {
    insta::assert_snapshot!(listing(&Target::avx2()));
}

#[test]
fn listing_of_a_kernel_for_avxvnni() {
    insta::assert_snapshot!(listing(&Target::avxvnni()));
}

#[test]
fn refusals_say_why() {
    let target = Target::avx512vnni();
    let mut portable = two_steps(&target, 1);
    portable.target = Target::portable();
    let e = Code::assemble(&portable, &Options::default()).unwrap_err();
    assert_eq!(e.stage, Stage::Jit);
    assert!(e.to_string().contains("made for avx2, avxvnni, avx512vnni"), "{e}");
    assert!(e.to_string().contains("--engine interp"), "{e}");

    let mut greedy = two_steps(&Target::avx2(), 1);
    greedy.target.registers = 16;
    assert!(Code::assemble(&greedy, &Options::default()).is_err());

    for target in Target::ALL.iter().filter(|t| !t.native() && t.needs().is_some()) {
        let e = Jit::compile(Arc::new(two_steps(target, 1)), &Options::default()).err().unwrap();
        assert!(e.to_string().contains(target.needs().unwrap()), "{e}");
    }

    let mut outside = two_steps(&target, 1);
    outside.arena_bytes = 256;
    let e = Code::assemble(&outside, &Options::default()).unwrap_err();
    assert!(e.to_string().contains("leave"), "{e}");

    let mut many = two_steps(&target, 1);
    many.inputs.extend((0..16).map(|_| u8_io("more", 1, 1)));
    let e = Code::assemble(&many, &Options::default()).unwrap_err();
    assert!(e.to_string().contains("17 inputs"), "{e}");
}
