//! Machine code against the interpreter: the same plan, the same bytes in all memory afterwards.

mod assembly;
mod encoding;
mod instr;
mod programs;
mod run;

use qgraph_compiler::blob::Bytes;
use qgraph_compiler::jit::{Jit, Options};
use qgraph_compiler::kernel::verify::verify;
use qgraph_compiler::kernel::{Access, Kernel};
use qgraph_compiler::plan::interp::Interpreter;
use qgraph_compiler::plan::{Call, GridDim, Io, Plan, Ptr, Space, Step, Work};
use qgraph_compiler::target::Target;
use qgraph_runtime::{Dtype, Model, TensorMut, TensorRef, cpu};
use std::ops::Range;
use std::sync::Arc;

/// The targets whose machine code can run here; says which cannot.
fn targets() -> Vec<Target> {
    let (run, skipped): (Vec<_>, Vec<_>) = Target::ALL.into_iter().partition(Target::native);
    for (target, needs) in skipped.iter().filter_map(|t| Some((t, t.needs()?))) {
        println!("skipped: {target}: this CPU has no {needs}");
    }
    run
}

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) % n as u64) as usize
    }

    fn within(&mut self, r: Range<i64>) -> i64 {
        r.start + self.below((r.end - r.start) as usize) as i64
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// What lanes hold.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    /// Any bits.
    Bits,
    /// f32 of all sizes, with zeros, infinities and subnormals, no NaN: which NaN comes of a NaN is not defined.
    Floats,
    /// f32 below 2^31 in magnitude, many of them halves.
    Convertible,
}

fn fill(memory: &mut [u8], data: Data, rng: &mut Rng) {
    const SPECIAL: [f32; 10] = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE,
        f32::MAX,
        -1.0e-42,
        1.0e-38,
    ];
    for lane in memory.chunks_mut(4) {
        let r = rng.next();
        let v = match data {
            Data::Bits if r.is_multiple_of(8) => {
                [0, u32::MAX, 0x8000_0000, 0x80ff_7f00][(r >> 60) as usize % 4]
            }
            Data::Bits => (r >> 32) as u32,
            Data::Floats if r.is_multiple_of(4) => SPECIAL[(r >> 32) as usize % SPECIAL.len()].to_bits(),
            Data::Floats => ((r >> 32) as i32 as f32 * 2f32.powi((r >> 8) as i32 % 40)).to_bits(),
            Data::Convertible if r.is_multiple_of(2) => ((r >> 54) as f32 / 2.0 - 250.0).to_bits(),
            Data::Convertible => ((((r >> 32) as i32) / 2) as f32 * 1.99).to_bits(),
        };
        lane.copy_from_slice(&v.to_le_bytes()[..lane.len()]);
    }
}

fn u8_io(name: &str, image_bytes: usize, batch: usize) -> Io {
    Io { name: name.into(), dtype: Dtype::U8, shape: vec![batch, image_bytes], image_bytes }
}

fn step(what: &'static str, work: Work) -> Step {
    Step { layer: "test".into(), what, macs: 0, work }
}

/// Room around what a kernel may touch: writes outside it are seen.
const SLACK: i64 = 192;

/// A plan that runs `kernel` over a grid. Parameters that are only read become inputs, the others parts of the arena, in
/// order; each space is as large as the kernel's footprint over the grid needs. Footprints are the verifier's.
fn plan_of(target: &Target, kernel: Kernel, grid: Vec<GridDim>) -> Plan {
    let footprint = verify(&kernel, target.registers).unwrap();
    let (mut inputs, mut args, mut arena) = (Vec::new(), Vec::new(), 0);
    for (i, p) in kernel.params.iter().enumerate() {
        let mut hull = footprint.touched(i).unwrap_or(0..0);
        for dim in &grid {
            let reach = dim.advance[i] * (dim.extent as i64 - 1);
            hull = hull.start + reach.min(0)..hull.end + reach.max(0);
        }
        let size = (hull.end.max(0) - hull.start.min(0) + 2 * SLACK) as usize;
        let start = (SLACK - hull.start.min(0)) as usize;
        if p.access == Access::Read {
            args.push(Ptr { space: Space::Input(inputs.len()), offset: start });
            inputs.push(u8_io(p.name, size, 1));
        } else {
            args.push(Ptr { space: Space::Arena, offset: arena + start });
            arena += size;
        }
    }
    Plan {
        name: kernel.name.clone(),
        target: target.clone(),
        batch: 1,
        head: 1,
        carried_bytes: 0,
        arena_bytes: arena.next_multiple_of(64),
        weights: Arc::new(Bytes::zeroed(0)),
        consts: Arc::new(Bytes::zeroed(0)),
        inputs,
        outputs: vec![],
        kernels: vec![kernel],
        steps: vec![step("kernel", Work::Kernels(vec![Call { kernel: 0, args, grid }]))],
        places: vec![],
        blocks: vec![],
    }
}

/// Runs an engine on bytes: the outputs, then the arena.
fn run(model: &impl Model, inputs: &[Vec<u8>], arena: &[u8]) -> Vec<Vec<u8>> {
    let mut arena = Bytes::from(arena);
    let mut out: Vec<Vec<u8>> = (0..model.output_count()).map(|k| vec![7; model.output(k).len()]).collect();
    let inputs: Vec<_> = inputs.iter().map(|x| TensorRef::U8(x)).collect();
    let mut outputs: Vec<_> = out.iter_mut().map(|y| TensorMut::U8(y)).collect();
    model.run(&inputs, &mut outputs, &mut arena).unwrap();
    out.push(arena.to_vec());
    out
}

/// Compiles and interprets a plan of u8 inputs and outputs on the same random bytes; all memory must agree.
fn agree(plan: Plan, data: Data, options: &Options, rng: &mut Rng) {
    let plan = Arc::new(plan);
    let mut inputs: Vec<Vec<u8>> =
        plan.inputs.iter().map(|io| vec![0; io.image_bytes * plan.batch]).collect();
    inputs.iter_mut().for_each(|x| fill(x, data, rng));
    let mut arena = vec![0; plan.arena_bytes];
    fill(&mut arena, Data::Bits, rng);

    let jit = Jit::compile(plan.clone(), options).unwrap();
    let found = run(&jit, &inputs, &arena);
    let expected = run(&Interpreter::new(plan.clone()).unwrap(), &inputs, &arena);
    for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
        if found != expected {
            let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap();
            let kernels: Vec<_> = plan.kernels.iter().map(|k| k.to_string()).collect();
            panic!(
                "memory {k} differs at byte {at}: {} instead of {}\n{plan}\n{}\n{}",
                found[at],
                expected[at],
                kernels.join("\n"),
                jit.code().disassemble_all()
            );
        }
    }
}
