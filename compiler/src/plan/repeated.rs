//! Leaves out what would write into memory what it holds already: halos of layers that have the place of an earlier layer's, mostly.

use super::area::Reach;
use super::deeds::Deeds;
use super::{Call, Plan, Work};

impl Plan {
    /// Removes calls that read nothing and were made before with the same arguments, if no step has written there since (`area`); and steps
    /// that nothing is left of. Gives, for each step that there was and for the end, how many before it are kept. The plan is one that
    /// [`verify`](super::verify) accepts.
    pub fn drop_repeated(&mut self) -> Vec<usize> {
        let reach: Vec<Reach> = self.kernels.iter().map(Reach::of).collect();
        let mut held: Vec<(Call, Deeds)> = Vec::new();
        let mut before = Vec::with_capacity(self.steps.len() + 1);
        let mut kept = 0;
        for (k, step) in self.steps.iter_mut().enumerate() {
            // Behind the head other images' steps may have been the last.
            if k == self.head {
                held.clear();
            }
            before.push(kept);
            if let Work::Kernels(calls) = &mut step.work {
                calls.retain(|call| held.iter().all(|h| h.0 != *call));
            }
            let deeds = Deeds::of(&step.work, &reach);
            held.retain(|h| !deeds.change(&h.1));
            if let Work::Kernels(calls) = &step.work {
                let fills = calls.iter().filter(|call| reach[call.kernel].only_writes(call));
                let alone = |call: &Call| Deeds::of(&Work::Kernels(vec![call.clone()]), &reach);
                held.extend(fills.map(|call| (call.clone(), alone(call))));
            }
            kept += usize::from(step.work != Work::Kernels(Vec::new()));
        }
        before.push(kept);
        self.steps.retain(|step| step.work != Work::Kernels(Vec::new()));
        self.head = before[self.head];
        for block in &mut self.blocks {
            block.first = before[block.first].min(kept.saturating_sub(1));
            block.last = before[block.last + 1].max(block.first + 1) - 1;
        }
        before
    }
}
