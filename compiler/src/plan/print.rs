//! Text of a plan: a header, then per step its calls, each with its grid and where every argument points and how it
//! moves along the grid's dimensions. `{:#}` adds the text of all kernels. Text of a split: the tasks of each thread, with grids only.

use super::split::{Split, Task};
use super::{Call, GridDim, Plan, Ptr, Space, Work};
use std::fmt::{self, Display, Formatter};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "plan {}  target {}  batch {}", self.name, self.target, self.batch)?;
        writeln!(f, "  steps {}  kernels {}  macs {}", self.steps.len(), self.kernels.len(), self.macs())?;
        writeln!(
            f,
            "  arena {} bytes  weights {} bytes  consts {} bytes",
            self.arena_bytes,
            self.weights.len(),
            self.consts.len()
        )?;
        for (k, io) in self.inputs.iter().enumerate() {
            writeln!(f, "  {} {}: {:?} {:?}", Space::Input(k), io.name, io.dtype, io.shape)?;
        }
        for (k, io) in self.outputs.iter().enumerate() {
            writeln!(f, "  {} {}: {:?} {:?}", Space::Output(k), io.name, io.dtype, io.shape)?;
        }
        for (i, step) in self.steps.iter().enumerate() {
            if i == self.head {
                writeln!(
                    f,
                    "all {} images at once, from {} bytes carried of each:",
                    self.batch, self.carried_bytes
                )?;
            }
            write!(f, "step {i}  {}: {}", step.layer, step.what)?;
            match step.macs {
                0 => writeln!(f)?,
                macs => writeln!(f, "  macs {macs}")?,
            }
            match &step.work {
                Work::Kernels(calls) => {
                    for call in calls {
                        self.print_call(f, call)?;
                    }
                }
                Work::Function(call) => {
                    write!(f, "  {:?}", call.function)?;
                    for arg in &call.args {
                        write!(f, "  {arg}")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        if f.alternate() {
            for kernel in &self.kernels {
                write!(f, "\n{kernel}")?;
            }
        }
        Ok(())
    }
}

impl Plan {
    fn print_call(&self, f: &mut Formatter<'_>, call: &Call) -> fmt::Result {
        let kernel = self.kernels.get(call.kernel);
        write!(f, "  {}", kernel.map_or("?", |k| &k.name))?;
        if !call.grid.is_empty() {
            write!(f, "  grid {}", grid(&call.grid))?;
        }
        for (i, arg) in call.args.iter().enumerate() {
            let name = kernel.and_then(|k| k.params.get(i)).map_or("?", |p| p.name);
            write!(f, "  {name}={arg}")?;
            let advance: Vec<i64> =
                call.grid.iter().map(|d| d.advance.get(i).copied().unwrap_or(0)).collect();
            if advance.iter().any(|&by| by != 0) {
                write!(f, " {advance:?}")?;
            }
        }
        writeln!(f)
    }
}

fn grid(dims: &[GridDim]) -> String {
    dims.iter().map(|d| d.extent.to_string()).collect::<Vec<_>>().join("×")
}

impl Display for Split {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (t, tasks) in self.threads.iter().enumerate() {
            writeln!(f, "thread {t}")?;
            for (k, task) in tasks.all.iter().enumerate() {
                if k == tasks.head {
                    writeln!(f, "  all images at once")?;
                }
                match task {
                    Task::Barrier => writeln!(f, "  barrier")?,
                    Task::Work { step, work: Work::Function(_) } => writeln!(f, "  step {step}  function")?,
                    Task::Work { step, work: Work::Kernels(calls) } => {
                        let grids: Vec<String> = calls.iter().map(|c| grid(&c.grid)).collect();
                        writeln!(f, "  step {step}  {}", grids.join(" + "))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Display for Ptr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.space, self.offset)
    }
}

impl Display for Space {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Space::Arena => f.write_str("arena"),
            Space::Carried => f.write_str("carried"),
            Space::Weights => f.write_str("weights"),
            Space::Consts => f.write_str("consts"),
            Space::Input(k) => write!(f, "input{k}"),
            Space::Output(k) => write!(f, "output{k}"),
        }
    }
}
