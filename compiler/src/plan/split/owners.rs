//! Which thread wrote what last: whoever else touches it waits for another core's cache.

use crate::plan::area::Area;
use crate::plan::{Plan, Space};

/// Bytes that caches pass on as one.
const LINE: usize = 64;
/// Most pieces of an arena that are told apart.
const PIECES: usize = 1 << 18;

/// The thread that wrote each piece of a plan's memory last.
pub(super) struct Owners<'a> {
    plan: &'a Plan,
    /// Bytes of a piece, whole lines.
    piece: usize,
    last: Vec<Option<usize>>,
    /// When each piece was counted last.
    counted: Vec<usize>,
    now: usize,
}

impl<'a> Owners<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let piece = plan.arena_bytes.div_ceil(PIECES).next_multiple_of(LINE).max(LINE);
        let pieces = plan.arena_bytes.div_ceil(piece);
        Owners { plan, piece, last: vec![None; pieces], counted: vec![0; pieces], now: 0 }
    }

    pub(super) fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Calls `each` with the pieces in which an area has bytes, perhaps more than once.
    fn pieces(&self, area: &Area, mut each: impl FnMut(usize)) {
        let base = match area.space {
            Space::Arena => 0,
            Space::Carried => self.plan.carried_offset(),
            Space::Weights | Space::Consts | Space::Input(_) | Space::Output(_) => return,
        };
        area.ranges(self.piece as i128, &mut |start, end| {
            let piece = |byte: i128| (base as i128 + byte).max(0) as usize / self.piece;
            (piece(start)..=piece(end - 1)).take_while(|&p| p < self.last.len()).for_each(&mut each);
        });
    }

    /// Lines that come from another core if this thread touches these areas.
    pub(super) fn lines_of_others(&mut self, thread: usize, touched: &[Area]) -> usize {
        self.now += 1;
        let mut counted = std::mem::take(&mut self.counted);
        let mut pieces = 0;
        for area in touched {
            self.pieces(area, |p| {
                let new = std::mem::replace(&mut counted[p], self.now) != self.now;
                pieces += usize::from(new && self.last[p].is_some_and(|owner| owner != thread));
            });
        }
        self.counted = counted;
        pieces * (self.piece / LINE)
    }

    /// This thread writes these areas.
    pub(super) fn write(&mut self, thread: usize, written: &[Area]) {
        let mut touched = Vec::new();
        written.iter().for_each(|area| self.pieces(area, |p| touched.push(p)));
        touched.into_iter().for_each(|p| self.last[p] = Some(thread));
    }
}
