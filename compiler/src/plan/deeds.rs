//! The areas that a piece of work writes and touches, and whether two pieces may change places.

use super::area::{Area, Deed, Reach};
use super::{Space, Work};

/// What some work does to memory that steps write.
#[derive(Default)]
pub(super) struct Deeds<'a> {
    pub(super) written: Vec<Area<'a>>,
    /// Read or written.
    pub(super) touched: Vec<Area<'a>>,
}

impl<'a> Deeds<'a> {
    pub(super) fn of(work: &Work, reach: &'a [Reach]) -> Deeds<'a> {
        let mut deeds = Deeds::default();
        match work {
            Work::Kernels(calls) => {
                for call in calls {
                    let areas = |deed| {
                        let area = move |p| reach[call.kernel].area(call, p, deed);
                        (0..call.args.len()).filter_map(area).filter(shared)
                    };
                    deeds.written.extend(areas(Deed::Written));
                    deeds.touched.extend(areas(Deed::Touched));
                }
            }
            Work::Function(call) => {
                for (i, &ptr) in call.args.iter().enumerate() {
                    let (read, written) = call.function.footprint(i);
                    deeds.written.extend((written > 0).then(|| Area::range(ptr, written)).filter(shared));
                    deeds.touched.extend(Some(Area::range(ptr, read.max(written))).filter(shared));
                }
            }
        }
        deeds
    }

    /// Whether the order in which these and others are done may matter.
    pub(super) fn meet(&self, other: &Deeds) -> bool {
        self.change(other) || other.change(self)
    }

    /// Whether these may change a byte that others touch.
    pub(super) fn change(&self, other: &Deeds) -> bool {
        self.written.iter().any(|a| other.touched.iter().any(|b| !a.apart(b)))
    }

    pub(super) fn add(&mut self, more: Deeds<'a>) {
        self.written.extend(more.written);
        self.touched.extend(more.touched);
    }
}

/// Whether some step may write there.
fn shared(area: &Area) -> bool {
    match area.space {
        Space::Arena | Space::Carried | Space::Output(_) => true,
        Space::Weights | Space::Consts | Space::Input(_) => false,
    }
}
