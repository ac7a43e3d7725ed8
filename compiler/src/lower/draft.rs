//! A plan being written: steps with addresses into memory that has no place yet, kernels and constants shared as they
//! come, and at the end the arena.

use super::layout::Layout;
use crate::blob::Bytes;
use crate::kernel::Kernel;
use crate::plan::{Call, FunctionCall, GridDim, Ptr, Space, Step, Work};
use qgraph_runtime::functions::Function;
use std::collections::HashMap;

/// Where an address starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base {
    /// A piece of the arena, by number.
    Storage(usize),
    /// A space of the plan.
    Fixed(Space),
}

/// An address of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub(super) base: Base,
    pub(super) offset: usize,
}

impl At {
    pub(super) fn plus(self, bytes: usize) -> At {
        At { offset: self.offset + bytes, ..self }
    }
}

/// A value's memory: where its storage or space starts, and its layout from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: At,
    pub(super) layout: Layout,
}

impl Place {
    /// The first element.
    pub(super) fn first(&self) -> At {
        self.base.plus(self.layout.origin)
    }
}

/// A piece of the arena and when it is in use (inclusive node numbers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) bytes: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// A kernel call of a draft.
pub(super) struct DraftCall {
    pub(super) kernel: usize,
    pub(super) args: Vec<At>,
    pub(super) grid: Vec<GridDim>,
}

/// Work of a draft.
pub(super) enum DraftWork {
    Kernels(Vec<DraftCall>),
    Function(Function, Vec<At>),
}

/// A step of a draft.
pub(super) struct DraftStep {
    pub(super) layer: String,
    pub(super) what: &'static str,
    pub(super) macs: u64,
    pub(super) work: DraftWork,
}

/// The parts of a plan that lowering writes.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) storages: Vec<Storage>,
    pub(super) steps: Vec<DraftStep>,
    pub(super) kernels: Vec<Kernel>,
    kernel_ids: HashMap<Kernel, usize>,
    names: HashMap<String, usize>,
    consts: Vec<u8>,
    const_ids: HashMap<Vec<u8>, usize>,
}

impl Draft {
    /// The number of a kernel; an equal one is shared. Different kernels of one name get numbers.
    pub(super) fn kernel(&mut self, kernel: Kernel) -> usize {
        if let Some(&id) = self.kernel_ids.get(&kernel) {
            return id;
        }
        let id = self.kernels.len();
        let mut named = kernel.clone();
        let count = self.names.entry(kernel.name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            named.name = format!("{}_{}", kernel.name, count);
        }
        self.kernel_ids.insert(kernel, id);
        self.kernels.push(named);
        id
    }

    /// A constant table, 64-byte aligned; equal ones are shared.
    pub(super) fn constant(&mut self, bytes: Vec<u8>) -> At {
        let consts = &mut self.consts;
        let offset = *self.const_ids.entry(bytes).or_insert_with_key(|bytes| {
            consts.resize(consts.len().next_multiple_of(64), 0);
            consts.extend_from_slice(bytes);
            consts.len() - bytes.len()
        });
        At { base: Base::Fixed(Space::Consts), offset }
    }

    /// New arena memory in use from node `first` to node `last`.
    pub(super) fn storage(&mut self, bytes: usize, first: usize, last: usize) -> usize {
        self.storages.push(Storage { bytes: bytes.next_multiple_of(64).max(64), first, last });
        self.storages.len() - 1
    }

    /// Appends a step of kernel calls, unless there are none.
    pub(super) fn step(&mut self, layer: &str, what: &'static str, macs: u64, calls: Vec<DraftCall>) {
        if !calls.is_empty() {
            self.steps.push(DraftStep { layer: layer.into(), what, macs, work: DraftWork::Kernels(calls) });
        }
    }

    /// Appends a step of one function.
    pub(super) fn function(&mut self, layer: &str, what: &'static str, function: Function, args: Vec<At>) {
        self.steps.push(DraftStep {
            layer: layer.into(),
            what,
            macs: 0,
            work: DraftWork::Function(function, args),
        });
    }

    /// Gives every storage its place (first fit, largest first, among those in use at the same time); returns the arena's
    /// bytes, the offsets, the steps and the constants.
    pub(super) fn finish(self) -> (usize, Vec<usize>, Vec<Step>, Vec<Kernel>, Bytes) {
        let (bytes, offsets) = place(&self.storages);
        let ptr = |at: At| match at.base {
            Base::Storage(s) => Ptr { space: Space::Arena, offset: offsets[s] + at.offset },
            Base::Fixed(space) => Ptr { space, offset: at.offset },
        };
        let ptrs = |args: Vec<At>| args.into_iter().map(ptr).collect();
        let work = |w| match w {
            DraftWork::Kernels(calls) => Work::Kernels(
                calls
                    .into_iter()
                    .map(|c| Call { kernel: c.kernel, args: ptrs(c.args), grid: c.grid })
                    .collect(),
            ),
            DraftWork::Function(function, args) => {
                Work::Function(FunctionCall { function, args: ptrs(args) })
            }
        };
        let steps = self
            .steps
            .into_iter()
            .map(|s| Step { layer: s.layer, what: s.what, macs: s.macs, work: work(s.work) })
            .collect();
        let mut consts = self.consts;
        // Vectors of the last table may be read whole.
        consts.resize(consts.len().next_multiple_of(64) + 64, 0);
        (bytes, offsets, steps, self.kernels, Bytes::from(&consts[..]))
    }
}

fn place(storages: &[Storage]) -> (usize, Vec<usize>) {
    let mut order: Vec<usize> = (0..storages.len()).collect();
    order.sort_by_key(|&s| (std::cmp::Reverse(storages[s].bytes), s));
    let mut offsets = vec![0; storages.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 64;
    for s in order {
        let this = &storages[s];
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| storages[p].first <= this.last && this.first <= storages[p].last)
            .map(|&p| (offsets[p], offsets[p] + storages[p].bytes))
            .collect();
        busy.sort_unstable();
        let mut at = 0;
        for (from, to) in busy {
            if at + this.bytes <= from {
                break;
            }
            at = at.max(to);
        }
        offsets[s] = at;
        total = total.max(at + this.bytes);
        placed.push(s);
    }
    (total, offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storages_in_use_together_do_not_overlap() {
        let s = |bytes, first, last| Storage { bytes, first, last };
        let storages = [s(128, 0, 2), s(64, 1, 1), s(256, 2, 4), s(64, 3, 5), s(128, 5, 6)];
        let (total, at) = place(&storages);
        for (i, a) in storages.iter().enumerate() {
            assert!(at[i] + a.bytes <= total);
            for (j, b) in storages.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = at[i] + a.bytes <= at[j] || at[j] + b.bytes <= at[i];
                assert!(!together || apart, "{i} and {j} share memory");
            }
        }
        assert!(total < 128 + 64 + 256 + 64 + 128, "nothing was reused");
    }
}
