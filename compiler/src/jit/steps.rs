//! The entry function of a thread: its tasks for each image of the batch, then those for all images, every grid as loops around calls.
//!
//! `extern "sysv64" fn(*mut Context)`. A single thread has all steps of the plan as its tasks. rbp holds the context throughout; vector registers carry nothing from one
//! call to the next. The caller's MXCSR is replaced by the numeric contract's (round to nearest even, no flushing
//! of denormals) and restored.
//!
//! Not here: what kernels do (`kernel`).

use super::asm::{Asm, LINE, at};
use super::context::{self, CALL, CALLER_MXCSR, CYCLES, OWN_MXCSR, WAIT};
use super::frame;
use super::kernel::Emitted;
use super::pointers::{Counter, PARAMS, Pointers};
use crate::plan::split::{Task, Tasks};
use crate::plan::{Call, Plan, Space, Work};
use iced_x86::{Code, Register};
use std::ops::Range;

/// Registers that the ABI wants back.
const SAVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// An entry function.
pub(super) struct Entry {
    /// Of its first byte.
    pub(super) offset: usize,
    /// Steps it has a part in, with the range of their code.
    pub(super) steps: Steps,
}

/// Steps by number, each with the range of its code.
type Steps = Vec<(usize, Range<usize>)>;

/// Emits an entry function for the tasks of each image and of all images.
pub(super) fn emit(
    asm: &mut Asm,
    plan: &Plan,
    tasks: &Tasks,
    kernels: &[Emitted],
    profile: bool,
) -> Result<Entry, String> {
    asm.align(LINE);
    let offset = asm.here();
    for r in SAVED {
        asm.r(Code::Push_r64, r);
    }
    asm.rr(Code::Mov_rm64_r64, Register::RBP, Register::RDI);
    asm.rr(Code::Mov_rm64_r64, Register::RAX, Register::RSP);
    asm.ri(Code::Sub_rm64_imm32, Register::RSP, frame::BYTES as i32);
    asm.ri(Code::And_rm64_imm8, Register::RSP, -64);
    asm.mr(Code::Mov_rm64_r64, at(Register::RSP, frame::CALLER), Register::RAX);
    asm.m(Code::Stmxcsr_m32, at(Register::RBP, CALLER_MXCSR));
    asm.m(Code::Ldmxcsr_m32, at(Register::RBP, OWN_MXCSR));

    let images = at(Register::RSP, frame::GRID_COUNTERS);
    if plan.batch > 1 {
        asm.load_imm(Register::RAX, plan.batch as i64);
        asm.mr(Code::Mov_rm64_r64, images, Register::RAX);
    }
    let (head_tasks, tail_tasks) = tasks.parts();
    let head = asm.here();
    let mut steps = Steps::new();
    emit_tasks(asm, head_tasks, kernels, profile, &mut steps)?;
    if plan.batch > 1 {
        move_images(asm, plan, 1);
        asm.m(Code::Dec_rm64, images);
        asm.jnz(head);
        // The other steps work on all images, from the first on.
        if plan.head < plan.steps.len() {
            move_images(asm, plan, -(plan.batch as i64));
        }
    }
    emit_tasks(asm, tail_tasks, kernels, profile, &mut steps)?;

    asm.m(Code::Ldmxcsr_m32, at(Register::RBP, CALLER_MXCSR));
    asm.op0(Code::VEX_Vzeroupper);
    asm.rm(Code::Mov_r64_rm64, Register::RSP, at(Register::RSP, frame::CALLER));
    for r in SAVED.into_iter().rev() {
        asm.r(Code::Pop_r64, r);
    }
    asm.op0(Code::Retnq);
    Ok(Entry { offset, steps })
}

/// Emits tasks; adds the range of each step's code.
fn emit_tasks(
    asm: &mut Asm,
    tasks: &[Task],
    kernels: &[Emitted],
    profile: bool,
    steps: &mut Steps,
) -> Result<(), String> {
    let mut begin = asm.here();
    for task in tasks {
        if profile && begin == asm.here() {
            read_clock(asm);
            asm.mr(Code::Mov_rm64_r64, at(Register::RSP, frame::STARTED), Register::RAX);
        }
        let (step, work) = match task {
            Task::Barrier => {
                call_out(asm, WAIT);
                continue;
            }
            Task::Work { step, work } => (*step, work),
        };
        match work {
            Work::Kernels(calls) => {
                calls.iter().try_for_each(|call| emit_call(asm, call, &kernels[call.kernel]))?
            }
            Work::Function(_) => {
                asm.load_imm(Register::RSI, step as i64);
                call_out(asm, CALL);
            }
        }
        if profile {
            // Waiting counts for the step that had to wait.
            read_clock(asm);
            asm.rm(Code::Sub_r64_rm64, Register::RAX, at(Register::RSP, frame::STARTED));
            asm.rm(Code::Mov_r64_rm64, Register::RCX, at(Register::RBP, CYCLES));
            asm.locked_add(at(Register::RCX, 8 * step as i64), Register::RAX);
        }
        steps.push((step, begin..asm.here()));
        begin = asm.here();
    }
    Ok(())
}

/// Moves everything that exists once per image by `by` images.
fn move_images(asm: &mut Asm, plan: &Plan, by: i64) {
    let inputs = plan.inputs.iter().enumerate().map(|(k, io)| (Space::Input(k), io.image_bytes));
    let outputs = plan.outputs.iter().enumerate().map(|(k, io)| (Space::Output(k), io.image_bytes));
    let carried = std::iter::once((Space::Carried, plan.carried_bytes));
    for (space, bytes) in inputs.chain(outputs).chain(carried).filter(|s| s.1 > 0) {
        asm.load_imm(Register::RAX, by * bytes as i64);
        asm.mr(Code::Add_rm64_r64, at(Register::RBP, context::base(space)), Register::RAX);
    }
}

/// Calls the function whose address stands in the context at `field`; its first argument is the context.
fn call_out(asm: &mut Asm, field: i64) {
    // Compiled Rust may use SSE, which dirty upper halves slow down.
    asm.op0(Code::VEX_Vzeroupper);
    asm.rr(Code::Mov_rm64_r64, Register::RDI, Register::RBP);
    asm.m(Code::Call_rm64, at(Register::RBP, field));
}

/// rax = time stamp counter.
fn read_clock(asm: &mut Asm) {
    asm.op0(Code::Rdtsc);
    asm.ri(Code::Shl_rm64_imm8, Register::RDX, 32);
    asm.rr(Code::Or_rm64_r64, Register::RAX, Register::RDX);
}

fn emit_call(asm: &mut Asm, call: &Call, kernel: &Emitted) -> Result<(), String> {
    for (&r, arg) in PARAMS.iter().zip(&call.args) {
        asm.rm(Code::Mov_r64_rm64, r, at(Register::RBP, context::base(arg.space)));
        asm.add_imm(r, arg.offset as i64);
    }
    let depth = call.grid.iter().filter(|d| d.extent > 1).count();
    if depth >= frame::GRID {
        return Err(format!("a grid of {depth} dimensions; at most {} have counters", frame::GRID - 1));
    }
    let mut pointers = Pointers::new(call.args.len());
    // Slot 0 counts the images.
    let mut slot = frame::GRID_COUNTERS;
    for dim in &call.grid {
        slot += if dim.extent > 1 { 8 } else { 0 };
        let advance = dim.advance.iter().copied().enumerate().collect();
        pointers.begin(asm, dim.extent, advance, 0, Counter::Stack(slot), false);
    }
    asm.call(kernel.offset);
    pointers.moved(&kernel.drift);
    call.grid.iter().for_each(|_| pointers.end(asm));
    Ok(())
}
